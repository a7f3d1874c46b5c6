"""What is said on the terminal."""

import io
import logging
import re
from collections.abc import Iterator

import pytest

from raylight.runs import console
from raylight.runs.console import log_to, messages_on, progress_bar, shows_bars


@pytest.fixture
def ours() -> Iterator[logging.Logger]:
    """Our logger without a handler, put back afterwards."""
    log = logging.getLogger("raylight")
    before = log.handlers[:], log.level, log.propagate
    log.handlers, log.propagate = [], True  # pytest adds handlers of its own to loggers that don't propagate
    yield log
    log.handlers, log.level, log.propagate = before


def test_messages_go_to_the_first_stream_alone_without_decoration(ours: logging.Logger) -> None:
    first, second = io.StringIO(), io.StringIO()
    log_to(first)
    log_to(second)
    ours.info("one %s", "line")
    logging.getLogger("somebody.else").warning("chatter")
    assert (first.getvalue(), second.getvalue()) == ("one line\n", "")


@pytest.mark.parametrize(
    ("mode", "closing", "said"),
    [("lines", True, True), ("auto", True, True), ("off", True, False), ("lines", False, False)],
)
def test_a_stage_ends_with_how_many_images_it_took(ours: logging.Logger, mode: str, closing: bool, said: bool) -> None:
    stream = io.StringIO()
    log_to(stream)
    with progress_bar("decoding", mode, closing_line=closing) as on_progress:
        on_progress(3, 12)
        on_progress(12, 12)
    assert bool(re.fullmatch(r"decoding: 12 images in [\d.]+ s \(\d+ images/s\)\n", stream.getvalue())) is said
    with progress_bar("decoding", mode):
        pass
    assert stream.getvalue().count("\n") == said  # a stage without work says nothing


@pytest.mark.parametrize(
    ("progress", "terminal", "bars"),
    [("auto", True, True), ("auto", False, False), ("lines", True, False), ("off", True, False)],
)
def test_bars_are_for_terminals_and_notebooks(
    progress: str, terminal: bool, bars: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    assert shows_bars(progress) == bars
    monkeypatch.setattr(console, "in_notebook", lambda: True)
    assert shows_bars(progress) == (progress == "auto")


def test_messages_are_shown_within_a_context_and_the_logger_is_left_as_it_was(ours: logging.Logger) -> None:
    before = ours.level, ours.propagate, list(ours.handlers)
    stream = io.StringIO()
    with messages_on(stream):
        ours.info("within")
    with messages_on(None):
        ours.warning("nowhere")
    assert stream.getvalue() == "within\n"
    assert (ours.level, ours.propagate, list(ours.handlers)) == before


def test_a_bar_ends_with_its_work_though_its_stage_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning clears all that is drawn when its own bar begins, and one of ours that was still there broke the run."""
    from rich import get_console

    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    with progress_bar("frozen layers", "auto", closing_line=False) as on_progress:
        for total in (2, 3):
            on_progress(1, total)
            assert len(get_console()._live_stack) == 1
            on_progress(total, total)
            assert get_console()._live_stack == []
        on_progress(1, 2)
    assert get_console()._live_stack == []
