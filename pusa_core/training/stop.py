"""Graceful shutdown: on Ctrl-C, a signal, or the end of standard input."""

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


class StopRequest:
    """Turns a signal into :class:`Stopped`, raised at once, but only after :meth:`allow` and never within
    :meth:`deferred`.

    Python runs signal handlers in the main thread, between bytecodes. While a backward pass runs in a thread of
    autograd's, the exception is raised at its next module call.
    """

    def __init__(self) -> None:
        self.requested = False
        self._deferred = 1
        self._raised = False

    @contextlib.contextmanager
    def listening(self, *, on_stdin_close: bool) -> Iterator[None]:
        """Handle SIGINT, SIGTERM and SIGHUP, and the end of standard input if asked to."""
        names = ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP")
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
            numbers.remove(signal.SIGHUP)  # under nohup the run outlives its terminal
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
            self._raised = True  # once: from here on the run's state is being saved
            raise Stopped

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """A critical section; a stop that is requested inside takes effect at its end."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1
        self.check()

    def allow(self) -> None:
        """Raise from now on; until then a request is only recorded. Distributed processes must stop at the same step
        and poll :attr:`requested` instead."""
        self._deferred -= 1
        self.check()

    def defer_for_good(self) -> None:
        """Only record a request from now on."""
        self._deferred += 1

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self.check()

    def _watch_stdin(self) -> None:
        # not sys.stdin: at exit Python would wait for the lock that this thread holds on it, and abort
        while os.read(0, 1 << 10):
            pass
        _thread.interrupt_main(signal.SIGINT)
