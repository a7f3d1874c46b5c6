"""A package written after ``docs/extending.md``, which is its blocks, beside the wheel in an environment of its own."""

import ast
import csv
import itertools
import json
import re
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.forked import ROOT
from tests.installed import Installed
from tests.installed import installed as installed

GUIDE = (ROOT / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
QUICK = ("decode=threads", "report.gradcam=false", "report.plots=false", "trainer.precision='32'")
TRUST = {"RAYLIGHT_ALLOWED_TARGETS": "my_package"}


def files() -> Iterator[tuple[str, str]]:
    """Path and content of each block that is a file."""
    for kind, text in BLOCKS:
        first, _, rest = text.partition("\n")
        if kind in ("python", "yaml"):
            yield first.removeprefix("# "), rest.lstrip("\n")


def commands() -> list[list[str]]:
    lines = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
    return [line.split()[1:] for line in lines if line.startswith("raylight ")]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a project of mine")
    for path, text in files():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@pytest.fixture(scope="module")
def runs(installed: Installed, project: Path) -> list[Path]:
    """The two jobs of the guide's sweep."""
    (sweep,) = (command for command in commands() if "-m" in command)
    swept = installed(*sweep, *QUICK, cwd=project)
    assert swept.returncode == 0, swept.stdout + swept.stderr
    folder = project / swept.stdout.splitlines()[-1]
    found = sorted(path.parent for path in folder.glob("*/metrics.json"))
    assert len(found) == 2
    table = next(csv.DictReader((folder / "comparison.csv").open()))
    assert 0 < float(table["test/confidence"]) < 1
    return found


def test_a_sweep_learns_with_all_of_it(runs: list[Path]) -> None:
    for run, width in zip(runs, (4, 8), strict=True):
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert config["model"]["name"] == "Tiny"
        assert config["model"]["arguments"] == {"width": width}
        assert config["loss"]["name"] == "Margin"
        metrics = json.loads((run / "metrics.json").read_text())
        assert metrics["test/confidence"]["n"] == metrics["test/f2"]["n"] > 0
        assert (
            metrics["test/confidence"]["low"] < metrics["test/confidence"]["value"] < metrics["test/confidence"]["high"]
        )
        history = list(csv.DictReader((run / "history.csv").open()))
        assert [float(row["mine/epochs"]) for row in history] == [1, 2, 3]
        assert all(0 < float(row["val/confidence"]) < 1 for row in history)
        lines = [json.loads(line) for line in (run / "lines.jsonl").read_text().splitlines()]
        assert [line["val/loss"] for line in lines if "val/loss" in line] == pytest.approx(
            [float(row["val/loss"]) for row in history], abs=1e-6
        )
        assert lines[-1]["test/confidence"] == pytest.approx(metrics["test/confidence"]["value"])
        assert "confidence" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=() if command[0] == "evaluate" else pytest.mark.long, id=command[0])
        for command in commands()
        if "RUN" in command
    ],
)
def test_a_run_is_used_where_its_package_is_trusted(
    command: list[str], installed: Installed, runs: list[Path], tmp_path: Path
) -> None:
    project = runs[0].parents[3]
    folders = iter(map(str, runs))
    arguments = [next(folders) if part == "RUN" else part for part in command]
    arguments += ["--out", str(tmp_path / "comparison")] if command[0] == "compare" else []
    used = installed(*arguments, cwd=project, **TRUST)
    assert used.returncode == 0, used.stdout + used.stderr
    if command[0] == "compare":
        rows = {row["metric"]: row for row in csv.DictReader((tmp_path / "comparison" / "comparison.csv").open())}
        values = [json.loads((run / "metrics.json").read_text())["test/confidence"]["value"] for run in runs]
        assert abs(float(rows["confidence"]["difference"])) == pytest.approx(abs(values[1] - values[0]), abs=1e-6)
        assert 0 < float(rows["confidence"]["p_value"]) <= 1
    if command[0] == "evaluate":
        assert "The same numbers as in the run's metrics.json." in used.stdout + used.stderr
        assert "confidence" in used.stdout
        refused = installed(*arguments, cwd=project)  # nobody says that the run folder's code may be run
        assert refused.returncode == 2
        assert "'my_package.nets.Tiny' is not from a trusted package" in refused.stderr
        assert "RAYLIGHT_ALLOWED_TARGETS=my_package" in refused.stderr


def test_a_run_is_served_where_its_package_is_trusted(installed: Installed, runs: list[Path]) -> None:
    project = runs[0].parents[3]
    with installed.start("serve", str(runs[0]), "--port", "0", cwd=project, **TRUST) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        told = next(line for line in itertools.chain(process.stdout, process.stderr) if "http://" in line)
        try:
            with urllib.request.urlopen(re.findall(r"http://[\w.:]+", told)[0], timeout=60) as page:
                assert b"Tiny" in page.read()
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0


def test_pictures_are_predicted(installed: Installed, runs: list[Path], tmp_path: Path) -> None:
    project, code = runs[0].parents[3], dict(files())["my_package/sources.py"]
    scope: dict[str, type] = {}
    exec(code, scope)
    for number in range(60, 70):
        (tmp_path / f"{number}.png").write_bytes(scope["Stripes"](0).read(str(number)))
    said = installed("predict", str(runs[1]), str(tmp_path), cwd=project, **TRUST)
    assert said.returncode == 0, said.stderr
    assert len(said.stdout.strip().splitlines()) == 11


@pytest.mark.long
def test_a_killed_run_goes_on_where_it_was(installed: Installed, project: Path) -> None:
    folder = project / "killed"
    settings = ("experiment=mine", "trainer.max_epochs=15", f"hydra.run.dir='{folder}'", *QUICK)
    with installed.start("train", *settings, cwd=project) as process:
        last, history = folder / "checkpoints" / "last.ckpt", folder / "history.csv"
        while process.poll() is None and not last.is_file():
            time.sleep(0.05)
        process.kill()
    before = len(history.read_text().splitlines()) - 1
    assert 0 < before < 15
    resumed = installed("resume", str(folder), cwd=project, **TRUST)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    counted = [float(row["mine/epochs"]) for row in csv.DictReader(history.open())]
    assert counted == list(range(1, 16))


def test_mistakes_are_answered_with_the_nearest_name(installed: Installed, project: Path) -> None:
    mistakes = {
        "model.arguments.widht=4": "model.arguments.widht: my_package.nets.Tiny takes no such argument; did you mean 'width'?",
        "loss._target_=my_package.losses.Magrin": "my_package.losses has no 'Magrin'; did you mean 'Margin'?",
        "metrics.f2.beta=-1": "metrics.f2: torchmetrics.classification.BinaryFBetaScore: Expected argument `beta`",
    }
    refused = installed("train", "experiment=mine", *list(mistakes)[:2], cwd=project)
    assert refused.returncode == 2
    for said in list(mistakes.values())[:2]:
        assert said in refused.stderr


def test_the_table_counts_the_lines_of_each_class() -> None:
    """Without blank ones, imports and docstrings."""
    kinds = {"Tiny": "network", "Stripes": "images", "Margin": "loss", "Confidence": "metric"}
    kinds |= {"CountEpochs": "callback", "Lines": "logger"}
    counted = {}
    for path, text in files():
        for node in ast.parse(text).body if path.endswith(".py") else ():
            if isinstance(node, ast.ClassDef):
                node.body = node.body[ast.get_docstring(node) is not None :]
                counted[kinds[node.name]] = sum(bool(line) for line in ast.unparse(node).splitlines())
    assert dict(re.findall(r"^\| (\w+) \| (\d+) \|", GUIDE, re.MULTILINE)) == {k: str(n) for k, n in counted.items()}
