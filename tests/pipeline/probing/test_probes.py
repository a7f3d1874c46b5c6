"""Probes have the features that a run with ``finetune=probe`` has, under the same name."""

from pathlib import Path

import numpy as np
import pytest

from raylight.config.schema import RunConfig
from raylight.pipeline.probing.networks import Candidate
from raylight.pipeline.probing.probes import probe_of, probed_images
from raylight.pipeline.probing.settings import probe_configs
from tests.pipeline.probing.conftest import NAMES, SMALL


@pytest.fixture
def configs(pictures: Path, weights: Path, tmp_path: Path) -> list[RunConfig]:
    several = [Candidate(name, "torchvision", str(weights / f"{name}.pt")) for name in NAMES]
    return probe_configs([f"data.root={pictures}", f"cache_dir={tmp_path}", *SMALL], several)


def test_a_later_run_takes_the_features(configs: list[RunConfig], pictures: Path, weights: Path, tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    import raylight

    with probed_images(configs, with_test=True) as images:
        assert len(images.part) == 60
        assert [each.preprocessing.size for each in images.shown] == [32, 32]
        features = probe_of(configs[0], images, 0, lambda done, total: None).features(np.arange(60))
    assert features.shape == (60, 1024)
    monkeypatch.chdir(tmp_path)
    before = set((tmp_path / "features").iterdir())
    raylight.train(
        f"data.root={pictures}", f"cache_dir={tmp_path}", *SMALL, "model=torchvision", f"model.name={NAMES[0]}",
        f"model.weights={weights}", "finetune=probe", "trainer.batch_size=8", "logger=none", "report.enabled=false",
        "report.plots=false",
    )  # fmt: skip
    assert set((tmp_path / "features").iterdir()) == before


def test_duplicates_and_patients_are_one_group(configs: list[RunConfig], pictures: Path) -> None:
    with probed_images(configs[:1], with_test=False) as images:
        assert len(np.unique(images.groups)) == len(images.part) == 54
        assert images.targets.tolist() == [int("right" in path) for path in images.part.column("path")]
    configs[0].data.group_pattern = r"^(\d+-\d)"
    with probed_images(configs[:1], with_test=False) as images:
        patients = [Path(path).name[:3] for path in images.part.column("path")]
        assert len(np.unique(images.groups)) == len(set(patients))
