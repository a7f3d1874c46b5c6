"""What only building can tell is told before any work, in a sentence."""

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from raylight.config.schema import FinetuneConfig, ModelConfig, PhaseConfig, RunConfig
from raylight.pipeline.rehearsal import rehearsal_problems
from tests import composed

CONF = Path(__file__).resolve().parents[2] / "conf"
problems = partial(composed.problems, rehearse=rehearsal_problems)
CROP = "{_target_:torchvision.transforms.v2.RandomCrop,size:%s}"


def test_the_defaults_have_no_problems() -> None:
    assert problems() == []


def test_what_is_handed_over_need_not_be_typed() -> None:
    """A network's and a loss's number of classes, a logger's folder."""
    lightning = "_target_:pytorch_lightning"
    assert (
        problems(
            "model._target_=torchvision.models.SqueezeNet",
            "loss._target_=torch.nn.MultiMarginLoss",
            f"logger.also=[{{{lightning}.loggers.CSVLogger}}]",
            f"callbacks=[{{{lightning}.callbacks.Timer}}]",
        )
        == []
    )


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["model=torchvision", "model.name=efficentnet_b0", "model.weights=null"],
            "model.name: torchvision has no classifier 'efficentnet_b0'; did you mean 'efficientnet_b0'?",
        ),
        (
            ["model=torchvision", "model.name=vit_b_16", "model.weights=null", "model.image_size=100"],
            "model.image_size: vit_b_16 can't take 100 pixels",
        ),
        (
            ["model._target_=torchvision.models.SqueezNet"],
            "model._target_: torchvision.models has no 'SqueezNet'; did you",
        ),
        (
            ["model._target_=torchvision.models.resnet18"],
            "isn't a class of the kind network (torch.nn.modules.module.Module)",
        ),
        (
            ["model._target_=my_package.nets.Tiny"],
            "model._target_: 'my_package.nets.Tiny' is not from a trusted package",
        ),
        (
            ["model._target_=torchvision.models.SqueezeNet", "model.arguments.drop=0.1"],
            "model.arguments.drop: torchvision.models.SqueezeNet takes no such argument; did you mean 'dropout'?",
        ),
        (
            ["model._target_=torchvision.models.SqueezeNet", "+model.arguments.num_classes=4"],
            "model.arguments.num_classes: is the number of classes, which the data determines; leave it out",
        ),
        (
            ["model._target_=torchvision.models.ResNet"],
            "model.arguments: torchvision.models.ResNet: missing a required arg",
        ),
        (
            ["model._target_=torchvision.models.SqueezeNet", "model.arguments.version=2"],
            "model: torchvision.models.SqueezeNet: Unsupported SqueezeNet version 2",
        ),
        (["loss._target_=torch.nn.L1Los"], "loss._target_: torch.nn has no 'L1Los'; did you mean 'L1Loss'?"),
        (
            ["loss._target_=torch.nn.MultiMarginLoss", "loss.arguments.q=2"],
            "loss.arguments.q: torch.nn.MultiMarginLoss takes no",
        ),
        (
            ["loss._target_=torch.nn.MultiMarginLoss", "loss.arguments.p=3"],
            "loss: torch.nn.MultiMarginLoss: only p == 1 and p",
        ),
        (["loss._target_=torch.nn.BCEWithLogitsLoss"], "fails on logits float[4, 2] and targets int64[4]"),
        (["loss=own"], "loss._target_: not set; name the class of your loss"),
        (["callbacks=[{_target_:os.system}]"], "callbacks[0]._target_: 'os.system' is not from a trusted package"),
        (
            ["callbacks=[{_target_:torch.nn.ReLU}]"],
            "callbacks[0]._target_: 'torch.nn.ReLU' isn't a class of the kind callback",
        ),
        (
            ["callbacks=[{_target_:pytorch_lightning.callbacks.EarlyStopping,monitr:val/loss}]"],
            "callbacks[0].monitr: pytorch_lightning.callbacks.EarlyStopping takes no such argument; did you mean 'monitor'?",
        ),
        (["callbacks=[3]"], "callbacks[0]: needs a _target_"),
        (
            ["logger.also=[tensorbord]"],
            "'tensorbord' is not one of tensorboard, nor a node with a _target_; did you mean",
        ),
        (
            ["logger=csv", "logger.also=[{_target_:pytorch_lightning.loggers.CSVLogger,save_dir:x,nme:a}]"],
            "logger.also[0].nme: pytorch_lightning.loggers.CSVLogger takes no such argument; did you mean 'name'?",
        ),
        (
            ["augment.batch=[mixupp]"],
            "augment.batch[0]: 'mixupp' is not one of mixup, cutmix, nor a node with a _target_; did",
        ),
        (
            ["augment.batch=[{_target_:torchvision.transforms.v2.MixUp,alpha:-1}]"],
            "augment.batch[0]: torchvision.transforms.v2",
        ),
        (
            ["augment.batch=[{_target_:torchvision.transforms.v2.MixUp,alph:1}]"],
            "augment.batch[0].alph: torchvision",
        ),
        (["augment.batch=[{_target_:torch.nn.Identity}]"], "augment.batch[0]: torch.nn.Identity fails on a"),
        (
            ["augment.batch=[mixup]", "loss._target_=torch.nn.MultiMarginLoss"],
            "augment.batch: mixes classes, and the loss takes no targets float[batch, class]: loss._target_: torch.nn.Multi",
        ),
        (
            ["augment.batch=[mixup]", "finetune.phases=[{train_from:head}]"],
            "augment.batch: mixes pictures, and finetune=recommended_scratch trains from cached features of frozen layers",
        ),
        (
            ["model._target_=tests.pipeline.crossed.Crossed", "allowed_targets=[tests]", "decision.unknown=0.1"],
            "decision.unknown: looks at what enters the classifier head, and Crossed can't be cut in front of it",
        ),
        (["model=own"], "model._target_: not set; name the class of your network"),
        (["model=cnn2", "model._target_=torchvision.models.SqueezeNet"], "model.family=convnet isn't a class of yours"),
        (
            ["model._target_=torchvision.models.SqueezeNet", "model.image_size=8"],
            "SqueezeNet fails on images of 8 pixels (model.image_size): RuntimeError: ",
        ),
        (["finetune.phases=[{train_from:heda}]"], "train_from: the network has no stage 'heda'; did you mean"),
        (["model.weights=/no.pt"], "model.weights: there is no file '/no.pt'"),
        (["optimizer.lr=-1"], "optimizer: torch.optim.Adam: Invalid learning rate: -1"),
        (["optimizer.lr=much"], "optimizer: torch.optim.Adam: TypeError: "),
        (["optimizer.betas=[0.9]"], "optimizer: torch.optim.Adam: "),
        (["optimizer=sgd", "optimizer.nesterov=true", "optimizer.momentum=0"], "torch.optim.SGD: Nesterov momentum"),
        (["optimizer._target_=torch.optim.SparseAdam"], "optimizer: torch.optim.SparseAdam: "),
        (["finetune.phases=[{train_from:all,learning_rate:-0.1}]"], "torch.optim.Adam: Invalid learning rate: -0.1"),
        (
            ["scheduler=step", "scheduler.step_size=0"],
            "scheduler: torch.optim.lr_scheduler.StepLR: ZeroDivisionError: ",
        ),
        (
            ["scheduler=step", "scheduler.gamma=-0.5"],
            "scheduler: torch.optim.lr_scheduler.StepLR makes the learning rate -0.0005 in epoch 2 of a phase",
        ),
        (["augment.transforms=[{_target_:torchvision.transforms.v2.RandomErasing,p:2}]"], "augment.transforms[0]: "),
        (
            [f"augment.transforms=[{CROP % 1000}]"],
            "augment.transforms[0]: torchvision.transforms.v2.RandomCrop fails on an image: ",
        ),
        (
            [f"augment.transforms=[{CROP % 30}]"],
            "augment.transforms: return torch.uint8[3, 30, 30] for an image torch.uint8[3, 64, 64]",
        ),
    ],
)
def test_a_value_that_a_class_refuses_is_named(overrides: list[str], said: str) -> None:
    (problem,) = problems(*overrides)
    assert said in problem
    assert "\n" not in problem


def rehearsed(
    optimizer: str, scheduler: str | None = None, phase: PhaseConfig | None = None, **rate: float
) -> list[str]:
    config = RunConfig(
        model=ModelConfig(channels=[4], image_size=16), finetune=FinetuneConfig(phases=[phase or PhaseConfig()])
    )
    config.optimizer = {"_target_": f"torch.optim.{optimizer}"}
    config.scheduler = {"_target_": f"torch.optim.lr_scheduler.{scheduler}", **rate} if scheduler else None
    return rehearsal_problems(config)


def test_what_training_can_use_is_no_problem() -> None:
    """A closure, several groups, a schedule of just the run's length; with and without ``_partial_``."""
    assert rehearsed("LBFGS") == []
    assert rehearsed("Adam", "ExponentialLR", PhaseConfig(backbone_factor=0.1), gamma=0.9) == []
    assert rehearsed("SGD", "OneCycleLR", max_lr=0.1, total_steps=11) == []


def test_one_image_at_a_time_is_refused_where_batch_norm_has_one_value_of_it() -> None:
    resnet = ["model=resnet18", "model.weights=null", "finetune=scratch", "trainer.batch_size=1"]
    assert problems(*resnet, "model.image_size=32") == [
        "trainer.batch_size: 1 gives a training process one image at a time, and the BatchNorm layers of resnet18 that train "
        "need more at 32 pixels; use 2 or more, or a larger model.image_size"
    ]
    assert problems(*resnet, "model.image_size=64") == []
    two = (*resnet[:3], "model.image_size=32", "trainer=ddp", "trainer.num_workers=2", "data.root=.")
    (problem,) = problems(*two, "trainer.batch_size=3")
    assert "3 gives a training process one image at a time" in problem
    assert "use 4 or more" in problem
    assert problems(*two, "trainer.batch_size=4") == []
    assert problems("trainer.batch_size=1") == []  # no BatchNorm


def test_a_schedule_that_ends_before_the_training_is_named() -> None:
    (problem,) = rehearsed("SGD", "OneCycleLR", max_lr=0.1, total_steps=5)
    assert problem.startswith("scheduler: torch.optim.lr_scheduler.OneCycleLR: Tried to step 6 times")


def test_each_value_of_a_sweep_is_rehearsed() -> None:
    assert problems("-m", "optimizer.lr=0.1,-1,-2") == [
        "optimizer: torch.optim.Adam: Invalid learning rate: -1",
        "optimizer: torch.optim.Adam: Invalid learning rate: -2",
    ]


def test_shares_of_0_are_listed_with_the_rest_unless_the_data_set_ships_a_split(tmp_path: Path) -> None:
    share, optimizer = problems("data.val_fraction=0", "optimizer.lr=-1")  # of the demo
    assert share.startswith("data.val_fraction=0: there would be no images to choose the checkpoint by")
    assert optimizer == "optimizer: torch.optim.Adam: Invalid learning rate: -1"
    for name in ("val/cat/1.png", "val/dog/2.png", "train/cat/3.png", "train/dog/4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folder = ("data=folder", "data.val_fraction=0", "data.test_fraction=0")
    (problem,) = problems(*folder, f"data.root={tmp_path}")
    assert problem.startswith("data.test_fraction=0: there would be no images to test on")
    validation, test = problems(*folder, f"data.root={tmp_path / 'train'}")
    assert validation.startswith("data.val_fraction=0: there would be no images to choose the checkpoint by")
    assert test == problem
    assert problems(*folder, f"data.root={tmp_path / 'val' / 'cat'}") == []  # what is no data set is said of the images


def test_the_command_exits_with_2_and_leaves_nothing(
    train: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = train(
        "optimizer.lr=-1", "model=torchvision", "model.name=efficentnet_b0", "model.weights=null", cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.startswith("2 problems in the configuration:\n  - model.name: ")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
