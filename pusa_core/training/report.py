"""Progress reports: a progress bar for people, JSON lines for programs."""

import contextlib
import json
import logging
import os
import sys
from typing import Any, Protocol

from tqdm import tqdm

log = logging.getLogger(__name__)


class Report(Protocol):
    """``report("step", step=3, loss=0.1)``; the events are listed in docs/training.md."""

    def __call__(self, event: str, **values: Any) -> None: ...

    def close(self) -> None:
        """End of reporting."""


class JsonReport:
    """JSON lines on standard output; everything else that is printed goes to standard error."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
        os.dup2(2, 1)
        sys.stdout = sys.stderr

    def __call__(self, event: str, **values: Any) -> None:
        with contextlib.suppress(OSError):  # the reader is gone; the run goes on
            self._out.write(json.dumps({"event": event, **values}, ensure_ascii=False) + "\n")
            self._out.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._out.close()


class BarReport:
    """Progress bars and log lines on standard error."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._label = ""

    def __call__(self, event: str, **values: Any) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone; the run goes on, or is being saved
            self._show(event, values)

    def _show(self, event: str, values: dict[str, Any]) -> None:
        if event == "scan":
            self._advance("reading clips", values["done"], values["total"], "")
        elif event == "cache":
            self._advance("encoding", values["done"], values["total"], "")
        elif event == "step":
            text = f"loss {values['loss']:.4f}, lr {values['lr']:.2e}"
            self._advance("training", values["step"], values["steps"], text)
        elif event != "warning":  # which the log has as well
            with self._paused():
                log.info("%s", ", ".join([event, *(f"{name} {_short(value)}" for name, value in values.items())]))

    def close(self) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()

    def _advance(self, label: str, done: int, total: int, text: str) -> None:
        if self._bar is None or self._label != label:
            if self._bar is not None:
                self._bar.close()
            self._bar, self._label = tqdm(total=total, desc=label, initial=max(done - 1, 0)), label
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(done - self._bar.n)

    def _paused(self) -> contextlib.AbstractContextManager:
        return tqdm.external_write_mode(file=sys.stderr)


class Silent:
    """For ranks other than 0."""

    def __call__(self, event: str, **values: Any) -> None:
        pass

    def close(self) -> None:
        pass


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}: {_short(item)}" for key, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
