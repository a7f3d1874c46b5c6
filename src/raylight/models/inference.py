"""The inference engine: stages of a network run fast and without gradients.

BatchNorm is folded into the convolutions before it, weights are bf16 where asked, images go through channels-last in
pieces that fit the processor's cache, one worker thread a core with one torch thread each. Which stages, and what
becomes of their outputs, is the caller's business.
"""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from raylight.models.build import class_logits
from raylight.models.preprocessing import Preprocessing
from raylight.models.staged import StagedNetwork


def bf16_supported() -> bool:
    """Whether the processor multiplies bf16 itself (AVX-512 BF16 or AMX); elsewhere bf16 is slower than fp32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class InferenceEngine:
    """Runs stages ``start`` to ``stop`` of a network as it is now; later training doesn't change the engine.

    An image's output doesn't depend on the others in its batch beyond rounding.

    Args:
        network: copied, not changed.
        start: first stage; 0 takes uint8 images, any other what enters that stage.
        stop: first stage not to run; None runs to the logits, one a class.
        preprocessing: normalises images.
        precision: ``fp32`` or ``bf16``.
        threads: worker threads.
        piece: images that go through the network together.
    """

    def __init__(
        self,
        network: StagedNetwork,
        start: int,
        stop: int | None,
        preprocessing: Preprocessing,
        *,
        precision: str = "fp32",
        threads: int = 1,
        piece: int = 8,
    ) -> None:
        self.start, self.stop, self.preprocessing = start, stop, preprocessing
        self.threads, self.piece = threads, piece
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        stages = [copy.deepcopy(network.stage(position)) for position in range(len(network.stage_names))[start:stop]]
        body = nn.Sequential(*stages).eval().requires_grad_(False)
        self.body = fold_batch_norm(body).to(self.dtype).to(memory_format=torch.channels_last)

    def __call__(self, inputs: Shaped[np.ndarray, "batch ..."]) -> Float[np.ndarray, "batch ..."]:
        """Outputs, float32, of images uint8[batch, height, width, 3] or features float[batch, ...]."""
        return self.run(inputs, np.arange(len(inputs)))

    def run(
        self,
        store: Shaped[np.ndarray, "row ..."],
        rows: Int64[np.ndarray, " wanted"],
        on_progress: Callable[[int], None] | None = None,
    ) -> Float[np.ndarray, "wanted ..."]:
        """Outputs, float32, for some rows of a (memory-mapped) store.

        Args:
            store: uint8[row, height, width, 3] for ``start=0``, else float[row, ...].
            rows: which ones, in the wanted order.
            on_progress: called with the number of rows done since the last call.
        """
        pieces = [rows[begin : begin + self.piece] for begin in range(0, len(rows), self.piece)]
        threads_before = torch.get_num_threads()
        try:
            with ThreadPoolExecutor(self.threads, initializer=_one_thread) as pool:
                outputs = []
                for piece, output in zip(pieces, pool.map(lambda piece: self._piece(store[piece]), pieces), strict=True):
                    outputs.append(output)
                    if on_progress is not None:
                        on_progress(len(piece))
        finally:
            # torch keeps the number for threads to come process-wide; the workers have set it to one.
            torch.set_num_threads(threads_before)
        return np.concatenate(outputs) if outputs else np.zeros((0,), np.float32)

    def _piece(self, inputs: Shaped[np.ndarray, "piece ..."]) -> Float[np.ndarray, "piece ..."]:
        with torch.inference_mode():
            values = torch.from_numpy(np.ascontiguousarray(inputs))
            if inputs.dtype == np.uint8:
                values = self.preprocessing.normalise(values)
            values = values.to(self.dtype)
            if values.ndim == 4:
                values = values.contiguous(memory_format=torch.channels_last)
            outputs: Tensor = self.body(values)
            if self.stop is None:
                outputs = class_logits(outputs)
            return outputs.float().contiguous().numpy()


def fold_batch_norm(body: nn.Module) -> nn.Module:
    """Fold each BatchNorm that directly follows a convolution into its weights; others stay as they are.

    Args:
        body: in eval mode; a module whose forward can't be traced symbolically is returned unchanged.
    """
    try:
        graph = fx.symbolic_trace(body)
    except (fx.proxy.TraceError, TypeError, RuntimeError):
        return body  # control flow that depends on the data: slower, but the same numbers
    modules = dict(graph.named_modules())
    for node in list(graph.graph.nodes):
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        before = node.args[0]
        if before.op != "call_module" or type(modules[before.target]) is not nn.Conv2d or len(before.users) > 1:
            continue
        parent, _, name = before.target.rpartition(".")
        folded = fuse_conv_bn_eval(modules[before.target], modules[node.target])
        setattr(graph.get_submodule(parent), name, folded)
        modules[before.target] = folded
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)
    graph.recompile()
    return graph


def class_probabilities(logits: Float[np.ndarray, "image class"]) -> Float[np.ndarray, "image class"]:
    """Softmax in float64, so that rows sum to 1 to the last digit that a table shows."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
