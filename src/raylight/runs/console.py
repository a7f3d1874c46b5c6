"""Output on the console: a plain line per message, and progress bars."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

log = logging.getLogger("raylight")


def log_to(stream: TextIO) -> None:
    """Shows Raylight's messages on a stream from now on; those of other libraries aren't affected.

    Args:
        stream: standard output for a command whose messages are its result, else standard error. Later calls don't change it.
    """
    if not log.handlers:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


@contextlib.contextmanager
def messages_on(stream: TextIO | None) -> Iterator[None]:
    """Shows Raylight's messages on a stream in this context, or nowhere; ``train.log`` of a run gets them in any case."""
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
    """Whether progress is shown as bars (``trainer.progress``): with ``auto``, on a terminal and in a notebook."""
    return mode == "auto" and (sys.stdout.isatty() or in_notebook())


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, such as Jupyter or Colab."""
    if "IPython" not in sys.modules:
        return False
    from rich.console import Console

    return Console().is_jupyter


@contextlib.contextmanager
def progress_bar(label: str, mode: str, closing_line: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Shows the progress of a stage.

    Args:
        label: name of the stage, such as "decoding".
        mode: ``auto``, ``lines`` or ``off`` (``trainer.progress``).
        closing_line: whether to log at the end how long it took.

    Yields:
        A function of the number of images done and the total; as long as it isn't called, nothing is shown.
    """
    begin = time.perf_counter()
    last = (0, 0)
    if shows_bars(mode):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        bar: Progress | None = None

        def on_progress(done: int, total: int) -> None:
            """Draws from the first call to the last only: Lightning's bar, which may follow, clears what is drawn."""
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
