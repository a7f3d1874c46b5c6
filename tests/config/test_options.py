"""Every option file composes, passes the check, and builds what it names; every model runs a batch of every data kind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from raylight.config.check import load_config
from raylight.config.launch import checked_arguments, register_schema
from raylight.config.rules.recipe import with_epochs
from raylight.config.schema import RunConfig
from tests.composed import config_problems

CONF = Path(__file__).resolve().parents[2] / "conf"
OPTIONS = sorted(
    f"{path.parent.relative_to(CONF).as_posix()}={path.stem}"
    for path in CONF.rglob("*.yaml")
    if path.parent != CONF and path.relative_to(CONF).parts[0] != "hydra"
)
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
NO_DOWNLOAD = ("model.weights=null", "++finetune.requires_weights=false")


def composed(*overrides: str) -> DictConfig:
    from hydra import compose, initialize_config_dir

    register_schema()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def compose(*overrides: str) -> RunConfig:
    return load_config(composed(*overrides))


def needs(option: str, tmp_path: Path) -> list[str]:
    """What an option needs beside itself: a folder of images, an experiment's weights, a class."""
    group = option.partition("=")[0]
    root = [f"data.root={tmp_path}"] if group in ("data", "experiment") else []
    targets = {"model": "torchvision.models.SqueezeNet", "loss": "torch.nn.MultiMarginLoss"}
    own = [f"{group}._target_={targets[group]}"] if option.endswith("=own") else []
    return [option, *root, *own, *(NO_DOWNLOAD if group in ("finetune", "experiment") else ())]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_builds(option: str, tmp_path: Path) -> None:
    from hydra.utils import instantiate

    from raylight.data.augment import build_augmenter

    register_schema()
    found: list[RunConfig] = []
    checked_arguments(
        CONF, needs(option, tmp_path), lambda run: found.append(run) or ()
    )  # as typed on the command line
    run = with_epochs(found[0])
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = instantiate(run.optimizer)([weight])
    schedule = instantiate(run.scheduler)(optimizer)
    optimizer.step()
    schedule.step()
    augmenter = build_augmenter(run.augment.transforms, run.seed)
    size = run.model.image_size
    picture = torch.randint(0, 256, (3, size, size), dtype=torch.uint8)
    assert augmenter(picture, "key", 0).shape == picture.shape


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_learns_from_a_batch_of_every_kind(model: str, n_classes: int) -> None:
    """Two or more classes, mirrored images as they leave the loader."""
    from raylight.models.build import build_network
    from raylight.models.preprocessing import Preprocessing
    from raylight.training.losses import classification_loss

    size = {"cnn2": 64, "cnn3": 150}.get(model, 96)
    own = ("model._target_=torchvision.models.MobileNetV2",) if model == "own" else ()
    run = compose(f"model={model}", "model.weights=null", f"model.image_size={size}", *own)
    network = build_network(run.model, n_classes)
    pixels = np.random.default_rng(1).integers(0, 256, (4, 3, size, size), dtype=np.uint8)
    images = Preprocessing.from_config(run.model).normalise(torch.from_numpy(pixels))
    logits = network(images)
    loss = classification_loss(logits, torch.tensor([0, 1, 0, n_classes - 1]), run.loss, None)
    loss.backward()
    assert logits.shape == (4, n_classes)
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_schema_documents_every_setting() -> None:
    """A docstring under each field: the schema is the manual."""
    import ast

    source = Path(CONF.parent / "src/raylight/config/schema.py").read_text()
    undocumented = []
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef) or node.name == "RunConfig":
            continue
        for first, second in zip(node.body, [*node.body[1:], None], strict=True):
            documented = isinstance(second, ast.Expr) and isinstance(second.value, ast.Constant)
            if isinstance(first, ast.AnnAssign) and not documented:
                undocumented.append(f"{node.name}.{ast.unparse(first.target)}")
    assert undocumented == []


def test_each_setting_of_a_file_is_in_the_schema() -> None:
    for path in CONF.rglob("*.yaml"):
        group = path.parent.relative_to(CONF).as_posix()
        if group in (".", "experiment", "optimizer", "scheduler") or group.startswith("hydra"):
            continue
        written = OmegaConf.load(path)
        written.pop("defaults", None)
        whole = path.read_text().startswith("# @package _global_")
        config = OmegaConf.create(written if whole else {group: written})
        assert not [problem for problem in config_problems(config) if "no such setting" in problem], path


def test_what_is_not_typed_is_the_recipe_for_the_model_and_the_data() -> None:
    def chosen(*overrides: str) -> tuple[Any, ...]:
        run = composed(*overrides)
        return (
            run.finetune.name,
            run.augment.name,
            str(run.scheduler["_target_"]).rpartition(".")[2],
            run.trainer.max_epochs,
        )

    assert chosen("model=cnn2") == ("recommended_scratch", "crop_flip", "WarmupCosine", None)
    assert chosen("model=cnn2", "data=xray", "optimizer=sgd")[:2] == ("recommended_scratch", "xray")
    assert chosen("model=resnet18") == ("recommended", "none", "CosineAnnealingLR", None)
    assert chosen("model=mobilenet_v2", "data=xray") == ("recommended", "xray", "CosineAnnealingLR", None)
    assert chosen("model=resnet18", "data=xray", "augment=none", "finetune=full") == ("full", "none", "ConstantLR", 10)
    assert chosen("model=resnet18", "trainer=debug")[-1] == 2
    assert chosen("model=resnet18", "scheduler=step", "trainer.max_epochs=7")[2:] == ("StepLR", 7)
    assert chosen("finetune=probe", "model=resnet18")[-1] == 1
    # Published systems fix their own.
    assert chosen("experiment=xray_resnet18") == ("full", "none", "ConstantLR", 10)
    assert chosen("experiment=xray_cnn5") == ("scratch", "none", "StepLR", 50)
