"""Rewrites a frozen network into fewer, faster operations that compute the same.

BatchNorm is folded into the convolution before it; activations and residual sums become part of the convolution that
feeds them; convolution weights are brought into the order that the processor's kernels want, once instead of at each
call; normalisation of pixels moves into the first convolution. Threads and memory maps are left to ``inference``.

Works on ``torch.fx`` graphs, on the processor. A stage that can't be traced stays as it is.
"""

import copy
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata
from torch.nn import functional as nnf
from torch.nn.utils.fusion import fuse_conv_bn_weights

from raylight.models.preprocessing import Preprocessing

CACHE_BYTES = 5_000_000
"""Largest activation that a piece of a batch may have. Measured on MobileNetV2 and ResNet18 with 1 MB of second-level
cache a core and 32 MB of third-level: smaller pieces cost more calls, larger ones leave the cache."""

Read = Callable[[Shaped[np.ndarray, "row ..."], Int64[np.ndarray, " batch"]], Tensor]
"""Makes the first operation's input from rows of a store."""


@dataclass(frozen=True)
class Section:
    """A part of a rewritten network, and how many images it takes at once."""

    module: fx.GraphModule
    piece: int


@dataclass(frozen=True)
class Program:
    """A rewritten network.

    Attributes:
        read: takes uint8[row, height, width, 3] for a network that begins with pixels, else float32[row, ...].
        sections: run one after the other.
        output_shape: of one image's output.
    """

    read: Read
    sections: tuple[Section, ...]
    output_shape: tuple[int, ...]

    def __call__(
        self, store: Shaped[np.ndarray, "row ..."], rows: Int64[np.ndarray, " batch"]
    ) -> Float[Tensor, "batch ..."]:
        """Outputs of some rows of a store, in their order."""
        values = self.read(store, rows)
        for section in self.sections:
            pieces = [section.module(piece) for piece in values.split(section.piece)]
            values = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        return values.float()


@torch.inference_mode()
def rewrite(
    stages: Sequence[nn.Module],
    example: Float[Tensor, "1 ..."],
    preprocessing: Preprocessing | None,
    dtype: torch.dtype,
    piece: int,
) -> Program:
    """Rewrite a chain of stages.

    Args:
        stages: run in order; not changed.
        example: what enters the first stage, for one image. Its values don't matter.
        preprocessing: of the pixels that will be read; None where features will.
        dtype: float32 or bfloat16. The tail after the last convolution or attention (pooling, dense layers) stays in
            float32: it costs little and decides most.
        piece: images at once where the cache allows it.
    """
    graph = _trace([copy.deepcopy(stage).eval() for stage in stages])
    _drop_idle(graph)
    _fold_batch_norm(graph)
    ShapeProp(graph).propagate(example)
    _fuse_convolutions(graph)
    entry_dtype = _set_types(graph, dtype)
    if preprocessing is None:
        read = _features(entry_dtype)
    else:
        read = _pixels_for_convolution(graph, preprocessing, dtype) or _normalised(preprocessing, entry_dtype)
    sections = _sections(graph, piece, dtype)
    for section in sections:
        for module in section.module.modules():
            if isinstance(module, _Convolution):
                module.pack(dtype, section.piece)
    return Program(read, sections, _shape(_output(graph))[1:])


class _Chain(nn.Module):
    def __init__(self, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, values: Tensor) -> Tensor:
        for stage in self.stages:
            values = stage(values)
        return values


class _Tracer(fx.Tracer):
    """Looks into every module but torch's own and those that were found untraceable."""

    def __init__(self, whole: set[nn.Module]) -> None:
        super().__init__()
        self.whole = whole

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m in self.whole or super().is_leaf_module(m, module_qualified_name)


def _trace(stages: Sequence[nn.Module]) -> fx.GraphModule:
    whole: set[nn.Module] = set()
    for stage in stages:
        try:
            _Tracer(set()).trace(_Chain([stage]))
        except Exception:
            whole.add(stage)
    chain = _Chain(stages)
    return fx.GraphModule(chain, _Tracer(whole).trace(chain))


def _module(graph: fx.GraphModule, node: Any) -> nn.Module | None:
    if isinstance(node, fx.Node) and node.op == "call_module":
        return graph.get_submodule(cast("str", node.target))
    return None


def _put(graph: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    parent, _, name = cast("str", node.target).rpartition(".")
    setattr(graph.get_submodule(parent), name, module)


def _output(graph: fx.GraphModule) -> fx.Node:
    return cast("fx.Node", next(node for node in graph.graph.nodes if node.op == "output").args[0])


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _uses(graph: fx.GraphModule, node: fx.Node) -> int:
    """How often a graph calls the module that a node calls; a shared module can't be changed for one caller."""
    return sum(other.op == "call_module" and other.target == node.target for other in graph.graph.nodes)


def _drop_idle(graph: fx.GraphModule) -> None:
    """Remove dropout, stochastic depth and identities, which do nothing in eval."""
    for node in list(graph.graph.nodes):
        module = _module(graph, node)
        idle = isinstance(module, nn.Identity | nn.modules.dropout._DropoutNd)
        idle |= type(module).__name__ == "StochasticDepth"
        idle |= node.op == "call_function" and getattr(node.target, "__name__", "") in (
            "dropout",
            "stochastic_depth",
        )
        if idle:
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.recompile()


def _fold_batch_norm(graph: fx.GraphModule) -> None:
    for node in list(graph.graph.nodes):
        norm = _module(graph, node)
        before = node.args[0] if node.args else None
        conv = _module(graph, before)
        if type(norm) is not nn.BatchNorm2d or type(conv) is not nn.Conv2d:
            continue
        if len(before.users) > 1 or _uses(graph, before) > 1 or norm.running_mean is None or norm.running_var is None:
            continue
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)
    graph.recompile()


class _Convolution(nn.Module):
    """A convolution followed by an optional residual sum and an optional activation, in one call of oneDNN.

    ``torch.ops.mkldnn`` are the operators that torch's compiler puts in for the same purpose.
    """

    def __init__(self, conv: nn.Conv2d, activation: "_Activation | None", input_shape: Sequence[int]) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
        self.padding = list(cast("tuple[int, ...]", conv.padding))
        self.stride, self.dilation, self.groups = list(conv.stride), list(conv.dilation), conv.groups
        self.activation = activation or _Activation("none")
        self.input_shape = list(input_shape)

    def pack(self, dtype: torch.dtype, piece: int) -> None:
        """Bring the weights into a type and into the kernels' order for pieces of a size."""
        weight = self.weight.to(dtype).contiguous(memory_format=torch.channels_last)
        shape = [piece, *self.input_shape[1:]]
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(
            weight, self.padding, self.stride, self.dilation, self.groups, shape
        )
        self.bias = None if self.bias is None else self.bias.to(dtype)

    def forward(self, values: Tensor, other: Tensor | None = None) -> Tensor:
        name, scalars, algorithm = (
            self.activation.name,
            list(self.activation.scalars),
            self.activation.algorithm,
        )
        where = (self.padding, self.stride, self.dilation, self.groups)
        if other is None:
            result = torch.ops.mkldnn._convolution_pointwise(
                values, self.weight, self.bias, *where, name, scalars, algorithm
            )
        else:
            result = torch.ops.mkldnn._convolution_pointwise.binary(
                values,
                other,
                self.weight,
                self.bias,
                *where,
                "add",
                1.0,
                None if name == "none" else name,
                scalars,
                "",
            )
        return cast("Tensor", result)


@dataclass(frozen=True)
class _Activation:
    """An activation as oneDNN's convolution knows it."""

    name: str
    scalars: tuple[float, ...] = ()
    algorithm: str = ""


def _activation(graph: fx.GraphModule, node: fx.Node | None) -> _Activation | None:
    match _module(graph, node):
        case nn.ReLU6():
            return _Activation("hardtanh", (0.0, 6.0))
        case nn.ReLU():
            return _Activation("relu")
        case nn.SiLU():
            return _Activation("swish")
        case nn.Hardswish():
            return _Activation("hardswish")
        case nn.Sigmoid():
            return _Activation("sigmoid")
        case nn.GELU() as gelu:
            return _Activation("gelu", (), gelu.approximate)
    if node is not None and node.op == "call_function" and node.target in (torch.relu, torch.relu_, nnf.relu):
        return _Activation("relu")
    return None


def _fuse_convolutions(graph: fx.GraphModule) -> None:
    for node in list(graph.graph.nodes):
        conv = _module(graph, node)
        if type(conv) is not nn.Conv2d or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            continue
        if _uses(graph, node) > 1:
            continue
        last, other = node, None
        user = _only_user(node)
        if user is not None and user.target in (operator.add, operator.iadd, torch.add) and len(user.args) == 2:
            summand = cast("fx.Node", user.args[1] if user.args[0] is node else user.args[0])
            if summand is not node and _same_shape(summand, node):
                last, other = user, summand
        activation = _activation(graph, _only_user(last))
        if activation is not None and (other is None or activation.name == "relu"):
            last = cast("fx.Node", _only_user(last))
        else:
            activation = None
        _put(graph, node, _Convolution(conv, activation, _shape(cast("fx.Node", node.args[0]))))
        with graph.graph.inserting_before(last):
            fused = graph.graph.call_module(cast("str", node.target), (node.args[0], *([other] if other else [])))
        fused.meta = dict(last.meta)
        last.replace_all_uses_with(fused)
        graph.graph.eliminate_dead_code()
    graph.recompile()


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["tensor_meta"].shape)


def _same_shape(first: Any, second: fx.Node) -> bool:
    return isinstance(first, fx.Node) and "tensor_meta" in first.meta and _shape(first) == _shape(second)


def _features(dtype: torch.dtype) -> Read:
    def read(store: Shaped[np.ndarray, "row ..."], rows: Int64[np.ndarray, " batch"]) -> Tensor:
        values = torch.from_numpy(store[rows]).to(dtype)
        return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values

    return read


def _normalised(preprocessing: Preprocessing, dtype: torch.dtype) -> Read:
    def read(store: Shaped[np.ndarray, "row ..."], rows: Int64[np.ndarray, " batch"]) -> Tensor:
        return preprocessing.normalise(torch.from_numpy(store[rows])).to(dtype)

    return read


def _pixels_for_convolution(graph: fx.GraphModule, preprocessing: Preprocessing, dtype: torch.dtype) -> Read | None:
    """Let the first convolution read pixels minus 128, which even bfloat16 holds exactly.

    Scale and mean move into its weights and bias; its zero padding becomes a border of the mean colour, which is what
    zero was before normalisation.

    Returns:
        What reads pixels into such images; None when the images don't enter one plain convolution alone.
    """
    user = _only_user(next(node for node in graph.graph.nodes if node.op == "placeholder"))
    conv = _module(graph, user)
    if user is None or len(user.args) > 1 or not isinstance(conv, _Convolution) or conv.groups > 1:
        return None
    mean = torch.tensor(preprocessing.mean, dtype=torch.float64).reshape(1, 3, 1, 1) * 255 - 128
    std = torch.tensor(preprocessing.std, dtype=torch.float64).reshape(1, 3, 1, 1) * 255
    # The bias goes by the rounded weights, so that rounding them errs around the mean colour and not around black.
    weight = (conv.weight.double() / std).to(dtype)
    bias = -(weight.double() * mean).sum((1, 2, 3))
    conv.bias = (bias if conv.bias is None else bias + conv.bias.double()).float()
    conv.weight = weight.float()
    (above, left), conv.padding = conv.padding, [0, 0]
    border = mean.to(dtype)

    def read(store: Shaped[np.ndarray, "row ..."], rows: Int64[np.ndarray, " batch"]) -> Tensor:
        height, width = store.shape[1:3]
        centred = np.empty((len(rows), height, width, 3), np.int8)
        for place, row in enumerate(rows):  # one by one: indexing with an array would copy the pixels once more
            np.bitwise_xor(store[row], 128, out=centred[place].view(np.uint8))
        shape = (len(rows), 3, height + 2 * above, width + 2 * left)
        images = torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)
        images[:, :, :above], images[:, :, above + height :] = border, border
        images[..., :left], images[..., left + width :] = border, border
        images[:, :, above : above + height, left : left + width] = torch.from_numpy(centred).permute(0, 3, 1, 2)
        return images

    return read


_TAIL = (nn.Linear, nn.Flatten, nn.AdaptiveAvgPool2d, nn.ReLU, nn.Hardswish, nn.Tanh)


def _set_types(graph: fx.GraphModule, dtype: torch.dtype) -> torch.dtype:
    """Bring everything but the tail into a type; returns the type of what enters the graph."""
    graph.to(dtype)
    before = _output(graph)
    while isinstance(_module(graph, before), _TAIL):
        cast("nn.Module", _module(graph, before)).float()
        before = cast("fx.Node", before.args[0])
    if before.op == "placeholder":
        return torch.float32
    if before is not _output(graph) and dtype != torch.float32:
        with graph.graph.inserting_after(before):
            widened = graph.graph.call_method("float", (before,))
        widened.meta = dict(before.meta)
        before.replace_all_uses_with(widened, delete_user_cb=lambda user: user is not widened)
    return dtype


def _sections(graph: fx.GraphModule, piece: int, dtype: torch.dtype) -> tuple[Section, ...]:
    """Cut a graph where a single value passes, and join neighbours that take pieces of the same size."""
    nodes = [node for node in graph.graph.nodes if node.op not in ("placeholder", "output", "get_attr")]
    entry = next(node for node in graph.graph.nodes if node.op == "placeholder")
    place = {node: index for index, node in enumerate([entry, *nodes])}
    last_use = {node: max((place.get(user, len(place)) for user in node.users), default=0) for node in place}
    parts: list[tuple[list[fx.Node], int]] = []
    part: list[fx.Node] = []
    for index, node in enumerate(nodes, start=1):
        part.append(node)
        if all(last_use[value] <= index for value in place if place[value] < index) and _numbers(node):
            largest = max(_numbers(value) for value in [*part, *part[0].all_input_nodes]) * dtype.itemsize
            size = max(1, min(piece, 1 << (CACHE_BYTES // largest).bit_length() - 1)) if largest <= CACHE_BYTES else 1
            if parts and parts[-1][1] == size:
                parts[-1] = (parts[-1][0] + part, size)
            else:
                parts.append((part, size))
            part = []
    return tuple(Section(_part(graph, nodes), size) for nodes, size in parts)


def _numbers(node: fx.Node) -> int:
    """How many numbers one image's value holds; 0 for what isn't a tensor."""
    meta = node.meta.get("tensor_meta")
    return math.prod(meta.shape) if isinstance(meta, TensorMetadata) else 0


def _part(graph: fx.GraphModule, nodes: Sequence[fx.Node]) -> fx.GraphModule:
    part, copies = fx.Graph(), dict[fx.Node, fx.Node]()

    def copied(node: fx.Node) -> fx.Node:
        if node not in copies:
            copies[node] = part.node_copy(node) if node.op == "get_attr" else part.placeholder("values")
        return copies[node]

    for node in nodes:
        copies[node] = part.node_copy(node, copied)
    part.output(copies[nodes[-1]])
    return fx.GraphModule(graph, part)
