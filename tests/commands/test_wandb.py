"""What a run tells W&B, read back by W&B's own reader; and the workspace that shows it."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file

from tests.forked import ROOT, last_line

SHORT = ("trainer.max_epochs=2", "trainer.threads=1", "data.limit=60", "model.image_size=32", "model.dense=[8]")
SHORT = (*SHORT, "decode=threads", "seed=3")


@pytest.fixture(scope="module")
def run(train: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, grouped and tagged as a user may."""
    folder = tmp_path_factory.mktemp("wandb")
    done = train(*SHORT, "report.enabled=false", "logger.group=study", "logger.tags=[mine]", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / last_line(done)


@pytest.fixture(scope="module")
def records(run: Path) -> list[dict[str, Any]]:
    """Every record of the offline file."""
    (file,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    inspect = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(file)]
    lines = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def of_kind(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in records if record["type"] == kind]


def logged(records: list[dict[str, Any]], of: str) -> dict[str, Any]:
    """The last value of each name, of ``history`` or ``summary``."""
    field = "item" if of == "history" else "update"
    return {name: value for record in of_kind(records, of) for name, value in record.get(field, {}).items()}


def media(run: Path, path: str) -> Path:
    (file,) = (run / "wandb").glob(f"offline-run-*/files/{path}")
    return file


def test_a_job_is_one_run_with_group_and_tags(records: list[dict[str, Any]], run: Path) -> None:
    (begun,) = of_kind(records, "run")
    assert (begun["display_name"], begun["run_group"], begun["project"]) == (run.name, "study", "raylight")
    assert begun["tags"] == ["mine", "demo", "cnn2", "recommended_scratch"]
    (ended,) = of_kind(records, "exit")
    assert ended.get("exit_code", 0) == 0


def test_the_summary_holds_every_metric_with_its_interval_and_the_cost(
    records: list[dict[str, Any]], run: Path
) -> None:
    summary, metrics = logged(records, "summary"), json.loads((run / "metrics.json").read_text())
    for name in ("accuracy", "auroc", "ece"):
        found = [summary[f"test/{name}{end}"] for end in ("", "_low", "_high")]
        assert found == pytest.approx([metrics[f"test/{name}"][field] for field in ("value", "low", "high")])
    assert summary["best/val/loss"] == pytest.approx(metrics["provenance"]["selected_value"])
    weights = load_file(run / "model.safetensors")
    assert summary["cost/parameters"] == sum(
        tensor.numel() for name, tensor in weights.items() if "running" not in name and "tracked" not in name
    )
    assert summary["cost/seconds_training"] == metrics["cost"]["seconds"]["training"]
    assert summary["cost/images_per_second"] > 0


def test_curves_go_by_epoch(records: list[dict[str, Any]], run: Path) -> None:
    rows = [row["item"] for row in of_kind(records, "history")]
    curve = {row["epoch"]: row["val/loss"] for row in rows if "val/loss" in row}
    with (run / "history.csv").open() as file:
        assert curve == {int(row["epoch"]): pytest.approx(float(row["val/loss"])) for row in csv.DictReader(file)}


def test_sample_predictions_come_with_pictures_and_heat(records: list[dict[str, Any]], run: Path) -> None:
    """Pictures of a table travel in the artifact that W&B makes of it."""
    (artifact,) = (one for one in of_kind(records, "artifact") if one["name"].endswith("-predictions"))
    files = {part["path"]: Path(part["local_path"]) for part in artifact["manifest"]["contents"]}
    table = json.loads(files["predictions.table.json"].read_text())
    assert table["columns"][:4] == ["kind", "picture", "grad_cam", "label"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    with (run / "predictions.csv").open() as file:
        predicted = {row["path"]: row["predicted"] for row in csv.DictReader(file) if row["split"] == "test"}
    assert {row["path"]: row["predicted"] for row in rows}.items() <= predicted.items()
    assert all(row["right"] == (row["kind"] == "correct") for row in rows if row["kind"] != "least certain")
    for row in rows:
        picture, heat = (Image.open(files[row[name]["path"]]) for name in ("picture", "grad_cam"))
        assert picture.size == heat.size == (256, 256)
        assert picture.tobytes() != heat.tobytes()


def test_figures_and_charts_are_there(records: list[dict[str, Any]], run: Path) -> None:
    history = logged(records, "history")
    for name in ("confusion_matrix", "roc", "precision_recall", "reliability", "loss"):
        assert Image.open(media(run, history[f"plots/{name}.path"])).width > 500
    chart = json.loads(media(run, history["test/confusion_matrix_table.path"]).read_text())
    assert sum(row[2] for row in chart["data"]) == json.loads((run / "metrics.json").read_text())["test/accuracy"]["n"]
    assert {"test/roc_table.path", "test/precision_recall_table.path"} <= history.keys()


def test_checkpoint_and_split_are_artifacts_with_aliases(records: list[dict[str, Any]], run: Path) -> None:
    found = {artifact["type"]: artifact for artifact in of_kind(records, "artifact") if artifact["type"] != "run_table"}
    run_id = (run / "wandb" / "raylight-run-id").read_text()
    epoch = json.loads((run / "metrics.json").read_text())["provenance"]["selected_epoch"]
    model, split = found["model"], found["split"]
    assert (model["name"], set(model["aliases"])) == (f"model-{run_id}", {"best", f"epoch-{epoch}", "latest"})
    assert (split["name"], set(split["aliases"])) == (
        "split-demo",
        {"seed-1", "latest"},
    )  # of the split, not of the training
    assert [part["path"] for part in split["manifest"]["contents"]] == ["index.parquet"]
    assert json.loads(model["metadata"])["classes"] == ["cat", "dog"]


def test_the_workspace_names_only_what_runs_log(records: list[dict[str, Any]], tmp_path: Path) -> None:
    pytest.importorskip(
        "wandb_workspaces",
        reason="the dashboard is built by wandb-workspaces: install raylight with its extra dashboards",
    )
    script = ROOT / "experiments" / "dashboards" / "workspace.py"
    command = [sys.executable, str(script), "--project", "p", "--out", str(tmp_path / "workspace.json")]
    subprocess.run(command, check=True, capture_output=True)
    text = (tmp_path / "workspace.json").read_text()
    section = json.loads(text)["section"]
    assert [part["name"] for part in section["panelBankConfig"]["sections"]] == [
        "Results on the test images", "What accuracy costs", "Training", "Pictures", "Search"
    ]  # fmt: skip
    names = set(re.findall(r'"(?:[a-zA-Z]+[.:])?((?:train|val|test|best|cost|plots)/[\w/]+)"', text))
    assert {"test/accuracy", "val/loss", "cost/parameters", "best/val/loss", "plots/roc"} <= names
    known = {*logged(records, "history"), *logged(records, "summary")}
    known |= {name.partition(".")[0] for name in known}
    assert names <= known
    assert set(re.findall(r'"val": "(\w+)"', text)) == {"predictions", "comparison"}  # the second is a sweep's own
    settings = set(re.findall(r'"config:(\w+)\.value(?:\.(\w+))?"', text))
    (begun,) = of_kind(records, "run")
    config = begun["config"]["update"]
    assert ("optimizer", "lr") in settings
    assert all(part in config[name] for name, part in settings if part)
    assert {name for name, part in settings if not part} <= config.keys()
