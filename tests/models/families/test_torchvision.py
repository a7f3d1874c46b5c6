import copy

import pytest
import torch
from torch import nn

from raylight.config.schema import ModelConfig
from raylight.errors import ConfigError
from raylight.models.build import build_network
from raylight.models.stages import StagedNetwork

NAME = "shufflenet_v2_x0_5"


def build(name: str = NAME, n_classes: int = 2, **settings: object) -> StagedNetwork:
    return build_network(ModelConfig(name=name, family="torchvision", **settings), n_classes)  # type: ignore[arg-type]


def test_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="no classifier 'resnet81'; did you mean 'resnet18'"):
        build("resnet81")


def test_dropout_is_set_once_where_torchvision_has_its_own() -> None:
    network = build("mobilenet_v2", dropout=0.3)
    dropouts = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    assert [dropout.p for dropout in dropouts] == [0.3]
    assert network.stage_names[network.head_start :] == ("classifier.0", "classifier.1")


def test_dense_layers_and_dropout_form_the_new_head() -> None:
    network = build("resnet18", n_classes=4, dense=[64], dropout=0.5)
    head = [network.stage(position) for position in range(network.head_start, len(network.stage_names))]
    assert [type(module).__name__ for module in head] == ["Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert (head[1].in_features, head[1].out_features, head[4].out_features) == (512, 64, 4)


def test_squeezenet_can_say_no() -> None:
    torch.manual_seed(0)
    logits = build("squeezenet1_1", dense=[8])(torch.randn(8, 3, 64, 64))
    assert logits.shape == (8, 2)
    assert (logits < 0).any()


def test_squeezenets_head_judges_each_place_by_itself_and_averages() -> None:
    """Which is a dense network at each place of the feature map."""
    torch.manual_seed(0)
    network = build("squeezenet1_1", n_classes=3, dense=[8], dropout=0.0).eval()
    hidden, output = [module for module in network.modules() if isinstance(module, nn.Conv2d)][-2:]
    cells = torch.randn(2, 512, 4, 4)
    wide = torch.relu(torch.einsum("nihw,oi->nohw", cells, hidden.weight[:, :, 0, 0]) + hidden.bias[:, None, None])
    places = torch.einsum("nihw,oi->nohw", wide, output.weight[:, :, 0, 0]) + output.bias[:, None, None]
    logits = cells
    for position in range(network.head_start, len(network.stage_names)):
        logits = network.stage(position)(logits)
    torch.testing.assert_close(logits.flatten(1), places.mean(dim=(2, 3)))


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_images_in_imagenets_normalisation_are_converted_as_torchvision_does(name: str) -> None:
    torch.manual_seed(0)
    network = build(name, image_size=96, normalize="imagenet", dropout=0.0).eval()
    assert network.sequential
    assert network.stage_names[0] == "transform_input"
    theirs = copy.deepcopy(network.network)
    assert theirs.transform_input is False
    theirs.transform_input = True
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        converted = network.run(images, 0, 1)
        assert torch.equal(converted, theirs._transform_input(images))
        assert not torch.equal(converted, images)
        assert torch.equal(network(images), theirs(images))
    assert build(name, image_size=96, normalize="centered").stage_names[0] != "transform_input"


def test_what_takes_squares_alone_says_so() -> None:
    with pytest.raises(ConfigError, match=r"model\.image_size: vit_b_32 takes square images, not 64 x 96 pixels"):
        build("vit_b_32", image_size=[64, 96])
    assert build(image_size=[64, 96]).eval()(torch.zeros(1, 3, 64, 96)).shape == (1, 2)
