"""What a ``_target_`` node names: found, read and built, or why not."""

from pathlib import Path

import pytest

from raylight.config.rules.nodes import (
    build_node,
    cause_text,
    class_count_parameter,
    find_target,
    network_node,
    parameters_of,
    word_problems,
)
from raylight.config.schema import ModelConfig, RunConfig
from raylight.errors import ConfigError, DataError


class Counting:
    def __init__(self, width: int, n_classes: int = 3, *, settings: object = None) -> None:
        if width < 0:
            raise ValueError(f"width {width} is negative\nand more")
        self.width, self.n_classes, self.settings = width, n_classes, settings


HERE = f"{__name__}.Counting"


def test_a_target_is_found_or_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_target("model", HERE).__name__ == "Counting"
    with pytest.raises(ConfigError, match=r"model\._target_: .* has no 'Countng'; did you mean 'Counting'\?"):
        find_target("model", f"{__name__}.Countng")
    with pytest.raises(ConfigError, match=r"loss\._target_: there is no module 'no_such_package.nets'$"):
        find_target("loss", "no_such_package.nets.Tiny")
    (tmp_path / "needy_package.py").write_text("import no_such_dependency\n")
    (tmp_path / "broken_package.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"no module 'needy_package' \(it needs no_such_dependency\)"):
        find_target("model", "needy_package.Tiny")
    with pytest.raises(ConfigError, match="importing 'broken_package': ZeroDivisionError: division by zero"):
        find_target("model", "broken_package.Tiny")


def test_the_parameter_for_the_number_of_classes_has_one_of_four_names() -> None:
    assert class_count_parameter(Counting) == "n_classes"
    assert class_count_parameter(lambda width: width) is None
    assert list(parameters_of(Counting)) == ["width", "n_classes", "settings"]


def test_a_node_is_built_with_what_is_given_and_nested_nodes() -> None:
    built = build_node("model", {"_target_": HERE, "settings": {"_target_": HERE, "width": 1}}, 4, n_classes=7)
    assert (built.width, built.n_classes, built.settings.width) == (4, 7, 1)
    with pytest.raises(ConfigError, match=rf"model: {HERE}: width -1 is negative$"):
        build_node("model", {"_target_": HERE, "width": -1})
    with pytest.raises(ConfigError, match=r"model: .*: TypeError: .*missing 1 required positional argument"):
        build_node("model", {"_target_": HERE})


def test_what_an_error_says_has_its_kind_unless_it_is_a_plain_refusal() -> None:
    assert cause_text(ValueError("no\nmore")) == "no"
    assert cause_text(DataError("no images")) == "no images"
    assert cause_text(KeyError("width")) == "KeyError: 'width'"


def test_a_models_node_holds_its_arguments() -> None:
    model = ModelConfig(family="own", _target_=HERE, arguments={"width": 2})
    assert network_node(model) == {"_target_": HERE, "width": 2}


def test_arguments_are_plain_lists_and_mappings() -> None:
    built = build_node("model", {"_target_": HERE, "width": 1, "settings": [1, {"a": [2]}]})
    assert built.settings == [1, {"a": [2]}]
    assert (type(built.settings), type(built.settings[1]), type(built.settings[1]["a"])) == (list, dict, list)


def test_words_in_lists_of_nodes_stand_for_one_or_are_named() -> None:
    run = RunConfig()
    run.augment.batch = ["mixup", {"_target_": "torchvision.transforms.v2.CutMix"}, "cutmixx"]
    run.logger.also = ["tensorboard", 3]
    assert list(word_problems(run)) == [
        "logger.also[1]: 3 is not one of tensorboard, nor a node with a _target_",
        "augment.batch[2]: 'cutmixx' is not one of mixup, cutmix, nor a node with a _target_; did you mean 'cutmix'?",
    ]
