"""The bench against peers counts what it says it counts."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from experiments.peers.contenders import our_settings
from experiments.peers.results import Result, forgotten, last_line, read, tables, write
from experiments.peers.task import Task, correct
from scipy.stats import binomtest

from raylight.config.check import load_config
from raylight.config.launch import composed

ROOT = Path(__file__).resolve().parents[2]
SPLIT = "path,label,split\ntest/a/1.png,a,test\ntest/b/2.png,b,test\ntrain/a/3.png,a,train\n"
OURS = Result("films", "equal", "raylight", "1", "t1", 10.0, 20.0, 36, 40)


def task(folder: Path, mode: str = "equal") -> Task:
    return Task(str(folder), str(folder), f"{folder}/found.csv", "resnet18", "w.pt", mode, 5, 16, 1e-4, 224, 3, 60.0)


def test_a_task_says_the_same_in_a_peers_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "split.csv").write_text(SPLIT)
    monkeypatch.setattr(sys, "argv", ["adapter", str(task(tmp_path).write(tmp_path / "task.json"))])
    read_back = Task.from_command_line()
    assert read_back == task(tmp_path)
    assert read_back.labelled("test") == [(f"{tmp_path}/test/a/1.png", "a"), (f"{tmp_path}/test/b/2.png", "b")]


def test_only_the_test_images_count_and_each_once(tmp_path: Path):
    (tmp_path / "split.csv").write_text(SPLIT)
    asked, found = task(tmp_path), tmp_path / "found.csv"
    asked.write_predictions([("/x/test/a/1.png", "a"), ("/x/test/b/2.png", "a"), ("/x/train/a/3.png", "b")])
    assert correct(found, tmp_path) == (1, 2)
    for wrong in (["test/a/1.png"], ["test/a/1.png", "test/a/1.png"]):
        asked.write_predictions([(path, "a") for path in wrong])
        with pytest.raises(ValueError, match="of 2 test images"):
            correct(found, tmp_path)


def test_ratios_are_of_one_turn_and_the_interval_is_of_the_test_images():
    slow_turn = replace(OURS, turn="t2", wall=30.0, cpu=30.0)
    peer = replace(OURS, contender="peer", wall=25.0, cpu=30.0, correct=38)
    table = tables([OURS, slow_turn, peer, replace(peer, turn="t2", wall=45.0, correct=38)], "raylight")
    bounds = binomtest(38, 40).proportion_ci(method="wilson")
    told = f"0.950 ({bounds.low:.3f} to {bounds.high:.3f}, n = 40)"
    assert f"| peer 1 | 2 | 35 | 30 | 2.00 | 1.25 | {told} |" in table  # the medians of 2.5 and 1.5, of 1.5 and 1.0
    assert "peer, 2.00 × our wall seconds, 1.25 × our CPU seconds (wanted 2 in wall seconds: reached)" in table
    assert "missed" in tables([OURS, replace(peer, wall=19.9)], "raylight")
    quick = replace(peer, contender="quick", wall=1.0, correct=24)  # 0.45 to 0.74 beside 0.77 to 0.96
    told = tables([OURS, peer, quick], "raylight")
    assert "Fastest at equal accuracy: peer, 2.50" in told
    assert "don't overlap: quick." in told


def test_one_who_failed_has_a_reason_and_no_ratio():
    table = tables([OURS, replace(OURS, contender="peer", n=0, correct=0, note="failed")], "raylight")
    assert "| peer 1 | 0 | 10 | 20 | | | failed |" in table
    assert "wanted" not in table


def test_the_reason_fits_into_a_cell(tmp_path: Path):
    (tmp_path / "log").write_text("start\nStep     5/100000 | loss: 1.0\x1b[0m\n\n")
    assert last_line(tmp_path / "log") == "Step 5/100000 , loss: 1.0"
    (tmp_path / "log").write_text("")
    assert last_line(tmp_path / "log") == "nothing printed"


def test_pieces_are_kept(tmp_path: Path):
    piece = [replace(OURS, turn="t2", wall=9.5), OURS]
    write(tmp_path / "results.csv", piece)
    assert read(tmp_path / "results.csv") == sorted(piece, key=lambda each: each.turn)
    assert read(tmp_path / "none.csv") == []


def test_what_is_measured_anew_takes_our_turn_beside_it_along():
    peer, other_turn = replace(OURS, contender="peer"), replace(OURS, turn="t2")
    other = replace(other_turn, contender="other")
    results = [OURS, peer, other_turn, other, replace(other_turn, contender="peer")]
    assert sorted(forgotten(results, {"peer"}, {("films", "equal")}, "raylight"), key=str) == [other, other_turn]
    assert len(forgotten(results, {"peer"}, {("films", "default")}, "raylight")) == 5


def test_our_settings_are_those_of_the_task(tmp_path: Path):
    (tmp_path / "w.pt").touch()
    asked = replace(task(tmp_path), weights=str(tmp_path / "w.pt"))
    config = load_config(composed(our_settings("films", asked))[0])
    assert (config.trainer.max_epochs, config.trainer.batch_size, config.seed) == (5, 16, 3)
    assert [phase.train_from for phase in config.finetune.phases] == ["all"]
    assert (config.optimizer["lr"], config.augment.name, config.data.name) == (1e-4, "none", "xray")


def test_the_cost_has_orphans_and_a_limit(tmp_path: Path):
    """In a process of its own, since all its children are waited for; the orphan works for 0.4 s of processor time."""
    orphan = "import time\nwhile time.process_time() < 0.4: pass"
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {orphan!r}], start_new_session=True)"
    script = f"""if True:
        import json, os, sys
        from pathlib import Path
        from experiments.peers.cost import cost_of
        log = Path({str(tmp_path)!r}) / "log"
        orphaned = cost_of([sys.executable, "-c", {parent!r}], os.environ, 30, log)
        late = cost_of(["sleep", "30"], os.environ, 0.2, log)
        print(json.dumps([orphaned.cpu, orphaned.code, late.code, late.wall]))
    """
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    cpu, code, late_code, late_wall = json.loads(done.stdout)
    assert cpu >= 0.4
    assert (code, late_code) == (0, None)
    assert 0.2 <= late_wall < 5
