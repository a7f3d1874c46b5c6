"""Drawn images, and a folder with the weights of two small networks, as ``raylight rank`` takes them."""

from pathlib import Path

import pytest
import torch
import torchvision

from tests.trained_run import draw

SMALL = ("model.image_size=32", "decode=threads", "trainer.threads=1", "trainer.precision=32")
NAMES = ("shufflenet_v2_x0_5", "mnasnet0_5")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("probed") / "pictures"
    for label in ("left", "right"):
        draw(root, label, 30, 1)
    return root


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    for name in NAMES:
        torch.manual_seed(0)
        torch.save(torchvision.models.get_model(name).state_dict(), folder / f"{name}.pt")
    return folder
