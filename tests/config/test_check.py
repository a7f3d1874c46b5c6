"""Every mistake is named, all at once, before any work."""

import subprocess
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from omegaconf import DictConfig, OmegaConf

from raylight import machine
from raylight.config import check
from raylight.config.launch import checked_arguments, register_schema
from raylight.config.schema import Range, RunConfig
from tests.composed import config_problems, problems

CONF = Path(__file__).resolve().parents[2] / "conf"


def test_the_defaults_have_no_problems() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("modle=resnet18", "modle: there is no such setting; did you mean 'model'?"),
        ("model=resnet81", "model: there is no option 'resnet81'; did you mean 'resnet18'?"),
        (
            "trainer.max_epoch=3",
            "trainer.max_epoch: there is no such setting; did you mean 'trainer.max_epochs'?",
        ),
        ("+trainer.epochs=3", "trainer.epochs: there is no such setting; did you mean 'trainer.max_epochs'?"),
        ("trainer.batch_size=many", "trainer.batch_size: 'many' is not a whole number"),
        ("seed=-1", "seed: -1 is outside 0 to 4.29497e+09"),
        ("decode.engine=rya", "decode.engine: 'rya' is not one of auto, ray, threads; did you mean 'ray'?"),
        ("model.image_size=4", "model.image_size: 4 is too small for cnn2; it needs at least 10 pixels"),
        ("data.fold=2", "data.fold: fold 2 of how many? set data.folds, for example data.folds=5"),
        (
            "data=catsdogs",
            "data.root: there are no images of 'catsdogs' in datasets/catsdogs. Get them from https://",
        ),
        ("model.weights=/no.pt", "model.weights: there is no file '/no.pt'"),
        ("trainer.monitor=test/accuracy", "trainer.monitor: 'test/accuracy' can't choose a checkpoint"),
        ("decision.threshold=yuden", "decision.threshold: "),
        ("optimizer.lrr=0.1", "optimizer.lrr: torch.optim.Adam takes no such argument; did you mean 'lr'?"),
        ("optimizer._target_=torch.optim.Adan", "torch.optim has no 'Adan'; did you mean 'Adam'?"),
        ("optimizer._target_=os.system", "'os.system' is not from a trusted package"),
        ("trainer=cpuu", "trainer: there is no option 'cpuu'; did you mean 'cpu'?"),
        (
            "trainer.num_workers=2",
            "trainer.num_workers: 2, but trainer=cpu trains in one process; choose trainer=ddp (this machine) or trainer=ray",
        ),
        (
            "trainer.precision=16",
            "trainer.precision: '16' needs a GPU (trainer=gpu); on a processor use bf16, 32 or auto",
        ),
        ("a b c", "a b c: isn't a setting; write NAME=VALUE (model=cnn2)"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(override: str, said: str) -> None:
    (problem,) = problems(override)
    assert said in problem


def test_a_missing_folder_is_named() -> None:
    (problem,) = problems("data=folder", "data.root=/nowhere")
    assert problem.startswith("data.root: there is no folder '/nowhere'. Place them as ROOT/CLASS/*.jpg")


def test_impossible_combinations_are_named() -> None:
    (problem,) = problems("model=cnn5", "finetune=frozen")
    assert "'frozen' freezes layers, but cnn5 starts from random weights" in problem
    (problem,) = problems("finetune=two_phase", "model=resnet18", "trainer.max_epochs=5")
    assert "trainer.max_epochs: 5 leaves no epoch for the last phase; the others take 5" in problem
    (problem,) = problems("data.val_fraction=0.6", "data.test_fraction=0.5")
    assert "leave no image to train on" in problem
    (problem,) = problems("trainer.averaging=ema", "trainer.max_epochs=5", "trainer.averaging_start=5")
    assert problem == ("trainer.averaging_start: 5 leaves no epoch to average; trainer.max_epochs=5 end with epoch 4")
    assert problems("trainer.averaging=swa", "trainer.max_epochs=5", "trainer.averaging_start=4") == []


def test_processes_that_could_never_work_are_named() -> None:
    (problem,) = problems("trainer=ddp", "trainer.batch_size=1")
    assert problem == (
        "trainer.batch_size: 1 images per step leave some of trainer.num_workers=2 processes without any; it needs at least "
        "one each"
    )
    (problem,) = problems("trainer=ddp", "trainer.num_workers=9999", "trainer.batch_size=9999")
    assert problem.startswith("trainer.num_workers: 9999 processes on ")
    assert "trainer=ray ray.address=HOST:PORT" in problem
    assert problems("trainer=ray", "trainer.num_workers=9999", "trainer.batch_size=9999", "ray.address=auto") == []


def test_an_argument_that_the_option_file_does_not_mention_is_no_mistake() -> None:
    register_schema()
    assert checked_arguments(CONF, ["optimizer.weight_decay=0.1"]) == ["++optimizer.weight_decay=0.1"]


def test_all_problems_are_listed_at_once() -> None:
    found = problems("modle=x", "trainer.max_epoch=3", "seed=abc", "data=dmeo")
    assert len(found) == 4


def test_a_plus_before_a_known_setting_is_understood() -> None:
    register_schema()
    assert checked_arguments(CONF, ["+trainer.max_epochs=3"]) == ["trainer.max_epochs=3"]


def test_each_value_of_a_sweep_is_checked() -> None:
    (problem,) = problems("-m", "model=cnn2,cnn9")
    assert "there is no option 'cnn9'" in problem
    (problem,) = problems("-m", "seed=1,2", "model.image_size=64,4")
    assert problem == "model.image_size: 4 is too small for cnn2; it needs at least 10 pixels"


def test_an_unknown_key_in_a_file_is_found() -> None:
    config = OmegaConf.create({"trainer": {"max_epochs": 3, "epohcs": 4}, "data": {"nmae": "x"}})
    assert config_problems(config) == [
        "trainer.epohcs: there is no such setting; did you mean 'trainer.max_epochs'?",
        "data.nmae: there is no such setting; did you mean 'data.name'?",
    ]


def test_the_command_exits_with_2_and_no_traceback(
    train: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = train("modle=resnet18", "seed=abc", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("2 problems in the configuration:\n  - modle: ")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_showing_the_config_imports_nothing_heavy(tmp_path: Path) -> None:
    """What makes --help and --cfg job answer in a moment."""
    import sys

    code = (
        "import sys, runpy; sys.argv = ['train.py', '--cfg', 'job']\n"
        f"sys.path.insert(0, {str(CONF.parent)!r})\n"
        "try: runpy.run_path(sys.path[0] + '/train.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('HEAVY', sorted({'torch', 'ray', 'wandb', 'numpy', 'pytorch_lightning', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "batch_size: 32" in done.stdout
    assert done.stdout.strip().endswith("HEAVY []")


def test_shell_completion_knows_groups_and_options(
    train: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = train("-sc", "query=bash", cwd=tmp_path, COMP_LINE="train.py model=", COMP_POINT="15")
    assert "model=resnet18" in done.stdout.split()


def test_what_hydra_cannot_read_is_one_problem_and_a_glob_is_a_sweep(tmp_path: Path) -> None:
    odd = tmp_path / "a=b"
    (odd / "cat").mkdir(parents=True)
    (only,) = problems("data=folder", f"data.root={odd}")
    assert only == f"data.root: '{odd}' has characters with a meaning in Hydra; quote it: \"data.root='{odd}'\""
    assert problems("data=folder", f"data.root='{odd}'") == []
    assert problems("-m", "optimizer=glob(ad*)") == []
    for problem, name in zip(
        problems("-m", "optimizer=glob(ad*)", "optimizer.momentum=0.5"), ("Adam", "AdamW"), strict=True
    ):
        assert problem.startswith(f"optimizer.momentum: torch.optim.{name} takes no such argument")
    (only,) = problems("seed=${nope}")
    assert only == "seed: Interpolation key 'nope' not found"


def with_limits() -> list[tuple[str, Any, Any]]:
    """Each setting of the schema that has a limit, its default, and the limit."""
    found = []
    for section in (RunConfig, *(hint for hint in get_type_hints(RunConfig).values() if is_dataclass(hint))):
        prefix = next((f"{name}." for name, hint in get_type_hints(RunConfig).items() if hint is section), "")
        for name, hint in get_type_hints(section, include_extras=True).items():
            found += [
                (f"{prefix}{name}", getattr(section(), name), limit) for limit in getattr(hint, "__metadata__", ())
            ]
    return found


@pytest.mark.parametrize(("key", "default", "limit"), with_limits(), ids=lambda value: str(value))
def test_a_limit_beside_a_setting_is_kept(key: str, default: Any, limit: Any) -> None:
    """What lies just outside is refused, what lies on it isn't; the default fits."""

    def said(value: object) -> list[str]:
        config = OmegaConf.structured(RunConfig(optimizer={"_target_": "torch.optim.SGD"}))
        OmegaConf.update(config, key, value)
        return [
            problem for problem in config_problems(config) if " is outside " in problem or "is not one of" in problem
        ]

    if isinstance(limit, Range):
        assert default is None or limit.low <= default <= limit.high
        step = 1 if isinstance(limit.low, int) else 1e-3
        assert said(limit.low) == said(limit.high) == []
        for outside in (limit.low - step, limit.high * 1.01 + step if step < 1 else limit.high + step):
            (problem,) = said(outside)
            assert problem == f"{key}: {outside} is outside {limit.low:g} to {limit.high:g}"
    else:
        words = get_args(limit)
        assert default is None or default in words
        assert [said(word) for word in words] == [[]] * len(words)
        (problem,) = said("wrng")
        assert problem.startswith(f"{key}: 'wrng' is not one of {', '.join(words)}")


def test_processors_are_those_that_a_container_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version 2 control group with a quota of one processor, whatever this machine has."""
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    monkeypatch.setattr(machine, "_groups", lambda: iter([tmp_path]))
    (problem,) = problems("trainer=ddp", "trainer.num_workers=2")
    assert problem.startswith("trainer.num_workers: 2 processes on 1 processor cores would wait for each other")


PHASE = {"train_from": "head"}


def found(settings: dict[str, Any], *, weights_needed: bool = True) -> list[str]:
    """What is wrong with a config of the demo data and a small network, but for these settings."""
    demo = {"data.kind": "demo", "model.channels": [4, 8], "logger.name": "none"}
    config = OmegaConf.structured(RunConfig(optimizer={"_target_": "torch.optim.SGD"}))
    for key, value in (demo | settings).items():
        OmegaConf.update(config, key, value)
    assert isinstance(config, DictConfig)
    return config_problems(config, weights_needed=weights_needed)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, None),
        ({"data.sampler": "weighted", "data.feed": "stream"}, "data.sampler: weighted draws with replacement, which a stream"),
        ({"data.sampler": "weighted", "loss.class_weights": "balanced"}, "data.sampler: weighted and loss.class_weights both"),
        ({"data.fold": 2}, "data.fold: fold 2 of how many? set data.folds"),
        ({"data.folds": 5}, "data.fold: not set; choose one of 0 to 4, or sweep them"),
        ({"data.folds": 5, "data.fold": 5}, "data.fold: 5 is not below data.folds=5; folds count from 0"),
        ({"data.folds": 5, "data.fold": 9}, "data.fold: 9 is not below data.folds=5; folds count from 0"),
        ({"data.folds": 5, "data.fold": 4}, None),
        ({"data.folds": 5, "data.fold": 0}, None),
        ({"data.val_fraction": 0.5, "data.test_fraction": 0.5}, "data.val_fraction: 0.5 + data.test_fraction 0.5 leave no"),
        ({"data.val_fraction": 0.5, "data.test_fraction": 0.49}, None),
        ({"data.layout": "csv"}, "data.csv: not set, but data.layout=csv reads a table"),
        ({"model.channels": []}, "model.channels: empty; a convnet needs at least one block"),
        ({"model.image_size": 3}, "model.image_size: 3 is too small for cnn2; it needs at least 4 pixels"),
        ({"model.image_size": 4}, None),
        ({"model.image_size": 9, "model.padding": "valid"}, "model.image_size: 9 is too small for cnn2; it needs at least 10"),
        ({"model.image_size": 10, "model.padding": "valid"}, None),
        ({"model.resize": "pad", "model.resize_size": 64}, "model.resize_size: 64, but model.resize=pad resizes the longer"),
        ({"model.resize": "pad"}, None),
        ({"model.resize": "crop", "model.resize_size": 63}, "model.resize_size: 63 is less than the 64 pixels"),
        ({"model.resize": "crop", "model.resize_size": 64}, None),
        ({"finetune.requires_weights": True}, "finetune: 'scratch' freezes layers, but cnn2 starts from random"),
        ({"model.weights": "DEFAULT"}, "model.weights: there are no published weights for cnn2; use null"),
        ({"finetune.phases": []}, "finetune.phases: empty; at least one phase has to train something"),
        ({"finetune.phases": [PHASE, PHASE]}, "finetune.phases[0].epochs: not set; only the last phase may leave it open"),
        (
            {"finetune.phases": [PHASE | {"epochs": 4}, PHASE | {"epochs": 6}, PHASE]},
            "trainer.max_epochs: 10 leaves no epoch for the last phase; the others take 10",
        ),
        ({"finetune.phases": [PHASE | {"epochs": 4}, PHASE | {"epochs": 5}, PHASE]}, None),
        (
            {"finetune.phases": [PHASE | {"epochs": 4}, PHASE | {"epochs": 5}]},
            "trainer.max_epochs: 10, but the phases of finetune add up to 9",
        ),
        ({"finetune.phases": [PHASE | {"epochs": 4}, PHASE | {"epochs": 6}]}, None),
        ({"trainer.monitor": "train/loss"}, "trainer.monitor: 'train/loss' can't choose a checkpoint; only validation may"),
        ({"trainer.monitor": "val/los"}, "trainer.monitor: 'val/los' can't choose a checkpoint"),
        ({"trainer.averaging": "ema", "trainer.averaging_start": 10}, "trainer.averaging_start: 10 leaves no epoch to average"),
        ({"trainer.averaging": "ema", "trainer.averaging_start": 9}, None),
        ({"trainer.averaging_start": 10}, None),
        ({"decision.threshold": "2"}, "decision.threshold: threshold '2' would give every image the same class"),
        ({"trainer.precision": "16"}, "trainer.precision: '16' needs a GPU"),
        ({"trainer.precision": "16", "trainer.accelerator": "gpu"}, None),
        ({"trainer.precision": "bf16"}, None),
        ({"data.feed": "stream"}, None),
        ({"trainer.patience": None, "data.limit": None}, None),
        ({"model.normalize": "imagnet"}, "model.normalize: 'imagnet' is not one of unit, centered, imagenet"),
    ],
)  # fmt: skip
def test_settings_that_exclude_each_other_are_one_problem(settings: dict[str, Any], said: str | None) -> None:
    assert [problem[: len(said or "")] for problem in found(settings)] == ([said] if said else [])


@pytest.mark.parametrize("metric", ["loss", "accuracy", "auroc", "average_precision", "mcc", "f1", "ece", "brier"])
def test_the_mode_of_a_metric_is_that_of_its_best_value(metric: str) -> None:
    right, wrong = ("min", "max") if metric in ("loss", "ece", "brier") else ("max", "min")
    assert found({"trainer.monitor": f"val/{metric}", "trainer.monitor_mode": right}) == []
    (problem,) = found({"trainer.monitor": f"val/{metric}", "trainer.monitor_mode": wrong})
    assert problem == f"trainer.monitor_mode: {wrong!r} would keep the worst val/{metric}; use auto"
    assert found({"trainer.monitor": f"val/{metric}"}) == []


def test_the_mode_of_an_own_metric_has_to_be_typed() -> None:
    own = {"metrics": {"mae": {"_target_": "torchmetrics.MeanAbsoluteError"}}, "trainer.monitor": "val/mae"}
    assert found(own) == [
        "trainer.monitor_mode: auto can't tell whether a lower or a higher val/mae is better; use min or max"
    ]
    assert found(own | {"trainer.monitor_mode": "min"}) == []


@pytest.mark.parametrize(
    ("settings", "address", "said"),
    [
        ({"launcher": "none", "num_workers": 2}, "", "trainer.num_workers: 2, but trainer=cpu trains in one process"),
        ({"launcher": "processes", "num_workers": 1}, "", None),
        ({"launcher": "processes", "num_workers": 4}, "", None),
        (
            {"launcher": "processes", "num_workers": 5},
            "",
            "trainer.num_workers: 5 processes on 4 processor cores would wait",
        ),
        ({"launcher": "processes", "num_workers": 5, "accelerator": "gpu"}, "", None),
        (
            {"launcher": "processes", "num_workers": 5},
            "host:1",
            "trainer.num_workers: 5 processes on 4 processor cores",
        ),
        ({"launcher": "ray", "num_workers": 5}, "", "trainer.num_workers: 5 processes on 4 processor cores would wait"),
        ({"launcher": "ray", "num_workers": 5}, "local", "trainer.num_workers: 5 processes on 4 processor cores would"),
        ({"launcher": "ray", "num_workers": 5}, "host:1", None),
        (
            {"launcher": "processes", "num_workers": 3, "batch_size": 2},
            "",
            "trainer.batch_size: 2 images per step leave some",
        ),
        ({"launcher": "processes", "num_workers": 3, "batch_size": 3}, "", None),
    ],
)
def test_processes_need_cores_or_a_cluster_and_an_image_each(
    settings: dict[str, Any], address: str, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "usable_cpus", lambda: 4)
    for where in ("environment", "setting"):
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        if where == "environment" and address:
            monkeypatch.setenv("RAY_ADDRESS", address)
        given = {f"trainer.{name}": value for name, value in settings.items()}
        told = found(given | ({"ray.address": address} if where == "setting" and address else {}))
        assert [problem[: len(said or "")] for problem in told] == ([said] if said else []), where


@pytest.mark.parametrize("feed", ["cache", "stream"])
@pytest.mark.parametrize("launcher", ["none", "processes"])
@pytest.mark.parametrize("engine", ["ray", "threads"])
def test_streams_of_training_processes_are_decoded_by_threads(feed: str, launcher: str, engine: str) -> None:
    told = found({"data.feed": feed, "trainer.launcher": launcher, "decode.engine": engine})
    refused = (feed, launcher, engine) == ("stream", "processes", "ray")
    assert [problem.partition(":")[0] for problem in told] == ["decode.engine"] * refused


def test_weights_are_a_file_a_run_or_published(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "w.pt").touch()
    assert found({"model.weights": str(tmp_path / "w.pt")}) == []
    (problem,) = found({"model.weights": str(tmp_path / "no.pt")})
    assert problem == (
        f"model.weights: there is no file '{tmp_path / 'no.pt'}'; give a path, a run folder, DEFAULT, or null for random "
        "weights"
    )
    (problem,) = found({"model.weights": str(run)})
    assert problem.startswith(
        f"model.weights: '{run}' has neither a file cnn2.pt (.pth, .safetensors) nor, as runs have, model.safetensors; "
    )
    assert found({"model.weights": str(run)}, weights_needed=False) == []
    (run / "model.safetensors").touch()
    assert found({"model.weights": str(run)}) == []


def test_a_table_is_looked_for_here_and_beside_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = {"data.kind": "folder", "data.name": "mine"}
    (tmp_path / "datasets" / "mine").mkdir(parents=True)
    assert found(folder) == []
    (problem,) = found(folder | {"data.csv": "t.csv"})
    assert problem == "data.csv: there is no file 't.csv', neither here nor in data.root=datasets/mine"
    (tmp_path / "datasets" / "mine" / "t.csv").touch()
    assert found(folder | {"data.csv": "t.csv"}) == []
    (tmp_path / "here.csv").touch()
    assert found(folder | {"data.csv": "here.csv"}) == []
    assert found(folder | {"data.csv": "https://host/t.csv"}) == []
    assert found(folder | {"data.root": "s3://bucket/x", "data.csv": "t2.csv"}) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"kind": "demo", "root": "s3://b/x"},
            "data.root: 's3://b/x' isn't a folder of this machine, the only place to draw",
        ),
        (
            {"kind": "folder", "download": True, "root": "s3://b/x"},
            "data.root: 's3://b/x' isn't a folder of this machine, the only place to download into",
        ),
        ({"kind": "demo", "root": "nowhere"}, None),
        ({"kind": "folder", "download": True, "root": "nowhere"}, None),
        ({"kind": "folder", "root": "s3://b/x"}, None),
        ({"kind": "folder", "root": "https://me:word@host/x"}, "data.root: holds a password; leave it out"),
        (
            {
                "kind": "folder",
                "source": {"_target_": "raylight.data.packed.tar.TarShards", "root": "x"},
                "root": "s3://me:word@b/x",
            },
            "data.root: holds a password; leave it out",
        ),
        ({"kind": "folder", "root": "https://me@host/x"}, None),
        ({"kind": "folder", "root": "https://host/a:b@c"}, None),
        (
            {"kind": "folder", "root": "/nowhere"},
            "data.root: there is no folder '/nowhere'. Place them as ROOT/CLASS/*.jpg",
        ),
        (
            {"kind": "folder", "name": "odd"},
            "data.root: there are no images of 'odd' in datasets/odd. Place them as ROOT/CLASS/*.jpg",
        ),
        (
            {"kind": "folder", "root": "/nowhere", "homepage": "https://h"},
            "data.root: there is no folder '/nowhere'. Get them from https://h. Place them as",
        ),
        (
            {"kind": "folder", "root": "/nowhere", "kaggle": "me/x"},
            "data.root: there is no folder '/nowhere'. Or let Raylight fetch them with data.download=true. Place them as",
        ),
        (
            {"kind": "folder", "root": "/nowhere", "archive_url": "https://h/a.zip"},
            "data.root: there is no folder '/nowhere'. Or let Raylight fetch them with data.download=true. Place them as",
        ),
    ],
)
def test_where_images_are_is_a_folder_or_can_be_had(settings: dict[str, Any], said: str | None) -> None:
    told = found({f"data.{name}": value for name, value in settings.items()})
    assert [problem[: len(said or "")] for problem in told] == ([said] if said else [])


def test_published_weights_and_recipes_are_told_apart_by_family() -> None:
    torchvision = {"model.family": "torchvision", "model.name": "resnet18", "model.channels": []}
    assert found(torchvision | {"model.weights": "DEFAULT", "finetune.requires_weights": True}) == []
    (problem,) = found(torchvision | {"finetune.requires_weights": True})
    assert "use model.weights=DEFAULT or " in problem
    (problem,) = found({"finetune.requires_weights": True})
    assert problem.endswith("(model.weights=null); use finetune=scratch")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("trainer.max_epochs", "many", "trainer.max_epochs: 'many' is not a whole number"),
        ("loss.focal_gamma", "much", "loss.focal_gamma: 'much' is not a number"),
        ("report.plots", "perhaps", "report.plots: 'perhaps' is not true or false"),
        ("data.folds", "x", "data.folds: 'x' is not a whole number or null"),
        ("model.channels", 3, "model.channels: 3 is not a list"),
        ("trainer.max_epochs", "${seed}", None),
        ("optimizer.anything", "x", None),
        ("augment.transforms", [], None),
        ("data.name.x", 1, "data.name.x: there is no such setting"),
        ("data", {"name": "x"}, None),
        ("data", "x", "data: is a section, not a value; set data.NAME"),
        ("data.folds", None, None),
    ],
)
def test_one_value_at_one_key(key: str, value: object, said: str | None) -> None:
    problem = check.value_problem(key, value)
    assert (problem or "").startswith(said or "")
    assert (problem is None) == (said is None)
