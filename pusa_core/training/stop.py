"""Stopping a run from outside: by Ctrl-C, a signal, or the closing of standard input."""

import _thread
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from torch.nn.modules.module import register_module_forward_pre_hook


class Stopped(BaseException):
    """The run was asked to stop. Not an ``Exception``, so that no library takes it for an error of its own."""


class StopSwitch:
    """Turns a signal into :class:`Stopped`, raised at once, but only after :meth:`allow` and never within
    :meth:`deferred`.

    Python handles a signal when the main thread next runs Python code. Where a backward pass runs in a thread of its
    own, the exception is raised when it next enters a module.
    """

    def __init__(self) -> None:
        self.requested = False
        self._deferred = 1
        self._raised = False

    @contextlib.contextmanager
    def listening(self, *, on_stdin_close: bool) -> Iterator[None]:
        """Listen to SIGINT and SIGTERM, and to the closing of standard input if wanted."""
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
        before = [signal.signal(number, self._handle) for number in numbers]
        hook = register_module_forward_pre_hook(lambda *_: self.check())
        if on_stdin_close:
            threading.Thread(target=self._watch_stdin, daemon=True).start()
        try:
            yield
        finally:
            hook.remove()
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def check(self) -> None:
        if self.requested and not self._deferred and not self._raised:
            self._raised = True  # once: what follows is the saving of what there is
            raise Stopped

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """What is done whole or not at all; a stop asked for meanwhile happens at the end."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1
        self.check()

    def allow(self) -> None:
        """Raise from now on; until then a request is only noted. Several processes, which have to stop at the same
        step, look at :attr:`requested` instead."""
        self._deferred -= 1
        self.check()

    def defer_for_good(self) -> None:
        """Only note a request from now on."""
        self._deferred += 1

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self.check()

    def _watch_stdin(self) -> None:
        # not sys.stdin: at its end Python would wait for this thread's hold on it, and abort
        while os.read(0, 1 << 10):
            pass
        _thread.interrupt_main(signal.SIGINT)
