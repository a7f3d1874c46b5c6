"""The wheel, installed into an environment of its own and used from an empty folder elsewhere."""

import re
import shlex
from pathlib import Path

import pytest

from raylight.project import FILES
from tests.installed import Installed
from tests.installed import installed as installed
from tests.trained_run import draw

QUICK = [
    "model=cnn2",
    "model.image_size=32",
    "trainer=debug",
    "trainer.batch_size=4",
    "decode=threads",
    "logger=csv",
    "report.gradcam=false",
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos of mine")
    for label in ("left", "right"):
        draw(folder, label, 12, 1)
    return folder


@pytest.mark.long
def test_a_sweep_its_comparison_and_an_audit_run_from_an_empty_folder(
    installed: Installed, photos: Path, tmp_path: Path
) -> None:
    data = ("data=folder", f"data.root='{photos}'")
    swept = installed("train", "-m", *QUICK, *data, "seed=1,2", cwd=tmp_path)
    assert swept.returncode == 0, swept.stdout + swept.stderr
    sweep = Path(swept.stdout.splitlines()[-1])
    runs = sorted(path.parent for path in (tmp_path / sweep).glob("*/metrics.json"))
    assert len(runs) == 2
    assert "raylight train --config-path" in (runs[0] / "report.html").read_text()
    compared = installed("compare", str(sweep), cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr
    (table,) = (installed("predict", str(runs[0]), str(photos / "left"), cwd=tmp_path),)
    assert len(table.stdout.strip().splitlines()) == 13  # a head and twelve images
    audited = installed("audit", str(photos), cwd=tmp_path)
    assert audited.returncode in (0, 1), audited.stderr
    assert "24 images" in audited.stdout + audited.stderr


def test_settings_are_shown_completed_and_refused_as_in_a_checkout(installed: Installed, tmp_path: Path) -> None:
    shown = installed("train", "--cfg", "job", "--package", "model", "model=resnet18", cwd=tmp_path)
    assert "last_blocks_from: layer4.0" in shown.stdout
    completed = installed(
        cwd=tmp_path, _RAYLIGHT_COMPLETE="complete_bash", COMP_WORDS="raylight train model=mob", COMP_CWORD="2"
    )
    assert completed.stdout.split() == ["model=mobilenet_v2"]
    refused = installed("train", "modle=resnet18", cwd=tmp_path)
    assert refused.returncode == 2
    assert "did you mean 'model'?" in refused.stderr
    assert "raylight train --help" in installed("train", "--no-such-flag", cwd=tmp_path).stderr
    assert "raylight train [SETTING=VALUE ...]" in installed("train", "--help", cwd=tmp_path).stdout


@pytest.mark.long
def test_a_project_begins_with_an_experiment_of_its_own(installed: Installed, photos: Path, tmp_path: Path) -> None:
    """Every command of its README runs, in a folder whose name has a space."""
    begun = installed("init", "a project", cwd=tmp_path)
    assert begun.stdout == "cd 'a project'\nraylight train experiment=mine\n", begun.stderr
    project = tmp_path / "a project"
    files = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    assert files == {*FILES, "conf/schema.json"}
    (block, after) = re.findall(r"```sh\n(.*?)```", (project / "README.md").read_text(), re.DOTALL)
    runs = []
    for command in block.splitlines():
        arguments = shlex.split(command.replace(" data.root=PATH", ""))[1:]
        if "data=folder" in arguments:
            arguments.append(f"data.root='{photos}'")
            shown = installed(*arguments, "--cfg", "job", cwd=project)  # what trains on photos is tried above
            assert "_target_: my_package.nets.Tiny" in shown.stdout, shown.stderr
            continue
        done = installed(*arguments, *QUICK[1:], "data.limit=12", cwd=project)
        assert done.returncode == 0, done.stdout + done.stderr
        runs.append(Path(done.stdout.splitlines()[-1]))
    assert [run.parent.name for run in runs] == ["demo-tiny", "sweeps"]
    assert len([*(project / runs[1]).glob("*/metrics.json")]) == 2
    assert after.splitlines() == ["export RAYLIGHT_ALLOWED_TARGETS=my_package", "raylight evaluate RUN"]
    measured = installed("evaluate", str(runs[0]), cwd=project, RAYLIGHT_ALLOWED_TARGETS="my_package")
    assert measured.returncode == 0, measured.stderr


@pytest.mark.long
def test_a_projects_options_are_listed_and_completed_and_mistakes_in_them_answered(
    installed: Installed, tmp_path: Path
) -> None:
    assert installed("init", cwd=tmp_path).stdout == "raylight train experiment=mine\n"
    told = installed("train", "--help", cwd=tmp_path).stdout
    assert re.search(r"^experiment: .*\bkeras_cnn3, .*\bmine\b", told, re.MULTILINE)
    assert re.search(r"^model: .*\btiny\b", told, re.MULTILINE)
    completed = installed(
        cwd=tmp_path, _RAYLIGHT_COMPLETE="complete_bash", COMP_WORDS="raylight train model=ti", COMP_CWORD="2"
    )
    assert completed.stdout.split() == ["model=timm", "model=tiny"]
    refused = installed("train", "experiment=mien", cwd=tmp_path)
    assert (refused.returncode, refused.stderr.splitlines()[1]) == (
        2,
        "  - experiment: there is no option 'mien'; did you mean 'mine'?",
    )
    refused = installed("train", "model=tiny", "model.arguments.widht=4", "optimizer.rl=1", cwd=tmp_path)
    assert "model.arguments.widht: my_package.nets.Tiny takes no such argument; did you mean 'width'?" in refused.stderr
    before = (tmp_path / "conf" / "model" / "tiny.yaml").read_text()
    refused = installed("init", cwd=tmp_path)
    assert refused.returncode == 2
    assert "conf/model/tiny.yaml, my_package/__init__.py" in refused.stderr
    assert "which would be overwritten; name another place" in refused.stderr
    assert (tmp_path / "conf" / "model" / "tiny.yaml").read_text() == before
