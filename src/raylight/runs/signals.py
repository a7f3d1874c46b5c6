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
    """The signal handlers of ``stopping_politely``."""

    def __init__(self) -> None:
        self._asked = False

    def end_at_once(self) -> None:
        """From now on the first signal ends the process, too: nothing is left to be saved."""
        self._asked = True

    def stop(self, signum: int, frame: Any) -> None:
        """The handler: the first signal raises ``Stopped``, a second one ends the process."""
        if self._asked:
            os._exit(128 + signum)
        self._asked = True
        raise Stopped(signum)


@contextlib.contextmanager
def stopping_politely() -> Iterator[Signals]:
    """Within this context the first signal raises ``Stopped``; a second one ends the process at once.

    Outside the main thread, where Python allows no signal handlers, nothing changes.
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
