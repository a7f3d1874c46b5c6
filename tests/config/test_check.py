"""Every mistake is named, all at once, before any work."""

import subprocess
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from omegaconf import OmegaConf

from raylight import machine
from raylight.config.check import config_problems
from raylight.config.launch import checked_arguments, register_schema
from raylight.config.schema import Range, RunConfig
from tests.composed import problems

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
        ("decode.engine=rya", "decode.engine: 'rya' is not one of ray, threads; did you mean 'ray'?"),
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
        ("a b c", "a b c: is no setting; write NAME=VALUE (model=cnn2)"),
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
    assert "'frozen' keeps layers as they are, but cnn5 starts from random weights" in problem
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
        "trainer.batch_size: 1 images a step leave some of trainer.num_workers=2 processes without any; it needs at least one "
        "each"
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
    assert "max_epochs: 10" in done.stdout
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
    assert only == f"data.root: '{odd}' has characters that Hydra reads otherwise; quote it: \"data.root='{odd}'\""
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
