"""Ctrl-C and SIGTERM as one exception, so that a run can save its state and record how it ended."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any


class Stopped(BaseException):
    """The process was asked to stop.

    Attributes:
        exit_code: 130 after Ctrl-C, 143 after SIGTERM.
        reason: for ``status.json``.
    """

    def __init__(self, signum: int) -> None:
        self.exit_code = 128 + signum
        self.reason = "interrupted (Ctrl-C)" if signum == signal.SIGINT else "terminated (SIGTERM)"
        super().__init__(self.reason)


class Signals:
    """The signal handlers of ``graceful_stop``."""

    def __init__(self) -> None:
        self._received = False

    def end_at_once(self) -> None:
        """From now on, the first signal ends the process, too, since there is nothing left to save."""
        self._received = True

    def stop(self, signum: int, frame: Any) -> None:
        """Handles a signal: the first one raises ``Stopped``, a second one ends the process.

        Args:
            signum: number of the signal.
            frame: of the interrupted code; unused.

        Raises:
            Stopped: at the first signal.
        """
        if self._received:
            os._exit(128 + signum)
        self._received = True
        raise Stopped(signum)


@contextlib.contextmanager
def graceful_stop() -> Iterator[Signals]:
    """In this context, the first signal raises ``Stopped``; a second one ends the process at once.

    Outside the main thread, where Python allows no signal handlers, nothing changes.

    Yields:
        The handlers.
    """
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {signum: signal.signal(signum, signals.stop) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
