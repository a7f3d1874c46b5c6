"""A network rewritten for the processor: how its input is read, the type of each operation, and the size of micro-batches.

Leaves out threads (``engine``).
"""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, fx, nn

from raylight.cpu.convolution import FusedConvolution
from raylight.cpu.fusing import SHAPE, fused_graph, module_of, only_user, shape_of
from raylight.cpu.quantising import (
    ITEM_SIZE,
    PIXEL_ZERO,
    QuantisedConvolution,
    Ranges,
    mean_ranges,
    observed_ranges,
    quantisable,
    quantise,
)
from raylight.models.preprocessing import Preprocessing

CACHE_BYTES = 5_000_000
"""Largest activation of a micro-batch. Measured on MobileNetV2 and ResNet18 with 1 MB of second-level cache per core and
32 MB of third-level cache: smaller micro-batches cost more calls, larger ones don't fit into the cache."""

OBSERVED_BATCH = 8
"""Images over which the extremes of activations are taken, before their mean."""


class Rows(Protocol):
    """What images or features are read from: an array, or what makes them when they are read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, height, width, 3), or that of features."""

    def __getitem__(self, rows: Any, /) -> Any:
        """Some rows, or one, as an array; may be called from several threads at once."""


Read = Callable[[Rows, Int64[np.ndarray, " batch"]], Tensor]
"""Makes the input of the first operation from some rows."""

Part = Int64[np.ndarray, " part"]
RangesOf = Callable[[Part], Ranges]


@dataclass(frozen=True)
class Section:
    """A part of a rewritten network.

    Attributes:
        module: computes it.
        micro_batch: number of images that it takes at once.
    """

    module: fx.GraphModule
    micro_batch: int


@dataclass(frozen=True)
class Program:
    """A rewritten network.

    Attributes:
        read: takes pixels, uint8[row, height, width, 3], or features, float32[row, ...].
        sections: run one after the other.
        output_shape: shape of the output per image.
    """

    read: Read
    sections: tuple[Section, ...]
    output_shape: tuple[int, ...]

    def __call__(self, store: Rows, rows: Int64[np.ndarray, " batch"]) -> Float[Tensor, "batch ..."]:
        """Computes the outputs for some rows.

        Args:
            store: pixels, uint8[row, height, width, 3], or features, float32[row, ...].
            rows: the rows to compute.

        Returns:
            float32, in the order of ``rows``.
        """
        values = self.read(store, rows)
        for section in self.sections:
            outputs = [section.module(part) for part in torch.split(values, section.micro_batch)]
            values = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return values.float()


@torch.inference_mode()
def rewrite(
    stages: Sequence[nn.Module],
    example: Float[Tensor, "1 ..."],
    preprocessing: Preprocessing | None,
    dtype: torch.dtype,
    micro_batch: int,
    ranges: Ranges | None = None,
) -> Program:
    """Rewrites a sequence of stages.

    Args:
        stages: run in order; not changed.
        example: input of the first stage, for one image. Its values don't matter.
        preprocessing: of the pixels that will be read; ``None`` if features will be.
        dtype: float32 or bfloat16. The layers after the last convolution or attention (pooling, dense layers) stay in float32
            anyway, since they cost little and matter most.
        micro_batch: maximum number of images at once; fewer where the cache is too small.
        ranges: of the activations (``ranges_on``), to compute in int8 what can be; ``None`` computes nothing in int8.

    Returns:
        The rewritten network.
    """
    graph = fused_graph([copy.deepcopy(stage).eval() for stage in stages], example)
    quantised = _quantised(graph, preprocessing, ranges) if preprocessing is not None and ranges is not None else None
    entry_dtype = _set_types(graph, dtype)
    if quantised is not None or preprocessing is None:
        read = quantised or _features(entry_dtype)
    else:
        read = _centred_pixels(graph, preprocessing) or _normalised(preprocessing, entry_dtype)
    sections = _sections(graph, micro_batch, dtype)
    for section in sections:
        _pack(section.module, section.micro_batch)
    return Program(read, sections, shape_of(_output(graph))[1:])


@torch.inference_mode()
def ranges_on(
    stages: Sequence[nn.Module],
    preprocessing: Preprocessing,
    pixels: UInt8[np.ndarray, "image height width 3"],
    mapped: Callable[[RangesOf, Iterable[Part]], Iterable[Ranges]] = map,
) -> Ranges:
    """Measures the ranges of a network's activations in float32.

    Args:
        stages: of a whole network or its beginning; not changed.
        preprocessing: of the pixels.
        pixels: such as training images.
        mapped: applies a function to parts of the images, such as the ``map`` of an executor.

    Returns:
        The range of each convolution's output; none if nothing of the network can be computed in int8.
    """
    example = torch.zeros(1, 3, *pixels.shape[1:3])
    graph = fused_graph([copy.deepcopy(stage).eval() for stage in stages], example)
    first = _first_convolution(graph)
    read = _centred_pixels(graph, preprocessing) if first is not None and quantisable(first[1]) else None
    if read is None:
        return {}
    _pack(graph, OBSERVED_BATCH)

    @torch.inference_mode()  # which each thread is in by itself
    def of_part(part: Part) -> Ranges:
        return observed_ranges(graph, read(pixels, part))

    parts = np.array_split(np.arange(len(pixels)), -(-len(pixels) // OBSERVED_BATCH))
    return mean_ranges(list(mapped(of_part, parts)))


def _quantised(graph: fx.GraphModule, preprocessing: Preprocessing, ranges: Ranges) -> Read | None:
    """Converts what can be to int8; returns the function that reads pixels, ``None`` if nothing can be."""
    first = _first_convolution(graph)
    if first is None or str(first[0].target) not in ranges or not quantisable(first[1]):
        return None
    mean, border = _fold_normalisation(first[1], preprocessing)
    quantise(graph, ranges)
    return _padded_pixels((mean + PIXEL_ZERO).round().to(torch.uint8), border)


def _pack(graph: fx.GraphModule, micro_batch: int) -> None:
    for module in graph.modules():
        if isinstance(module, FusedConvolution | QuantisedConvolution):
            module.pack(micro_batch)


def _output(graph: fx.GraphModule) -> fx.Node:
    return cast("fx.Node", next(node for node in graph.graph.nodes if node.op == "output").args[0])


def _entry(graph: fx.GraphModule) -> fx.Node:
    return cast("fx.Node", next(node for node in graph.graph.nodes if node.op == "placeholder"))


def _first_convolution(graph: fx.GraphModule) -> tuple[fx.Node, FusedConvolution] | None:
    """The convolution that is the only user of the input."""
    node = only_user(_entry(graph))
    conv = module_of(graph, node)
    if node is None or len(node.args) > 1 or not isinstance(conv, FusedConvolution):
        return None
    return node, conv


_TAIL = (nn.Linear, nn.Flatten, nn.AdaptiveAvgPool2d, nn.ReLU, nn.Hardswish, nn.Tanh)


def _set_types(graph: fx.GraphModule, dtype: torch.dtype) -> torch.dtype:
    """Converts all but the last layers to a type; returns the type of the input."""
    tail, before_tail = list[fx.Node](), _output(graph)
    while isinstance(module_of(graph, before_tail), _TAIL):
        tail.append(before_tail)
        before_tail = cast("fx.Node", before_tail.args[0])
    for node in graph.graph.nodes:
        if node in tail:
            continue
        if node.op == "get_attr":
            parent, _, name = str(node.target).rpartition(".")
            owner = graph.get_submodule(parent)
            value = getattr(owner, name)
            if value.is_floating_point() and value.dtype != dtype:
                delattr(owner, name)
                owner.register_buffer(name, value.detach().to(dtype))
        module = module_of(graph, node)
        if isinstance(module, FusedConvolution):
            module.dtype = dtype
        elif module is not None:
            module.to(dtype)
    if tail and before_tail.op != "placeholder":
        _convert_after(graph, before_tail, torch.float32)
    return torch.float32 if before_tail.op == "placeholder" else dtype


def _convert_after(graph: fx.GraphModule, node: fx.Node, dtype: torch.dtype) -> None:
    with graph.graph.inserting_after(node):
        converted = graph.graph.call_method("to", (node, dtype))
    converted.meta = dict(node.meta)
    node.replace_all_uses_with(converted, delete_user_cb=lambda user: user is not converted)


def _features(dtype: torch.dtype) -> Read:
    def read(store: Rows, rows: Int64[np.ndarray, " batch"]) -> Tensor:
        values = torch.from_numpy(store[rows]).to(dtype)
        return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values

    return read


def _normalised(preprocessing: Preprocessing, dtype: torch.dtype) -> Read:
    def read(store: Rows, rows: Int64[np.ndarray, " batch"]) -> Tensor:
        return preprocessing.normalise(torch.from_numpy(store[rows])).to(dtype)

    return read


def _centred_pixels(graph: fx.GraphModule, preprocessing: Preprocessing) -> Read | None:
    """Makes the first convolution take pixels minus 128, which even bfloat16 represents exactly.

    Returns:
        The function that reads such pixels; ``None`` if the input doesn't go into a single convolution.
    """
    first = _first_convolution(graph)
    if first is None:
        return None
    mean, border = _fold_normalisation(first[1], preprocessing)
    return _padded_pixels(mean.to(first[1].dtype), border)


def _fold_normalisation(conv: FusedConvolution, preprocessing: Preprocessing) -> tuple[Tensor, tuple[int, int]]:
    """Makes a convolution take pixels minus 128.

    Normalisation moves into its weights and bias; its zero padding becomes a border of the mean colour, which normalisation
    would map to zero.

    Returns:
        The mean colour minus 128, and the width of the border: rows above and below, columns left and right.
    """
    mean = torch.tensor(preprocessing.mean, dtype=torch.float64).reshape(1, 3, 1, 1) * 255 - PIXEL_ZERO
    std = torch.tensor(preprocessing.std, dtype=torch.float64).reshape(1, 3, 1, 1) * 255
    return mean, conv.read_pixels(mean.float(), std.float())


def _padded_pixels(colour: Tensor, border: tuple[int, int]) -> Read:
    """Makes a function that reads pixels with a border: as they are into uint8, minus 128 into other types."""
    above, left = border

    def read(store: Rows, rows: Int64[np.ndarray, " batch"]) -> Tensor:
        height, width = store.shape[1:3]
        taken = np.empty((len(rows), height, width, 3), np.uint8)
        for number, row in enumerate(rows):  # one by one: indexing with an array would copy the pixels once more
            np.bitwise_xor(store[row], 0 if colour.dtype == torch.uint8 else PIXEL_ZERO, out=taken[number])
        values = taken if colour.dtype == torch.uint8 else taken.view(np.int8)
        shape = (len(rows), 3, height + 2 * above, width + 2 * left)
        images = torch.empty(shape, dtype=colour.dtype, memory_format=torch.channels_last)
        images[:, :, :above], images[:, :, above + height :] = colour, colour
        images[..., :left], images[..., left + width :] = colour, colour
        images[:, :, above : above + height, left : left + width] = torch.from_numpy(values).permute(0, 3, 1, 2)
        return images

    return read


def _sections(graph: fx.GraphModule, micro_batch: int, dtype: torch.dtype) -> tuple[Section, ...]:
    """Splits a graph where only one value passes, and joins neighbours with micro-batches of the same size."""
    nodes = [node for node in graph.graph.nodes if node.op not in ("placeholder", "output", "get_attr")]
    position = {node: index for index, node in enumerate([_entry(graph), *nodes])}
    last_use = {node: max((position.get(user, len(position)) for user in node.users), default=0) for node in position}
    parts: list[tuple[list[fx.Node], int]] = []
    part: list[fx.Node] = []
    for index, node in enumerate(nodes, start=1):
        part.append(node)
        if all(last_use[value] <= index for value in position if position[value] < index) and _elements(node):
            values = [*part, *part[0].all_input_nodes]
            largest = max(_elements(value) * value.meta.get(ITEM_SIZE, dtype.itemsize) for value in values)
            fitting = 1 << (CACHE_BYTES // largest).bit_length() - 1 if largest <= CACHE_BYTES else 1
            size = max(1, min(micro_batch, fitting))
            if parts and parts[-1][1] == size:
                parts[-1] = (parts[-1][0] + part, size)
            else:
                parts.append((part, size))
            part = []
    return tuple(Section(_part(graph, nodes), size) for nodes, size in parts)


def _elements(node: fx.Node) -> int:
    """Number of elements of a node's value for one image; 0 if it isn't a tensor."""
    return math.prod(node.meta[SHAPE]) if SHAPE in node.meta else 0


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
