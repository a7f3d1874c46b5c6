"""What is typed after train.py: read like Hydra, answered with sentences that name what works."""

import shlex

import pytest

from raylight.config.command_line import arranged, read_override
from raylight.errors import ConfigError


@pytest.mark.parametrize(
    "path",
    ["/a=b", "/a{b", "/a[b", "/a(b", "/a'b", '/a"b', "/a#b", "/a;b", "/a&b", "/~b", "/a!b", "/ü", "/a,b", "/a b'"],
)
def test_the_quoted_form_that_is_named_works_in_a_shell(path: str) -> None:
    override, problem = read_override(f"data.root={path}", multirun=False)
    assert override.value() == path  # for all further checks it is what was meant
    if problem is None:
        return
    (typed,) = shlex.split(problem.rpartition(": ")[2])  # what the shell hands on
    again, nothing = read_override(typed, multirun=False)
    assert (again.value(), nothing) == (path, None)


def test_several_values_need_a_sweep() -> None:
    override, problem = read_override("model=cnn2,cnn3", multirun=False)
    assert problem == (
        "model: cnn2,cnn3 gives several values; sweep over them with -m (python train.py -m model=cnn2,cnn3), or, if it is "
        "a single one, quote it: \"model='cnn2,cnn3'\""
    )
    override, problem = read_override("model=cnn2,cnn3", multirun=True)
    assert (list(override.sweep_iterator()), problem) == (["cnn2", "cnn3"], None)
    assert read_override("model", multirun=False) == (None, "model: isn't a setting; write NAME=VALUE (model=cnn2)")


def test_flags_may_stand_anywhere() -> None:
    assert arranged(["model=cnn2", "-m", "seed=1,2"]) == ["-m", "model=cnn2", "seed=1,2"]
    assert arranged(["model=cnn2", "--cfg", "job", "seed=1", "-p", "model"]) == [
        *("--cfg", "job", "-p", "model"),
        *("model=cnn2", "seed=1"),
    ]


def test_a_class_named_for_the_model_brings_the_option_for_it() -> None:
    target = "+model._target_=my_package.nets.Tiny"
    assert arranged(["-m", target, "seed=1,2"]) == ["-m", target, "seed=1,2", "model=own"]
    assert arranged(["loss._target_=a.B", "model=cnn2"])[2:] == ["loss=own"]
    for left in ([target, "model=mine"], ["--config-path", "RUN", target], ["model=cnn2"]):
        assert arranged(left) == left


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--multrun", "seed=1,2"], "--multrun: there is no such flag; did you mean '--multirun'?"),
        (["--cfg"], "argument --cfg/-c: expected one argument (python train.py --help lists all flags)"),
        (["-m", "seed=1,2", "--cfg", "job"], "--multirun: can't be combined with --cfg; choose one"),
    ],
)
def test_wrong_flags_are_a_sentence(arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        arranged(arguments)
    assert caught.value.problems == (said,)
