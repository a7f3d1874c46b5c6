"""Every command, Python block and notebook cell of ``docs/`` runs (those of ``extending.md``: ``tests/open``; the Python of
``exporting.md``: ``tests/serving/exports``).

The commands of a guide run in their order, in one folder; PATH, TABLE and PHOTO are a small data set, RUN is a finished
run, where the guide resumes one the one that it trained itself, and SWEEP is what the guide's last sweep printed. Training is
cut short by settings added at the end, though not in its number of epochs where the guide resumes it. What needs a
cluster is composed alone. ``make long`` runs all guides, ``make test`` some of them, and checks the settings of the others.
"""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.composed import problems
from tests.forked import ROOT, last_line, run_forked

DOCS = ROOT / "docs"
GUIDES = [path for path in sorted(DOCS.glob("*.md")) if path.name != "extending.md"]
CUT = ("trainer.threads=1", "trainer.batch_size=8", "decode=threads", "logger=none", "report.plots=false", "seed=1")
CUT += ("report.enabled=false", "trainer.precision='32'", "trainer.limit_batches=2")
ELSEWHERE = ("ray.address=", "hydra/launcher=submitit")

pytestmark = pytest.mark.usefixtures("own_cache")


def blocks(guide: Path, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", guide.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict in the place of a downloaded one."""
    import torchvision

    file = tmp_path_factory.mktemp("weights") / "mobilenet_v2.pt"
    torch.manual_seed(0)
    torch.save(torchvision.models.mobilenet_v2().state_dict(), file)
    return file


def settings(words: list[str], weights: Path, *, resumed: bool = False) -> list[str]:
    """A training command's own settings and those that cut it short; of one that is resumed afterwards the epochs stay."""
    if any(word.startswith(ELSEWHERE) for word in words):
        return [*(word.partition(",")[0] for word in words if word != "-m"), "--cfg", "job"]
    if {"--cfg", "--help"} & {*words}:
        return words
    names = {word.partition("=")[0] for word in words}
    added = [word for word in CUT if word.partition("=")[0] not in names]
    pretrained = "model=mobilenet_v2" in words or "model" not in names
    added += [f"model.weights={weights}"] if pretrained else []
    added += [] if "model.image_size" in names else ["model.image_size=32"]
    added += [] if resumed or {"trainer.max_epochs", "finetune"} & names else ["trainer.max_epochs=1"]
    return [*words, *added, "data.limit=20"]


WITH_COMMANDS = [guide for guide in GUIDES if blocks(guide, "sh")]
ALWAYS = ("exporting", "first_run", "own_images")
"""Guides whose commands are run by ``make test``, too; of the others it checks the settings."""


def of_each(guides: list[Path]) -> pytest.MarkDecorator:
    marked = [
        pytest.param(each, marks=() if each.stem in ALWAYS else pytest.mark.long, id=each.stem) for each in guides
    ]
    return pytest.mark.parametrize("guide", marked)


def commands_of(guide: Path, names: Mapping[str, object]) -> Iterator[list[str]]:
    """Words of each command without the program, names of folders replaced; RUN stays."""
    for command in [line for block in blocks(guide, "sh") for line in block.splitlines()]:
        words = shlex.split(command)[1:]
        for name in names:
            words = [re.sub(rf"\b{name}\b", lambda _: str(names[name]), word) for word in words]  # noqa: B023
        yield words


@pytest.mark.parametrize("guide", WITH_COMMANDS, ids=lambda guide: guide.stem)
def test_the_settings_of_a_guides_commands_are_there(guide: Path, images: Path, weights: Path, tmp_path: Path) -> None:
    """Those of training; the commands themselves run below."""
    (tmp_path / "table.csv").write_text("path,label\n")
    names = {"PATH": images, "TABLE": tmp_path / "table.csv", "SWEEP": tmp_path}
    for words in commands_of(guide, names):
        if words[0] == "train" and not {"--cfg", "--help"} & {*words}:
            assert problems(*(word for word in settings(words[1:], weights) if word not in ("--cfg", "job"))) == []


@of_each(WITH_COMMANDS)
def test_the_commands_of_a_guide_run(
    guide: Path,
    run: Path,
    images: Path,
    weights: Path,
    train: Callable[..., Any],
    raylight: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "table.csv"
    files = sorted(path for path in images.rglob("*.*") if path.stem != "broken")
    rows = (f"{path.relative_to(images)},{path.parent.name}" for path in files)
    table.write_text("path,label\n" + "\n".join(rows))
    names = {"PATH": images, "TABLE": table, "PHOTO": files[0], "SWEEP": tmp_path}
    resumed = any(words[0] == "resume" for words in commands_of(guide, {}))
    own: str | None = None
    for words in commands_of(guide, names):
        runs = (str(shutil.copytree(run, tmp_path / f"RUN-{number}", dirs_exist_ok=True)) for number in (1, 2))
        words = [(own or next(runs)) if word == "RUN" else word for word in words]
        if words[0] == "train":
            done = train(*settings(words[1:], weights, resumed=resumed), cwd=tmp_path)
            assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
            names["SWEEP"] = last_line(done) if "-m" in words else names["SWEEP"]
            own = last_line(done) if resumed and not {"-m", "--cfg", "--help"} & {*words} else own
        else:
            used = raylight(*words)
            assert used.exit_code in ((0, 1) if words[0] in ("audit", "labels") else (0,)), f"{words}\n{used.output}"
            assert used.output.strip()


WITH_PYTHON = [guide for guide in GUIDES if blocks(guide, "python") and guide.stem != "exporting"]


@of_each(WITH_PYTHON)
def test_the_python_of_a_guide_runs(guide: Path, tmp_path: Path) -> None:
    printed = run_python("\n".join(blocks(guide, "python")), tmp_path)
    assert {"first_run": "n = ", "comparing": "| model=cnn5 | 1 |"}[guide.stem] in printed


def run_python(text: str, folder: Path) -> str:
    """What a program prints, run in a folder and a process of its own."""
    import os

    script = folder / "program.py"
    script.write_text(text)
    done = run_forked(script, [], folder, os.environ, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    (notebook,) = DOCS.glob("*.ipynb")
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_stored_as_it_ran(cells: list[dict[str, Any]]) -> None:
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("| model=cnn5 | 1 |" in "".join(output.get("text", ())) for output in outputs)


@pytest.mark.long
def test_the_notebook_runs(cells: list[dict[str, Any]], tmp_path: Path) -> None:
    program = "\n".join("".join(cell["source"]) for cell in cells)
    assert "trainer.max_epochs=8" in program
    printed = run_python(program.replace("trainer.max_epochs=8", "trainer.max_epochs=1"), tmp_path)
    assert "36 test images." in printed
    assert "| model=cnn5 | 1 |" in printed


def test_every_page_is_in_the_navigation() -> None:
    pages = re.findall(r"\w+\.md", (ROOT / "mkdocs.yml").read_text())
    assert {*pages} == {path.name for path in DOCS.glob("*.md")}


def test_what_the_reference_names_is_there() -> None:
    import importlib

    for name in re.findall(r"^::: (\S+)$", (DOCS / "reference.md").read_text(), re.MULTILINE):
        assert importlib.import_module(name).__doc__


def test_links_between_pages_lead_somewhere() -> None:
    """Building them with ``mkdocs build --strict`` (``make docs``) checks more, and needs the extra ``docs``."""
    for page in DOCS.glob("*.md"):
        for place in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (DOCS / place).exists(), f"{page.name}: {place}"
    assert yaml.safe_load((ROOT / "mkdocs.yml").read_text())["docs_dir"] == "docs"
