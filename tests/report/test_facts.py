"""What a run's folder says of it, against the folder itself, its files and its network."""

import csv
import dataclasses
import shlex
from pathlib import Path

import numpy as np
import pytest

from raylight.evaluation.predictions import UNKNOWN, write_csv
from raylight.report.facts import Measured, RunFacts, chosen_row, parameters_of
from raylight.runs.run_dir import RunDir
from tests.comparison.jobs import job
from tests.finished_run import FinishedRun


def test_parameters_leave_out_what_no_optimizer_touches(tmp_path: Path) -> None:
    assert parameters_of(job(tmp_path, 0)) == 4 * 3 * 3 * 3
    assert parameters_of(RunDir(tmp_path)) is None


def test_parameters_are_those_of_the_network(finished: FinishedRun) -> None:
    assert parameters_of(finished.run) == sum(weight.numel() for weight in finished.network.parameters())


def test_settings_command_and_title(finished: FinishedRun) -> None:
    text = (finished.run / "config.yaml").read_text()
    finished.run.write_text("config.yaml", text.replace("seed: 1\n", "seed: ${trainer.max_epochs}\n"))
    facts = RunFacts(finished.run)
    assert facts.settings["seed"] == facts.settings["trainer"]["max_epochs"]
    assert facts.config.model.channels == facts.settings["model"]["channels"] == [8, 8]
    assert facts.title == f"{facts.config.model.name} on animals"
    assert facts.overrides is not None
    assert facts.overrides[:2] == ["model=cnn2", "model.image_size=32"]
    (finished.run / "overrides.json").unlink()
    assert RunFacts(finished.run).overrides is None
    assert shlex.split(facts.command)[-4:] == [
        "--config-path",
        str(finished.run.path.resolve()),
        "--config-name",
        "config",
    ]


def test_images_of_each_class_and_split_and_how_fast_they_were_trained_on(finished: FinishedRun) -> None:
    facts = RunFacts(finished.run)
    # Eight a class in each split; the broken one isn't counted.
    assert facts.counts == {name: {"train": 8, "val": 8, "test": 8} for name in ("cat", "dog")}
    assert [facts.total(split) for split in ("train", "val", "test")] == [16, 16, 16]
    assert facts.images_per_second == pytest.approx(3 * 16 / 1.5)  # three epochs of half a second
    finished.run.write_text("history.csv", "epoch,train/loss\n0,0.5\n")
    assert RunFacts(finished.run).images_per_second is None
    # Half of the time is told: an epoch without a time counts as an epoch all the same.
    finished.run.write_text("history.csv", "epoch,seconds\n0,0.5\n1,\n")
    assert RunFacts(finished.run).images_per_second == pytest.approx(2 * 16 / 0.5)


def test_images_in_no_split_are_not_counted(finished: FinishedRun) -> None:
    index = RunFacts(finished.run).index
    splits = np.array(index.column("split"), dtype=object)
    first = int(np.flatnonzero((splits == "train") & (index.column("status") == "ok"))[0])
    splits[first] = None
    index.with_column("split", splits).write(finished.run / "index.parquet")
    assert RunFacts(finished.run).total("train") == 15


def test_groups_in_test_and_elsewhere_are_shared(finished: FinishedRun) -> None:
    index = RunFacts(finished.run).index
    groups = np.full(len(index), None, dtype=object)
    splits = np.array(index.column("split"), dtype=object)
    usable = index.column("status") == "ok"

    def some(split: str, n: int) -> int:
        return int(np.flatnonzero((splits == split) & usable)[n])

    for split, n, name in (
        ("test", 0, "met in training"), ("train", 0, "met in training"), ("test", 1, "met in validation"),
        ("val", 1, "met in validation"), ("test", 2, "test alone"), ("test", 3, "test alone"), ("train", 2, "elsewhere"),
        ("val", 2, "elsewhere"),
    ):  # fmt: skip
        groups[some(split, n)] = name
    index.with_column("group", groups).write(finished.run / "index.parquet")
    assert RunFacts(finished.run).shared_groups == {"met in training", "met in validation"}


def test_measured_values_are_those_of_the_file(finished: FinishedRun) -> None:
    facts = RunFacts(finished.run)
    cells = facts.metrics
    for split in ("test", "val"):
        for name, one in facts.measured(split).items():
            cell = cells[f"{split}/{name}"]
            assert (one.name, one.value, one.low, one.high, one.n) == (
                name,
                *(cell[k] for k in ("value", "low", "high", "n")),
            )
            assert one.caveat == cell.get("caveat")
    assert facts.measured()["ece"].label == "calibration error"
    assert list(facts.measured()) == [name.removeprefix("test/") for name in cells if name.startswith("test/")][:11]
    assert facts.measured("nowhere") == {}
    assert Measured("f1", "F1", 0.95, 0.86349, 0.9831, 9).words == "0.950 (0.863 to 0.983)"
    for missing in ("value", "low", "high"):
        assert dataclasses.replace(facts.measured()["f1"], **{missing: None}).words == "not defined"


def test_what_was_chosen_and_what_came_of_it(finished: FinishedRun) -> None:
    facts = RunFacts(finished.run)
    with (finished.run / "history.csv").open() as file:
        rows = [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file)]
    assert facts.history == rows
    assert chosen_row(facts) == rows[2]
    finished.run.write_text("history.csv", "epoch,train/loss\n0,0.5\n")
    assert chosen_row(RunFacts(finished.run)) == {}
    assert (facts.threshold, facts.temperature) == (facts.input["threshold"], facts.input["temperature"])
    assert facts.decision["rule"] == "0.5"
    assert facts.preprocessing.to_dict().items() <= facts.input.items()
    finished.run.write_json("preprocessing.json", facts.input | {"threshold": None})
    finished.run.write_json("metrics.json", dict(facts.metrics) | {"decision": None})
    assert RunFacts(finished.run).threshold is None
    assert RunFacts(finished.run).decision == {}


def test_images_of_unknown_class_and_other_splits_are_no_test_images(finished: FinishedRun) -> None:
    facts = RunFacts(finished.run)
    test = facts.test
    assert (len(test), set(test.splits)) == (16, {"test"})
    odds = test.probabilities[:, 1] > facts.input["threshold"]
    assert facts.right == int((odds == (test.labels == 1)).sum())
    assert facts.predicted.tolist() == odds.astype(int).tolist()
    labels = np.where(np.arange(16) < 3, UNKNOWN, test.labels)
    write_csv(dataclasses.replace(test, labels=labels), finished.run / "predictions.csv")
    assert list(RunFacts(finished.run).test.paths) == list(test.paths[3:])


def test_leakage_audit_and_shortcuts_are_told_where_there_are_any(finished: FinishedRun) -> None:
    run = finished.run
    facts = RunFacts(run)
    assert (facts.shared_with_training, facts.audit, facts.shortcuts_known) == ([], None, False)
    files = [{"path": "a", "partner": "b", "why": "patient", "detail": "p"}]
    run.write_json("metrics.json", dict(facts.metrics) | {"leakage": {"files": files}})
    run.write_json("audit.json", {"findings": []})
    run.write_json("shortcuts.json", {})
    facts = RunFacts(run)
    assert (facts.shared_with_training, facts.audit, facts.shortcuts_known) == (files, {"findings": []}, True)
