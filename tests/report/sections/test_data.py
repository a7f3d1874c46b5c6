"""A run's data on its page: files by split and class, and their sizes."""

from raylight.report.facts import RunFacts
from raylight.report.sections.data import _ticks, data
from tests.finished_run import FinishedRun


def test_files_are_counted_by_class_and_split_with_their_sizes(finished: FinishedRun) -> None:
    """The run of ``finished_run.images``: eight pictures of 30 to 79 rows for each class and split, and a broken file."""
    section = data(RunFacts(finished.run))
    assert (section["n"], section["n_rejected"]) == (49, 1)
    assert section["totals"] == {"train": 16, "val": 16, "test": 16}
    assert [(name, total) for name, _, total in section["balance"]] == [("cat", 24), ("dog", 24)]
    sizes = section["sizes"]
    assert (sizes["width"][0], sizes["width"][2]) == (40, 45)
    assert (sizes["height"][0], sizes["height"][2]) == (30, 79)
    assert sizes["kinds"] == [(".jpg", 24), (".png", 24)] or dict(sizes["kinds"]) == {".jpg": 24, ".png": 24}
    assert not sizes["same"]
    assert all(0 <= dot["x"] <= 560 and 0 <= dot["y"] <= 300 for dot in sizes["dots"])


def test_ticks_are_round_and_reach_the_largest() -> None:
    for most in (1, 7, 45, 79, 600, 1024, 9999):
        ticks = _ticks(most)
        assert ticks[0] == 0
        assert ticks[-2] < most <= ticks[-1]
        assert len(ticks) <= 8
