"""Ctrl-C and SIGTERM as one exception, so that a run saves and says how it ended."""

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


@contextlib.contextmanager
def stopping_politely() -> Iterator[None]:
    """Within this context the first signal raises ``Stopped``; a second one ends the process at once.

    Outside the main thread, where Python allows no signal handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def stop(signum: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + signum)
        asked = True
        raise Stopped(signum)

    before = {signum: signal.signal(signum, stop) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
