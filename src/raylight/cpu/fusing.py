"""Fuses operations of a network without changing its results.

BatchNorm is folded into the convolution before it; activations and residual sums become part of the convolution before
them. Works on ``torch.fx`` graphs; a stage that can't be traced stays as it is. Leaves out types, the order of weights and
micro-batches (``program``).
"""

import operator
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard, cast

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.nn import functional as nnf
from torch.nn.utils.fusion import fuse_conv_bn_weights

from raylight.cpu.convolution import Activation, FusedConvolution
from raylight.models.depthwise import Depthwise

SHAPE = "raylight_shape"
"""Key of a node's ``meta``: the shape of its value for one image, where that is a tensor."""


class _Shapes(fx.Interpreter):
    """Keeps the shape of each value. ``torch.fx.passes.shape_prop`` does, too, but imports sympy for it."""

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            n.meta[SHAPE] = tuple(value.shape)
        return value


def fused_graph(stages: Sequence[nn.Module], example: Float[Tensor, "1 ..."]) -> fx.GraphModule:
    """Converts a sequence of stages to a graph of fewer operations.

    Args:
        stages: run in order, in eval mode; they become part of the graph and are changed.
        example: input of the first stage, for one image. Its values don't matter.

    Returns:
        A graph in float32 whose nodes have the shapes of their values (``node.meta[SHAPE]``).
    """
    graph = _trace(stages)
    _remove_idle(graph)
    _fold_batch_norm(graph)
    _replace_means(graph)
    _Shapes(graph).run(example)
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # not everywhere
        _fuse_convolutions(graph)
    return graph


def module_of(graph: fx.GraphModule, node: Any) -> nn.Module | None:
    """The module that a node calls.

    Args:
        graph: holds the module.
        node: an argument of a node; anything but a node calls none.

    Returns:
        ``None`` for nodes that call no module.
    """
    if isinstance(node, fx.Node) and node.op == "call_module":
        return graph.get_submodule(cast("str", node.target))
    return None


def only_user(node: fx.Node) -> fx.Node | None:
    """The only node that uses a node's value; ``None`` if several do, or none."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """The shape of a node's value for one image."""
    shape: tuple[int, ...] = node.meta[SHAPE]
    return shape


def _is_convolution(module: nn.Module | None) -> TypeGuard[nn.Conv2d]:
    return type(module) in (nn.Conv2d, Depthwise)


class ChannelMeans(nn.AdaptiveAvgPool2d):
    """``AdaptiveAvgPool2d(1)``, equal to the bit, in a third of its time in bfloat16.

    Squeeze-and-excitation made it 9 % of MobileNetV3-Large and 15 % of EfficientNet-B0.
    """

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch
        """The means of all channels, in the shape (batch, channel, 1, 1)."""
        if input.dtype == torch.bfloat16:
            return nnf.avg_pool2d(input, input.shape[-2:])
        return super().forward(input)


def _replace_means(graph: fx.GraphModule) -> None:
    for node in graph.graph.nodes:
        module = module_of(graph, node)
        if type(module) is nn.AdaptiveAvgPool2d and module.output_size in (1, (1, 1)):
            graph.set_submodule(str(node.target), ChannelMeans())


class _Chain(nn.Module):
    def __init__(self, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, values: Tensor) -> Tensor:
        for stage in self.stages:
            values = stage(values)
        return values


_TRACING = threading.Lock()
"""Tracing replaces ``nn.Module.__call__`` for the whole process; two at a time could leave it replaced."""


class _Tracer(fx.Tracer):
    """Traces into every module except torch's own and those that can't be traced."""

    def __init__(self, whole: set[nn.Module]) -> None:
        super().__init__()
        self.whole = whole
        self.thread = threading.get_ident()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m in self.whole or isinstance(m, Depthwise) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if threading.get_ident() != self.thread:  # such as augmentation in the loader's thread
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)


def _open_norms(chain: nn.Module) -> None:
    """Separates the BatchNorm and the activation that timm combines in one module, so that each can be fused."""
    for parent in list(chain.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, nn.BatchNorm2d) and type(norm).__name__ == "BatchNormAct2d":
                following = [norm.get_submodule("drop"), norm.get_submodule("act")]
                norm.__class__ = nn.BatchNorm2d
                setattr(parent, name, nn.Sequential(norm, *following))


def _trace(stages: Sequence[nn.Module]) -> fx.GraphModule:
    chain = _Chain(stages)
    _open_norms(chain)
    with _TRACING:
        if (traced := _traced(chain)) is None:
            whole = {stage for stage in stages if _traced(_Chain([stage])) is None}
            traced = _Tracer(whole).trace(chain)
    return fx.GraphModule(chain, traced)


def _traced(chain: _Chain) -> fx.Graph | None:
    """The graph of a chain; ``None`` if it can't be traced."""
    try:
        return _Tracer(set()).trace(chain)
    except Exception:  # tracing runs a stage's own code on proxies, which may fail in any way
        return None


def _put(graph: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    parent, _, name = cast("str", node.target).rpartition(".")
    setattr(graph.get_submodule(parent), name, module)


def _uses(graph: fx.GraphModule, node: fx.Node) -> int:
    """How often a graph calls the module that a node calls; a shared module can't be changed for a single caller."""
    return sum(other.op == "call_module" and other.target == node.target for other in graph.graph.nodes)


def _remove_idle(graph: fx.GraphModule) -> None:
    """Removes dropout, stochastic depth and identities, which do nothing in eval mode."""
    for node in list(graph.graph.nodes):
        idle = isinstance(module_of(graph, node), nn.Identity | nn.modules.dropout._DropoutNd)
        if node.op == "call_function" and getattr(node.target, "__name__", "") in ("dropout", "stochastic_depth"):
            idle = False in (*node.args, *node.kwargs.values())  # training=False; or a probability of 0
        if idle:
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.recompile()


def _fold_batch_norm(graph: fx.GraphModule) -> None:
    for node in list(graph.graph.nodes):
        norm = module_of(graph, node)
        if type(norm) is not nn.BatchNorm2d or not isinstance(before := node.args[0], fx.Node):
            continue
        conv = module_of(graph, before)
        if not _is_convolution(conv):
            continue
        if len(before.users) > 1 or _uses(graph, before) > 1 or norm.running_mean is None or norm.running_var is None:
            continue
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)
    graph.recompile()


def _activation(graph: fx.GraphModule, node: fx.Node | None) -> Activation | None:
    match module_of(graph, node):
        case nn.ReLU6():
            return Activation("hardtanh", (0.0, 6.0))
        case nn.ReLU():
            return Activation("relu")
        case nn.SiLU():
            return Activation("swish")
        case nn.Hardswish():
            return Activation("hardswish")
        case nn.Sigmoid():
            return Activation("sigmoid")
        case nn.GELU() as gelu:
            return Activation("gelu", (), gelu.approximate)
    if node is not None and node.op == "call_function" and node.target in (torch.relu, torch.relu_, nnf.relu):
        return Activation("relu")
    return None


_SUMS = (operator.add, operator.iadd, torch.add)


def _fuse_convolutions(graph: fx.GraphModule) -> None:
    for node in list(graph.graph.nodes):
        conv = module_of(graph, node)
        if not _is_convolution(conv) or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            continue
        if _uses(graph, node) > 1:
            continue
        fused_nodes, other = [node], None
        user = only_user(node)
        if user is not None and user.target in _SUMS and len(user.args) == 2 and not user.kwargs:
            summand = cast("fx.Node", user.args[1] if user.args[0] is node else user.args[0])
            if summand is not node and _same_shape(summand, node):
                fused_nodes.append(user)
                other = summand
        activation = _activation(graph, after := only_user(fused_nodes[-1]))
        if after is not None and activation is not None and (other is None or activation.name == "relu"):
            fused_nodes.append(after)
        else:
            activation = Activation()
        _put(
            graph,
            node,
            FusedConvolution(conv, activation, shape_of(cast("fx.Node", node.args[0])), adds=other is not None),
        )
        last = fused_nodes[-1]
        with graph.graph.inserting_before(last):
            fused = graph.graph.call_module(cast("str", node.target), (node.args[0], *([other] if other else [])))
        fused.meta = dict(last.meta)
        last.replace_all_uses_with(fused)
        for dead in reversed(fused_nodes):
            graph.graph.erase_node(dead)
    graph.recompile()


def _same_shape(first: Any, second: fx.Node) -> bool:
    return isinstance(first, fx.Node) and SHAPE in first.meta and shape_of(first) == shape_of(second)
