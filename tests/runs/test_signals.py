"""The first signal is an exception, a second one the end."""

import contextlib
import os
import signal
import threading

import pytest

from raylight.runs.signals import Stopped, graceful_stop


@pytest.mark.parametrize(
    ("signum", "code", "reason"),
    [(signal.SIGINT, 130, "interrupted (Ctrl-C)"), (signal.SIGTERM, 143, "terminated (SIGTERM)")],
)
def test_a_signal_raises_with_its_exit_code_and_the_old_handlers_come_back(
    signum: signal.Signals, code: int, reason: str
) -> None:
    before = signal.getsignal(signum)
    with pytest.raises(Stopped) as stopped, graceful_stop():
        os.kill(os.getpid(), signum)
    assert (stopped.value.exit_code, stopped.value.reason) == (code, reason)
    assert signal.getsignal(signum) is before


@pytest.mark.parametrize("saved", [False, True])
def test_a_second_signal_or_one_when_all_is_saved_ends_the_process(saved: bool) -> None:
    if (child := os.fork()) == 0:
        with graceful_stop() as signals:
            if saved:
                signals.end_at_once()
            else:
                with contextlib.suppress(Stopped):  # a program that doesn't end
                    os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130


def test_outside_the_main_thread_nothing_changes() -> None:
    before, within = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with graceful_stop():
            within.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert within == [before]
