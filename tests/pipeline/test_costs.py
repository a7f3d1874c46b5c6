"""What each stage took."""

import time

import pytest

from raylight.pipeline.costs import Costs


def test_a_lap_books_the_time_since_the_last_one_and_laps_of_a_stage_add_up() -> None:
    begin = time.perf_counter()
    costs = Costs({"training": 100.0}, begin - 5)
    costs.lap("index")
    costs.lap("training")
    costs.lap("index")
    passed = 5 + time.perf_counter() - begin
    assert list(costs.seconds) == ["training", "index"]
    assert costs.seconds["index"] >= 5
    assert sum(costs.seconds.values()) == pytest.approx(100 + passed, abs=0.1 + passed - 5)
