"""Pictures and classes are mixed by the same shares, the same ones for the same seed, epoch, batch and process."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raylight.config.schema import AugmentConfig
from raylight.data.mixing import Mixer, check_mixing
from raylight.errors import ConfigError

TARGETS = torch.tensor([0, 1, 2, 1])
IMAGES = torch.nn.functional.one_hot(TARGETS, 3).float()[:, :, None, None].expand(4, 3, 8, 8)
"""Each image is 1 in the channel of its class, so that a mixed one shows the shares of its classes."""


@pytest.mark.parametrize("word", ["mixup", "cutmix"])
def test_the_shares_of_the_classes_are_those_of_the_pictures(word: str) -> None:
    mixer, mixtures = Mixer(AugmentConfig(batch=[word]), 3, seed=1), set()
    for batch in range(20):
        mixed, shares = mixer(IMAGES.clone(), TARGETS, 0, batch, 0)
        torch.testing.assert_close(mixed.mean((2, 3)), shares)
        torch.testing.assert_close(shares.sum(1), torch.ones(4))
        mixtures.add(round(float(shares[0, 0]), 4))
    assert len(mixtures) > 5


def test_a_mixture_depends_on_seed_epoch_batch_and_process_alone() -> None:
    def mixed(seed: int, *place: int) -> Tensor:
        torch.rand(int(torch.randint(1, 9, ())))  # what else was drawn doesn't matter
        shares: Tensor = Mixer(AugmentConfig(batch=["mixup", "cutmix"]), 3, seed)(IMAGES.clone(), TARGETS, *place)[1]
        return shares

    assert torch.equal(mixed(1, 2, 3, 0), mixed(1, 2, 3, 0))
    places = [(1, 2, 3, 0), (2, 2, 3, 0), (1, 3, 3, 0), (1, 2, 4, 0), (1, 2, 3, 1)]
    assert len({tuple(mixed(*place).flatten().tolist()) for place in places}) == len(places)
    before = torch.get_rng_state()
    Mixer(AugmentConfig(batch=["mixup"]), 3, 1)(IMAGES.clone(), TARGETS, 0, 0, 0)
    assert torch.equal(torch.get_rng_state(), before)  # the network's dropout is the same with and without


def test_of_several_each_is_drawn() -> None:
    mixer = Mixer(AugmentConfig(batch=["mixup", "cutmix"]), 3, seed=1)
    kinds = {bool(((mixer(IMAGES.clone(), TARGETS, 0, batch, 0)[0] % 1) == 0).all()) for batch in range(20)}
    assert kinds == {True, False}  # CutMix leaves each pixel one class, MixUp blends


class Own(nn.Module):
    def __init__(self, what: str = "good") -> None:
        super().__init__()
        self.what = what

    def forward(self, images: Tensor, targets: Tensor) -> Any:
        given = {"small": (images[..., :4], targets), "columns": (images, targets.float()[:, None]), "one": images}
        return given.get(self.what, (images.flip(0), targets.flip(0)))


class Counting(Own):
    calls_of_all = 0

    def forward(self, images: Tensor, targets: Tensor) -> Any:
        Counting.calls_of_all += 1
        return images + Counting.calls_of_all, targets


def node(kind: str = "Own", **arguments: Any) -> AugmentConfig:
    return AugmentConfig(batch=[{"_target_": f"{__name__}.{kind}", **arguments}])


def test_one_of_the_users_own_may_keep_whole_classes() -> None:
    check_mixing(node(), 1, 8)
    images, targets = Mixer(node(), 3, 1)(IMAGES.clone(), TARGETS, 0, 0, 0)
    assert targets.tolist() == [1, 2, 1, 0]
    assert torch.equal(images, IMAGES.flip(0))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (node(what="small"), r"Own must return images of the shape and type it is given"),
        (node(what="columns"), r"Own must return targets int64\[batch\], or proportions"),
        (node(what="one"), r"augment.batch\[0\]: .*Own fails on a batch: too many values to unpack"),
        (node("Counting"), "Counting gives different results for the same seed, epoch and batch"),
        (node(wat=1), r"augment.batch\[0\]: .*Own: TypeError"),
    ],
)
def test_what_cannot_mix_is_refused(config: AugmentConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_mixing(config, 1, 8)
