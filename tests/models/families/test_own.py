"""A network of the user's own: built for the data's classes, cut where it can be, refused with a reason where it can't."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as nnf

from raylight.config.rules.targets import ALLOWING
from raylight.config.schema import ModelConfig
from raylight.errors import ConfigError, WeightsError
from raylight.models.build import build_network
from raylight.models.families.own import code_digest
from raylight.models.freezing import freeze_boundary
from raylight.models.stages import StagedNetwork


class Tiny(nn.Module):
    """Runs in sequence but for the mean, which its forward calls as a function."""

    def __init__(self, num_classes: int, width: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images).mean((2, 3)))
        return logits


class Uncounted(nn.Module):
    """Takes no number of classes; defined in another order than it runs in."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(4, 10, bias=False)
        self.second, self.first = nn.Conv2d(5, 4, 3), nn.Conv2d(3, 5, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.second(nnf.relu(self.first(images))).amax((2, 3)))
        return logits


class Shuffled(nn.Module):
    """Runs in sequence, in another order than the definition's, which its attribute ``stages`` tells."""

    stages = ("first", "relu", "second", "pool", "flatten", "output")

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.output, self.flatten, self.pool = nn.Linear(4, classes), nn.Flatten(), nn.AdaptiveAvgPool2d(1)
        self.second, self.relu, self.first = nn.Conv2d(5, 4, 3), nn.ReLU(), nn.Conv2d(3, 5, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.output(self.flatten(self.pool(self.second(self.relu(self.first(images))))))
        return logits


class Scaled(Tiny):
    """Its output is no module's output, and which way it takes depends on the images."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits * 2 if logits.sum() < 1e9 else logits


class Dropping(nn.Module):
    """Has dropout before its head, wherever it is defined, or as a function."""

    def __init__(self, num_classes: int, defined: str) -> None:
        super().__init__()
        if defined == "first":
            self.dropout = nn.Dropout(0.5)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        if defined == "in between":
            self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(8, num_classes)
        if defined == "last":
            self.dropout = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(images)
        dropped = self.dropout(features) if hasattr(self, "dropout") else nnf.dropout(features, 0.5, self.training)
        logits: Tensor = self.head(dropped)
        return logits


class Gives(nn.Module):
    def __init__(self, num_classes: int, what: str) -> None:
        super().__init__()
        self.layer, self.what = nn.Linear(3, num_classes), what

    def forward(self, images: Tensor) -> Any:
        logits = self.layer(images.mean((2, 3)))
        return {
            "probabilities": logits.softmax(1),
            "a pair": (logits, logits),
            "a pair in training": (logits, logits) if self.training else logits,
            "a column more": torch.cat([logits, logits[:, :1]], 1),
            "classes": logits.argmax(1, keepdim=True).expand(logits.shape),
        }[self.what]


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWING, "tests")


def build(kind: str, n_classes: int = 3, **settings: Any) -> StagedNetwork:
    torch.manual_seed(0)
    settings = {"image_size": 16, **settings}
    return build_network(ModelConfig(name=kind, family="own", _target_=f"{__name__}.{kind}", **settings), n_classes)


def test_it_gets_the_number_of_classes_and_its_arguments() -> None:
    network = build("Tiny", 5, arguments={"width": 6})
    assert network(torch.rand(2, 3, 16, 16)).shape == (2, 5)
    assert isinstance(network.network, Tiny)
    assert network.network.head.in_features == 6
    assert build("Tiny", 2, head="sigmoid").network(torch.rand(2, 3, 16, 16)).shape == (2, 1)


@pytest.mark.parametrize(
    ("kind", "settings", "stages", "head"),
    [
        ("Tiny", {}, ("body.0", "body.1", "body.2", "pool", "flatten", "head"), 5),
        ("Uncounted", {}, ("body", "head"), 1),
        ("Shuffled", {}, Shuffled.stages, 5),
        ("Tiny", {"stages": ["body", "head"]}, ("body", "pool", "flatten", "head"), 3),
        ("Scaled", {}, ("network",), 0),
    ],
)
def test_stages_are_found_or_taken_and_compute_the_same(
    kind: str, settings: dict[str, Any], stages: tuple[str, ...], head: int
) -> None:
    network = build(kind, **settings).eval()
    assert network.stage_names == stages
    assert network.head_start == head
    torch.manual_seed(0)
    own = globals()[kind](*([] if kind == "Uncounted" else [3])).eval()
    images = torch.rand(2, 3, 16, 16)
    with torch.inference_mode():
        if kind == "Uncounted":
            assert network(images).shape == (2, 3)
        else:
            assert torch.allclose(network(images), own(images), atol=1e-6)
        assert torch.equal(network.run(network.run(images, 0, head), head, None), network(images))


@pytest.mark.parametrize("defined", ["first", "in between", "last", "nowhere"])
def test_stages_train_like_the_network_wherever_its_dropout_is_defined(defined: str) -> None:
    network = build("Dropping", arguments={"defined": defined}).train()
    in_sequence = ("body.0", "body.1", "body.2", "body.3", "dropout", "head")
    assert network.stage_names == (in_sequence if defined == "in between" else ("body", "head"))
    conv, norm, head = (
        module for module in network.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear)
    )
    images = torch.rand(16, 3, 16, 16)
    torch.manual_seed(1)
    expected = head(nnf.dropout(norm(conv(images)).mean((2, 3)), 0.5))
    torch.manual_seed(1)
    assert torch.allclose(network(images), expected, atol=1e-6)


def test_without_a_parameter_for_it_the_last_linear_layer_that_runs_is_replaced() -> None:
    (linear,) = [layer for layer in build("Uncounted", 7).modules() if isinstance(layer, nn.Linear)]
    assert (linear.in_features, linear.out_features, linear.bias) == (4, 7, None)


def test_what_cannot_be_cut_trains_as_a_whole_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "raylight"):
        network = build("Scaled")
    assert "Scaled: found no stages that run one after the other" in caplog.text
    with pytest.raises(ConfigError, match="'head' is impossible"):
        freeze_boundary(network, "head")


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("Gives", {"arguments": {"what": "probabilities"}}, "returns probabilities; expected logits"),
        ("Gives", {"arguments": {"what": "a pair"}}, r"returns a tuple for two images; expected float\[2, 3\]"),
        (
            "Gives",
            {"arguments": {"what": "a pair in training"}},
            "returns a tuple in training; expected logits alone",
        ),
        ("Gives", {"arguments": {"what": "a column more"}}, r"returns torch.float32\[2, 4\] for two images"),
        ("Gives", {"arguments": {"what": "classes"}}, r"returns torch.int64\[2, 3\] for two images"),
        ("Tiny", {"image_size": 2}, r"Tiny fails on images of 2 pixels \(model.image_size\): RuntimeError: "),
        ("Tiny", {"dense": [8]}, r"model.dense: \[8\], but .*Tiny doesn't use it"),
        ("Tiny", {"dropout": 0.5}, r"model.dropout: 0.5, but .*Tiny doesn't use it"),
        ("Tiny", {"stages": ["bdy", "head"]}, "model.stages: the network has no module 'bdy'; did you mean 'body'"),
        ("Tiny", {"stages": ["body"]}, "model.stages: none of body holds the output layer, head"),
        (
            "Tiny",
            {"stages": ["body.0", "body.2", "head"]},
            "run one after the other, don't give the same output as the network",
        ),
        (
            "Dropping",
            {"arguments": {"defined": "first"}, "stages": ["dropout", "body", "head"]},
            r"don't give the same output as the network, in evaluation and in training \(with dropout\)",
        ),
        ("made_of_nothing", {}, "returned a int; expected a torch.nn.Module"),
        ("without_linear", {}, "has no parameter for the number of classes .* no linear layer at its end"),
    ],
)
def test_what_is_no_classifier_is_refused(kind: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(kind, **settings)


def made_of_nothing(num_classes: int) -> int:
    return num_classes


def without_linear() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_code_of_an_untrusted_package_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWING, "other")
    with pytest.raises(ConfigError, match=r"Tiny' is not from a trusted package .* RAYLIGHT_ALLOWED_TARGETS=tests"):
        build("Tiny")
    for target, arguments in (
        ("torch.hub.load", {}),
        ("torchvision.models.SqueezeNet", {"version": {"_target_": "os.getcwd"}}),
    ):  # as a run folder from elsewhere could have it
        model = ModelConfig(family="own", _target_=target, arguments=arguments, image_size=64)
        with pytest.raises(ConfigError, match=r"nothing else may be called|'os\.getcwd' is not from a trusted package"):
            build_network(model, 2)


def test_weights_are_taken_but_the_head_of_other_classes(tmp_path: Path) -> None:
    old = build("Tiny", 10)
    save_file(
        {name: value.contiguous() for name, value in old.network.state_dict().items()}, tmp_path / "w.safetensors"
    )
    network = build("Tiny", 3, weights=str(tmp_path / "w.safetensors"))
    assert torch.equal(network.network.body[0].weight, old.network.body[0].weight)  # type: ignore[union-attr,index]
    split = build("Uncounted", 2)
    save_file({name: value.contiguous() for name, value in split.state_dict().items()}, tmp_path / "split.safetensors")
    again = build("Uncounted", 2, weights=str(tmp_path / "split.safetensors"))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in split.state_dict().items())
    with pytest.raises(WeightsError, match="of another shape"):
        build("Tiny", 3, arguments={"width": 5}, weights=str(tmp_path / "w.safetensors"))


def test_the_digest_of_code_changes_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import linecache

    file = tmp_path / "digested_package.py"
    monkeypatch.syspath_prepend(tmp_path)
    digests = []
    for factor in (1, 22):
        file.write_text(f"class Layer:\n    factor = {factor}\n")
        importlib.invalidate_caches()
        module = importlib.reload(importlib.import_module("digested_package"))
        linecache.clearcache()
        digests.append(code_digest([module.Layer()]))
    assert len(set(digests)) == 2
    assert code_digest([nn.Linear(1, 1), nn.ReLU()]) == ""


def test_it_is_tried_on_images_of_the_height_and_width_that_it_will_see() -> None:
    network = build("Tiny", image_size=[16, 24])
    assert network(torch.rand(2, 3, 16, 24)).shape == (2, 3)
    with pytest.raises(ConfigError, match=r"fails on images of 2 x 24 pixels \(model.image_size\)"):
        build("Tiny", image_size=[2, 24])
