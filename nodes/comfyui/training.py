"""Runs the training command as a child process of ComfyUI.

In a separate process, neither a crash nor running out of GPU memory takes the server down. The child reports progress
as JSON lines on stdout and stops when its stdin is closed. Both work on every operating system, the latter also if
ComfyUI itself dies.
"""

import logging
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import comfy.model_management
import folder_paths

from ...pusa_core.storage.json_text import parse_json
from .progress import Event, TrainingProgress
from .train_inputs import in_node_words

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
STOP_SECONDS = 2.0  # time that an interrupt waits for the child
SAVE_SECONDS = 300.0  # time for saving a large model after that, in the background
KEPT_LINES = 12  # lines of the child's log for the message about a crash


def training_command(arguments: Sequence[str]) -> list[str]:
    """The command line of ``python -m pusa_core.training`` with ComfyUI's VAE, text encoders and device."""
    device = str(comfy.model_management.get_torch_device())
    comfyui = str(Path(folder_paths.__file__).resolve().parent)
    script = str(Path(__file__).with_name("training_child.py"))
    run = ["--resume", "--progress=json", "--stop-on-stdin-close", f"--train.device={device}"]
    return [sys.executable, script, comfyui, device, *run, *arguments]


class TrainingProcess:
    """A running training command."""

    def __init__(self, command: Sequence[str]) -> None:
        environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        self._last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._events: queue.Queue[Event | None] = queue.Queue()
        readers = ((self._read_events, self._process.stdout), (self._read_log, self._process.stderr))
        self._readers = [threading.Thread(target=read, args=(stream,), daemon=True) for read, stream in readers]
        for reader in self._readers:
            reader.start()

    def _read_events(self, stream: TextIO) -> None:
        for line in stream:
            try:
                self._events.put(parse_json(line))
            except ValueError:  # printed by a library
                log.info("training: %s", line.rstrip())
        self._events.put(None)

    def _read_log(self, stream: TextIO) -> None:
        for line in filter(None, map(str.rstrip, stream)):
            self._last_lines.append(line)
            log.info("training: %s", line)

    def events(self) -> Iterator[Event]:
        """Yield the command's progress events until it ends. Raises ComfyUI's exception on Interrupt."""
        while True:
            comfy.model_management.throw_exception_if_processing_interrupted()
            try:
                event = self._events.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if event is None:
                return
            yield event

    def check_end(self) -> None:
        """Raise if the command failed: ``ValueError`` with its own error message, ``RuntimeError`` for a crash."""
        code = self._process.wait()
        for reader in self._readers:
            reader.join()
        if code == 0:
            return
        reasons = [line for line in self._last_lines if line.startswith("error: ")]
        if reasons:
            raise ValueError(in_node_words(reasons[-1].removeprefix("error: ")))
        lines = "\n".join(self._last_lines) or "(none)"
        raise RuntimeError(
            f"the training process ended with exit code {code}; queue the graph again to go on from its last "
            f"checkpoint. The last lines of its log:\n{lines}"
        )

    def stop(self, progress: TrainingProgress) -> None:
        """Tell the command to save and exit, and say where; beyond ``STOP_SECONDS`` it continues in the background."""
        if self._process.stdin is not None:
            with suppress(OSError):  # already ended
                self._process.stdin.close()
        if self._ended_within(STOP_SECONDS):
            self._show_end(progress)
            return
        log.warning("the training is still saving its checkpoint; ComfyUI goes on meanwhile")
        progress.say("stopped; the checkpoint is still being saved")
        threading.Thread(target=self._kill_after, args=(SAVE_SECONDS, progress), daemon=True).start()

    def _kill_after(self, seconds: float, progress: TrainingProgress) -> None:
        if self._ended_within(seconds):
            self._show_end(progress)
            return
        log.warning("the training did not end; killed. Its last complete checkpoint is intact")
        self._process.kill()

    def _show_end(self, progress: TrainingProgress) -> None:
        for reader in self._readers:
            reader.join(POLL_SECONDS)
        with suppress(queue.Empty):
            while (event := self._events.get_nowait()) is not None:
                progress.show_end(event)

    def wait(self) -> None:
        """Wait for a command that is still saving. Raises ComfyUI's exception on Interrupt."""
        while not self._ended_within(POLL_SECONDS):
            comfy.model_management.throw_exception_if_processing_interrupted()

    def _ended_within(self, seconds: float) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is not None


_latest: TrainingProcess | None = None


def run_training(arguments: Sequence[str], progress: TrainingProgress) -> None:
    """Run the training command with these flags to completion, showing its progress.

    Raises:
        ValueError: the command rejected its options or data; the message says why.
        RuntimeError: the command crashed.
    """
    global _latest
    if _latest is not None:  # two runs on one GPU, or in one folder, would conflict
        _latest.wait()
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()
    _latest = process = TrainingProcess(training_command(arguments))
    try:
        for event in process.events():
            progress.show(event)
        process.check_end()
    finally:
        process.stop(progress)
