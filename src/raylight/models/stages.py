"""A network as an ordered list of named stages, so that any part of it can run alone.

Freezing, cached features and the inference engine all cut a network between two stages; this is the one place that
knows where those cuts may lie. Leaves out how a network is built (``models.families``).
"""

import re
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor, nn

from raylight.config.rules.shapes import Size, height_width
from raylight.models.depthwise import keep_format


class StagedNetwork(nn.Module):
    """Runs all of a network's stages, or those from one position to another.

    The network keeps its own parameter names, below ``network.``. Stages are looked up in it by name; operations
    that a network's forward only calls as functions (pooling, flattening) are added as stages without parameters.

    Args:
        network: holds all parameters.
        stage_names: each stage's path inside ``network``, or its name in ``added``, in running order.
        head_start: position of the first stage of the classifier head; what lies below can be kept when the classes
            change.
        added: stages without parameters that ``network`` doesn't hold.
        sequential: False when the network couldn't be cut; then ``stage_names`` is ``("network",)``.

    Attributes:
        frozen_below: stages before this position stay in eval mode, whatever ``train()`` is called.
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

    def stage(self, position: int) -> nn.Module:
        """The module at a position."""
        name = self.stage_names[position]
        if not self.sequential:
            return self.network
        return self._added[name] if name in self._added else self.network.get_submodule(name)

    def position(self, name: str) -> int:
        """Position of a stage.

        Raises:
            KeyError: there is no such stage.
        """
        try:
            return self.stage_names.index(name)
        except ValueError:
            raise KeyError(name) from None

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch output"]:
        """Logits of normalised images."""
        return self.run(images, 0, None)

    def run(self, values: Float[Tensor, "batch ..."], start: int, stop: int | None) -> Float[Tensor, "batch ..."]:
        """Run stages ``start`` to ``stop``, the latter excluded.

        Args:
            values: what enters stage ``start``; normalised images for 0.
            start: first stage to run.
            stop: first stage not to run; None runs to the end, whose output are the logits.
        """
        for position in range(len(self.stage_names))[start:stop]:
            values = self.stage(position)(values)
            if self.training:
                keep_format(values)
        return values

    def state_between(self, start: int, stop: int | None) -> dict[str, Tensor]:
        """Parameters and buffers of stages ``start`` to ``stop``, by their names in ``state_dict()``."""
        state: dict[str, Tensor] = {}
        for position in range(len(self.stage_names))[start:stop]:
            prefix = f"network.{self.stage_names[position]}." if self.sequential else "network."
            state.update(self.stage(position).state_dict(prefix=prefix))
        return state

    def train(self, mode: bool = True) -> "StagedNetwork":
        """Set training mode; frozen stages stay in eval, so that BatchNorm keeps its statistics."""
        super().train(mode)
        for position in range(self.frozen_below):
            self.stage(position).eval()
        return self


class _SpatialMean(nn.Module):
    def forward(self, values: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel"]:
        return values.mean((2, 3))


class _TokenPool(nn.Module):
    """The first token, or the mean of the tokens from one on; of (batch, token, feature)."""

    def __init__(self, mean_from: int | None) -> None:
        super().__init__()
        self.mean_from = mean_from

    def forward(self, values: Float[Tensor, "batch token feature"]) -> Float[Tensor, "batch feature"]:
        return values[:, 0] if self.mean_from is None else values[:, self.mean_from :].mean(1)


def flat_stages(network: nn.Module, prefix: str = "", opened: Collection[str] = ()) -> list[str]:
    """Paths of a network's modules, in order, with ``Sequential`` and ``ModuleList`` opened up.

    Args:
        network: any module.
        prefix: put before each path.
        opened: paths of further modules to open up.
    """
    names: list[str] = []
    for name, child in network.named_children():
        if type(child) in (nn.Sequential, nn.ModuleList) or _is_plain_sequential(child) or prefix + name in opened:
            names += flat_stages(child, f"{prefix}{name}.", opened)
        else:
            names.append(prefix + name)
    return names


def _is_plain_sequential(module: nn.Module) -> bool:
    """A subclass that only presets a ``Sequential``'s parts; units like Conv+BatchNorm+ReLU stay whole."""
    return (
        isinstance(module, nn.Sequential)
        and type(module).forward is nn.Sequential.forward
        and any(True for child in module.children() if any(True for _ in child.children()))
    )


def find_stages(
    network: nn.Module, head: str, image_size: Size, opened: Collection[str] = (), named: Sequence[str] = ()
) -> tuple[tuple[str, ...], dict[str, nn.Module]] | None:
    """Find the order of modules that computes what a network's own forward computes.

    Tries the modules in the order of their definition, with the operations that torchvision's classifiers call as functions
    (ReLU, pooling, flattening) put in where a classifier would have them, and takes the first chain whose output on
    random images equals the network's, bit for bit.

    Args:
        network: any classifier.
        head: path of the module that holds the output layer.
        image_size: height and width of the images to try, in pixels.
        opened: paths of modules whose own children are to be stages.
        named: the stages in their order, where it is known.

    Returns:
        The stages' names and the added stages by name; None when no chain was found.
    """
    names = list(named) or [name for name in flat_stages(network, opened=opened) if not _is_unused(network, name)]
    top = [name.split(".")[0] for name in names]
    cuts = [position for position in range(1, len(names)) if top[position] != top[position - 1]] + [len(names)]
    candidates: list[dict[str, nn.Module]] = [
        {},
        {"flatten": nn.Flatten()},
        {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()},
        {"mean": _SpatialMean()},
        {"relu": nn.ReLU(), "pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()},
    ]
    images = _probe(image_size)
    near_head = [cut for cut in cuts if cut >= top.index(head.split(".")[0]) - 1]
    with _probing(network), torch.inference_mode():
        expected = network(images)
        trunk = _run(network, {}, names[: near_head[0]], images)
        if trunk is None:
            return None
        for added, cut in product(candidates, near_head):
            chain = [*names[near_head[0] : cut], *added, *names[cut:]]
            result = _run(network, added, chain, trunk.clone())  # some stages work in place
            if result is not None and torch.equal(result, expected):
                return (*names[: near_head[0]], *chain), added
    return None


def split_head(network: nn.Module, head: str, image_size: Size) -> StagedNetwork | None:
    """Batching a network whose layers don't run in sequence, such as a vision transformer, once: into body and head.

    Works wherever the head's output is the network's output.

    Args:
        network: any classifier; its head is taken out when this succeeds.
        head: path of the head.
        image_size: height and width of the images to try, in pixels.

    Returns:
        A network of the stages ``body`` and ``head`` (or the parts of it); None when the network isn't its body's output
        put through the head.
    """
    parent_name, _, name = head.rpartition(".")
    parent, module = network.get_submodule(parent_name), network.get_submodule(head)
    images = _probe(image_size)
    with _probing(network), torch.inference_mode():
        expected = network(images)
        setattr(parent, name, nn.Identity())
        result = _run(nn.ModuleDict({"body": network, "head": module}), {}, ["body", "head"], images)
    if result is None or not torch.equal(result, expected):
        setattr(parent, name, module)
        return None
    parts = nn.Sequential(OrderedDict(body=network, head=module))
    return StagedNetwork(parts, ["body", *(flat_stages(module, "head.") or ["head"])], head_start=1)


_BLOCKS = ("blocks", "norm", "fc_norm", "head_drop", "head")


def split_blocks(network: nn.Module, image_size: Size) -> StagedNetwork | None:
    """Batching a transformer of timm's kind into its embedding, its blocks, the pooling of its tokens and its head.

    Works wherever the blocks run in sequence on the embedded tokens alone. The embedding is the network itself, with all
    that follows taken out.

    Args:
        network: any classifier; what ``_BLOCKS`` names is taken out when this succeeds.
        image_size: height and width of the images to try, in pixels.

    Returns:
        A network of the stages ``body``, ``blocks.0``, ..., ``head``; None when the network doesn't run so.
    """
    parts = {name: part for name in _BLOCKS if isinstance(part := getattr(network, name, None), nn.Module)}
    pooled_by = getattr(network, "global_pool", None)
    if list(parts)[:2] != ["blocks", "norm"] or "head" not in parts or not isinstance(pooled_by, str):
        return None
    images, prefix = _probe(image_size), int(getattr(network, "num_prefix_tokens", 0))
    with _probing(network), torch.inference_mode():
        expected = network(images)
        network.global_pool = ""  # type: ignore[assignment]
        for name in parts:
            setattr(network, name, nn.Identity())
        for mean_from in (None, prefix, 0):
            pool = {"pool": _TokenPool(mean_from)}
            ordered = {"body": network, "blocks": parts["blocks"], "norm": parts["norm"], **pool, **parts}
            sequence = nn.Sequential(OrderedDict(ordered))
            stages = flat_stages(sequence)
            result = _run(sequence, {}, stages, images)
            if result is not None and torch.equal(result, expected):
                start = next(place for place, name in enumerate(stages) if name.split(".")[0] == "head")
                return StagedNetwork(sequence, stages, start)
        network.global_pool = pooled_by  # type: ignore[assignment]
        for name, part in parts.items():
            setattr(network, name, part)
    return None


def whole(state: Mapping[str, Tensor], head: str) -> Mapping[str, Tensor]:
    """A state dict by the names that the network had before ``split_head`` or ``split_blocks`` cut it; another's as it is.

    Args:
        state: of a network.
        head: path of the head.
    """
    if not any(name.startswith("body.") for name in state):
        return state
    return {re.sub(r"^head\.", f"{head}.", name).removeprefix("body."): value for name, value in state.items()}


def _probe(size: Size) -> Float[Tensor, "2 3 height width"]:
    return torch.rand(2, 3, *height_width(size), generator=torch.Generator().manual_seed(0)) * 2 - 1


def _is_unused(network: nn.Module, name: str) -> bool:
    """Auxiliary classifiers are children of a network but not on its way to the output."""
    return name.lower().startswith("aux")


def _run(network: nn.Module, added: dict[str, nn.Module], names: Sequence[str], values: Tensor) -> Tensor | None:
    for name in names:
        try:
            values = (added[name] if name in added else network.get_submodule(name))(values)
        except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, AssertionError, AttributeError):
            return None  # shapes don't fit: this is not the order in which the network runs
    return values


@contextmanager
def _probing(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, but BatchNorm uses (and doesn't keep) the probe's own statistics, and no parameter is zero all over.

    In a randomly started deep network the signal would else fade to nothing or overflow, and in one whose classifier starts
    from zero all outputs are alike: wrong chains would look right.
    """
    zeros = [parameter for parameter in network.parameters() if not parameter.any()]
    modes = [(module, module.training) for module in network.modules()]
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    tracking = [norm.track_running_stats for norm in norms]
    network.eval()
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    for parameter in zeros:
        parameter.data = torch.linspace(-0.1, 0.1, parameter.numel(), dtype=parameter.dtype).reshape(parameter.shape)
    try:
        yield
    finally:
        for parameter in zeros:
            parameter.data = torch.zeros_like(parameter)
        for module, mode in modes:
            module.training = mode
        for norm, tracked in zip(norms, tracking, strict=True):
            norm.track_running_stats = tracked
