"""What Raylight prints: a plain line per message, and the progress of a stage."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

log = logging.getLogger("raylight")


def log_to(stream: TextIO) -> None:
    """Show our messages on a stream from now on; other libraries' messages aren't affected.

    Args:
        stream: standard output for a command whose messages are its result, else standard error. The first one stays.
    """
    if not log.handlers:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


@contextlib.contextmanager
def messages_on(stream: TextIO | None) -> Iterator[None]:
    """Show our messages on a stream in this context, or nowhere; a run's ``train.log`` gets them all the same."""
    handler = logging.NullHandler() if stream is None else logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.level, log.propagate = before


def shows_bars(mode: str) -> bool:
    """Whether progress is drawn as bars (``trainer.progress``): with ``auto`` on a terminal and in a notebook."""
    return mode == "auto" and (sys.stdout.isatty() or in_notebook())


def in_notebook() -> bool:
    """Whether this is a notebook's kernel, such as Jupyter's or Colab's."""
    if "IPython" not in sys.modules:
        return False
    from rich.console import Console

    return Console().is_jupyter


@contextlib.contextmanager
def progress_bar(label: str, mode: str, closing_line: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Yield ``on_progress(done, total)``; a stage that never calls it shows nothing.

    Args:
        label: what is being done, like "decoding".
        mode: ``auto``, ``lines`` or ``off`` (``trainer.progress``).
        closing_line: whether to say at the end how long it took.
    """
    begin = time.perf_counter()
    last = (0, 0)
    if shows_bars(mode):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        bar: Progress | None = None

        def on_progress(done: int, total: int) -> None:
            """Draw from the first call to the last: Lightning's bar, which may come between, clears all that is drawn."""
            nonlocal last, bar
            last = (done, total)
            if bar is None:
                columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
                bar = Progress(*columns, transient=True)
                bar.add_task(label, total=total)
                bar.start()
            bar.update(bar.task_ids[0], completed=done, total=total)
            if done >= total:
                bar.stop()
                bar = None

        try:
            yield on_progress
        finally:
            if bar is not None:
                bar.stop()
    else:

        def on_progress(done: int, total: int) -> None:
            nonlocal last
            last = (done, total)

        yield on_progress
    done, _ = last
    if done and closing_line and mode != "off":
        seconds = time.perf_counter() - begin
        log.info("%s: %d images in %.1f s (%.0f images/s)", label, done, seconds, done / max(seconds, 1e-9))
