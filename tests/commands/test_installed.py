"""The wheel, installed into an environment of its own and used from an empty folder elsewhere."""

from pathlib import Path

import pytest

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
