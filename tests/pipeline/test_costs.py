"""What each stage took."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from raylight.pipeline.costs import Costs
from raylight.runs.run_dir import RunDir
from tests.forked import ROOT


def test_a_lap_books_the_time_since_the_last_one_and_laps_of_a_stage_add_up() -> None:
    begin = time.perf_counter()
    costs = Costs({"training": 100.0}, _begin=begin - 5)
    costs.lap("index")
    costs.lap("training")
    costs.lap("index")
    passed = 5 + time.perf_counter() - begin
    assert list(costs.seconds) == ["training", "index"]
    assert costs.seconds["index"] >= 5
    assert sum(costs.seconds.values()) == pytest.approx(100 + passed, abs=0.1 + passed - 5)


def test_processor_seconds_are_work_and_that_of_children_but_not_sleep() -> None:
    costs = Costs()
    time.sleep(0.2)
    costs.lap("asleep")
    worked = time.process_time()
    while time.process_time() < worked + 0.2:
        pass
    costs.lap("awake")
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.2: pass"], check=True)
    costs.lap("child")
    assert costs.seconds["asleep"] >= 0.2 > costs.cpu_seconds["asleep"] + 0.1
    assert costs.cpu_seconds["awake"] == pytest.approx(0.2, abs=0.05)
    assert 0.19 <= costs.cpu_seconds["child"] < 0.5


def test_the_launch_counts_from_the_start_of_the_process() -> None:
    code = (
        "import time; time.sleep(0.3)\nfrom raylight.pipeline.costs import Costs\n"
        "costs = Costs.of_process(); print(time.time(), costs.seconds['launch'], costs.cpu_seconds['launch'])"
    )
    before = time.time()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    now, launch, cpu = map(float, done.stdout.split())
    assert launch == pytest.approx(now - before, abs=0.15)
    assert 0 < cpu <= launch - 0.25


def test_the_costs_take_the_place_of_those_known_when_the_metrics_were_written(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.write_json("metrics.json", {"test/accuracy": {"value": 0.5}, "cost": {"seconds": {"index": 1.0}, "images": 3}})
    Costs({"index": 1.0, "closing": 2.0}, {"index": 0.5, "closing": 1.5}).write(run)
    assert run.read_json("metrics.json") == {
        "test/accuracy": {"value": 0.5},
        "cost": {
            "seconds": {"index": 1.0, "closing": 2.0},
            "cpu_seconds": {"index": 0.5, "closing": 1.5},
            "images": 3,
        },
    }


def left_by_a_session(
    folder: Path, seconds: float, epochs: list[float], cost: dict[str, dict[str, float]] | None
) -> RunDir:
    run = RunDir(folder)
    run.write_json("status.json", {"seconds": seconds})
    run.write_text("history.csv", "epoch,seconds\n" + "".join(f"{k},{took}\n" for k, took in enumerate(epochs)))
    if cost:
        run.write_json("metrics.json", {"cost": cost})
    return run


def test_a_resumed_run_adds_to_what_its_earlier_sessions_took(tmp_path: Path) -> None:
    stopped = Costs({"index": 1.0, "training": 4.0}, {"index": 0.5, "training": 8.0})
    assert stopped.carry_over(left_by_a_session(tmp_path, 50.0, [10.0, 20.0], None)) == 50
    assert stopped.as_json() == {
        "seconds": {"index": 1.0, "training": 34.0, "earlier": 20.0},
        "cpu_seconds": {"index": 0.5, "training": 8.0},
    }
    killed = Costs({"training": 4.0})  # its last status is from before its training
    assert killed.carry_over(left_by_a_session(tmp_path, 3.0, [10.0, 20.0], None)) == 30
    assert killed.as_json()["seconds"] == {"training": 34.0, "earlier": 0.0}

    finished = {"seconds": {"index": 2.0, "training": 31.0, "earlier": 5.0}, "cpu_seconds": {"training": 60.0}}
    more = Costs({"index": 1.0, "training": 4.0}, {"training": 8.0})
    assert more.carry_over(left_by_a_session(tmp_path, 37.0, [10.0, 20.0], finished)) == 37
    assert more.as_json() == {
        "seconds": {"index": 3.0, "training": 35.0, "earlier": 5.0},
        "cpu_seconds": {"training": 68.0},
    }
    stopped_again = Costs()  # two more epochs after it had finished, then stopped
    assert stopped_again.carry_over(left_by_a_session(tmp_path, 90.0, [10.0, 20.0, 11.0, 9.0], finished)) == 90
    assert stopped_again.as_json()["seconds"] == {"index": 2.0, "training": 50.0, "earlier": 38.0}
