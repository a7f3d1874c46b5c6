"""A network as an ordered list of named stages, so that any part of it can run alone.

Freezing, cached features and the inference engine all split a network between two stages; the possible splits are found
here. Leaves out how a network is built (``models.families``).
"""

import re
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor, nn

from raylight.config.rules.shapes import Size
from raylight.models.depthwise import keep_gradient_format
from raylight.models.same_outputs import Outputs, comparable, random_images, run_stages


class StagedNetwork(nn.Module):
    """Runs all stages of a network, or those from one position to another.

    The parameters keep their names in the network, with the prefix ``network.``. Stages are modules of the network; operations
    that its forward calls as functions (pooling, flattening) are added as stages without parameters.

    Args:
        network: holds all parameters.
        stage_names: path of each stage inside ``network``, or its name in ``added``, in the order in which they run.
        head_start: position of the first stage of the classifier head; the stages below don't depend on the classes.
        added: stages without parameters that ``network`` lacks, by name.
        sequential: False if the network couldn't be split; then ``stage_names`` is ``("network",)``.

    Attributes:
        frozen_below: stages before this position stay in eval mode, even after ``train()``.
    """

    def __init__(
        self,
        network: nn.Module,
        stage_names: Sequence[str],
        head_start: int,
        added: dict[str, nn.Module] | None = None,
        *,
        sequential: bool = True,
    ) -> None:
        super().__init__()
        self.network = network
        self.stage_names = tuple(stage_names)
        self.head_start = head_start
        self.sequential = sequential
        self.frozen_below = 0
        self._added = dict(added or {})

    @classmethod
    def undivided(cls, network: nn.Module) -> "StagedNetwork":
        """A network that can't be split: it is a single stage."""
        return cls(network, ["network"], 0, sequential=False)

    def stage(self, position: int) -> nn.Module:
        """The module at a position."""
        name = self.stage_names[position]
        if not self.sequential:
            return self.network
        return self._added[name] if name in self._added else self.network.get_submodule(name)

    def position(self, name: str) -> int:
        """The position of a stage.

        Args:
            name: one of ``stage_names``.

        Returns:
            Its index, from 0.

        Raises:
            KeyError: there is no such stage.
        """
        try:
            return self.stage_names.index(name)
        except ValueError:
            raise KeyError(name) from None

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch output"]:
        """The logits of normalised images."""
        return self.run(images, 0, None)

    def run(self, values: Float[Tensor, "batch ..."], start: int, stop: int | None) -> Float[Tensor, "batch ..."]:
        """Runs some of the stages.

        Args:
            values: the input of stage ``start``; normalised images for 0.
            start: first stage to run.
            stop: first stage not to run; ``None`` runs to the end.

        Returns:
            The output of the last of these stages; logits at the end.
        """
        for position in range(len(self.stage_names))[start:stop]:
            values = self.stage(position)(values)
            if self.training:
                keep_gradient_format(values)
        return values

    def state_between(self, start: int, stop: int | None) -> dict[str, Tensor]:
        """Collects the parameters and buffers of some of the stages.

        Args:
            start: the first stage.
            stop: the first stage that isn't among them; ``None`` goes to the end.

        Returns:
            Tensors by their names in ``state_dict()``.
        """
        state: dict[str, Tensor] = {}
        for position in range(len(self.stage_names))[start:stop]:
            prefix = f"network.{self.stage_names[position]}." if self.sequential else "network."
            state.update(self.stage(position).state_dict(prefix=prefix))
        return state

    def train(self, mode: bool = True) -> "StagedNetwork":
        """Sets the training mode; frozen stages stay in eval mode, so that BatchNorm keeps its statistics."""
        super().train(mode)
        for position in range(self.frozen_below):
            self.stage(position).eval()
        return self


class _SpatialMean(nn.Module):
    def forward(self, values: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel"]:
        return values.mean((2, 3))


class _TokenPool(nn.Module):
    """The first token, or the mean of all tokens from a position on."""

    def __init__(self, mean_from: int | None) -> None:
        super().__init__()
        self.mean_from = mean_from

    def forward(self, values: Float[Tensor, "batch token feature"]) -> Float[Tensor, "batch feature"]:
        return values[:, 0] if self.mean_from is None else values[:, self.mean_from :].mean(1)


def flat_stages(network: nn.Module, prefix: str = "", opened: Collection[str] = ()) -> list[str]:
    """Lists the modules of a network in order, with the children of ``Sequential`` and ``ModuleList`` in their places.

    Args:
        network: any module.
        prefix: put before each path.
        opened: paths of further modules to replace by their children.

    Returns:
        Paths of the modules.
    """
    names: list[str] = []
    for name, child in network.named_children():
        if type(child) in (nn.Sequential, nn.ModuleList) or _is_plain_sequential(child) or prefix + name in opened:
            names += flat_stages(child, f"{prefix}{name}.", opened)
        else:
            names.append(prefix + name)
    return names


def _is_plain_sequential(module: nn.Module) -> bool:
    """Whether a module is a subclass of ``Sequential`` with nested modules; units like Conv+BatchNorm+ReLU stay whole."""
    return (
        isinstance(module, nn.Sequential)
        and type(module).forward is nn.Sequential.forward
        and any(True for child in module.children() if any(True for _ in child.children()))
    )


def find_stages(
    network: nn.Module, head: str, image_size: Size, opened: Collection[str] = (), named: Sequence[str] = ()
) -> tuple[tuple[str, ...], dict[str, nn.Module]] | None:
    """Finds a sequence of modules that computes the same as a network's forward.

    Tries the modules in the order of their definition, with the operations that torchvision's classifiers call as functions
    (ReLU, pooling, flattening) inserted where a classifier has them, and takes the first sequence whose output on random
    images equals the network's, bit for bit, in eval mode and in training mode with the same random numbers.

    Args:
        network: any classifier.
        head: path of the module that holds the output layer.
        image_size: height and width of the random images, in pixels.
        opened: paths of modules whose children become stages.
        named: the stages in their order, where it is known.

    Returns:
        The names of the stages, and the added stages by name; ``None`` if no sequence was found.
    """
    names = list(named) or [name for name in flat_stages(network, opened=opened) if not _is_unused(network, name)]
    top = [name.split(".")[0] for name in names]
    splits = [position for position in range(1, len(names)) if top[position] != top[position - 1]] + [len(names)]
    candidates: list[dict[str, nn.Module]] = [
        {},
        {"flatten": nn.Flatten()},
        {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()},
        {"mean": _SpatialMean()},
        {"relu": nn.ReLU(), "pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()},
    ]
    images = random_images(image_size)
    near_head = [split for split in splits if split >= top.index(head.split(".")[0]) - 1]
    with comparable(network), torch.inference_mode():
        expected = Outputs.of(network, images)
        trunk = run_stages(network, {}, names[: near_head[0]], images)
        if trunk is None:
            return None
        for added, split in product(candidates, near_head):
            sequence = [*names[near_head[0] : split], *added, *names[split:]]
            result = run_stages(network, added, sequence, trunk.clone())  # some stages work in place
            if result is None or not torch.equal(result, expected.evaluated):
                continue
            whole = (*names[: near_head[0]], *sequence)
            if expected.are_those_of(network, partial(run_stages, network, added, whole)):
                return whole, added
    return None


def split_head(network: nn.Module, head: str, image_size: Size) -> StagedNetwork | None:
    """Splits a network whose layers don't run in sequence, such as a vision transformer, into body and head.

    Works wherever the output of the head is the output of the network.

    Args:
        network: any classifier; its head is removed if this succeeds.
        head: path of the head.
        image_size: height and width of the random images to compare on, in pixels.

    Returns:
        A network of the stages ``body`` and ``head`` (or its parts); ``None`` if it doesn't give the same output.
    """
    parent_name, _, name = head.rpartition(".")
    parent, module = network.get_submodule(parent_name), network.get_submodule(head)
    with comparable(network), torch.inference_mode():
        expected = Outputs.of(network, random_images(image_size))
        setattr(parent, name, nn.Identity())
        parts = nn.Sequential(OrderedDict(body=network, head=module))
        same = expected.are_those_of(parts, partial(run_stages, parts, {}, ["body", "head"]))
    if not same:
        setattr(parent, name, module)
        return None
    return StagedNetwork(parts, ["body", *(flat_stages(module, "head.") or ["head"])], head_start=1)


_BLOCKS = ("blocks", "norm", "fc_norm", "head_drop", "head")


def split_blocks(network: nn.Module, image_size: Size) -> StagedNetwork | None:
    """Splits a transformer of timm into its embedding, its blocks, the pooling of its tokens and its head.

    Works wherever the blocks run in sequence on the embedded tokens alone. The embedding is the network itself without the
    modules that follow.

    Args:
        network: any classifier; its modules in ``_BLOCKS`` are removed if this succeeds.
        image_size: height and width of the random images to compare on, in pixels.

    Returns:
        A network of the stages ``body``, ``blocks.0``, ..., ``head``; ``None`` if it doesn't give the same output.
    """
    parts = {name: part for name in _BLOCKS if isinstance(part := getattr(network, name, None), nn.Module)}
    pooling = getattr(network, "global_pool", None)
    if list(parts)[:2] != ["blocks", "norm"] or "head" not in parts or not isinstance(pooling, str):
        return None
    prefix = int(getattr(network, "num_prefix_tokens", 0))
    with comparable(network), torch.inference_mode():
        expected = Outputs.of(network, random_images(image_size))
        network.global_pool = ""  # type: ignore[assignment]
        for name in parts:
            setattr(network, name, nn.Identity())
        for mean_from in (None, prefix, 0):
            pool = {"pool": _TokenPool(mean_from)}
            ordered = {"body": network, "blocks": parts["blocks"], "norm": parts["norm"], **pool, **parts}
            sequence = nn.Sequential(OrderedDict(ordered))
            stages = flat_stages(sequence)
            if expected.are_those_of(sequence, partial(run_stages, sequence, {}, stages)):
                start = next(position for position, name in enumerate(stages) if name.split(".")[0] == "head")
                return StagedNetwork(sequence, stages, start)
        network.global_pool = pooling  # type: ignore[assignment]
        for name, part in parts.items():
            setattr(network, name, part)
    return None


def original_names(state: Mapping[str, Tensor], head: str) -> Mapping[str, Tensor]:
    """Gives the tensors of a network that ``split_head`` or ``split_blocks`` has split their original names.

    Args:
        state: state dict of a network.
        head: path of the head in the original network.

    Returns:
        The renamed state dict; that of another network as it is.

    Example:
        >>> dict(original_names({"body.conv": torch.ones(1), "head.bias": torch.ones(1)}, "fc"))
        {'conv': tensor([1.]), 'fc.bias': tensor([1.])}
    """
    if not any(name.startswith("body.") for name in state):
        return state
    return {re.sub(r"^head\.", f"{head}.", name).removeprefix("body."): value for name, value in state.items()}


def _is_unused(network: nn.Module, name: str) -> bool:
    """Whether a module is an auxiliary classifier, on which the output doesn't depend."""
    return name.lower().startswith("aux")
