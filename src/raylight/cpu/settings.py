"""How torch uses this machine's processor: precision, memory format, threads.

A short run goes by the processor's flags. A long one first times a few steps of its own network at its own shape, takes the
fastest settings whose losses stay with those of fp32, and remembers them for this machine and network. What the config fixes
is left as it is.
"""

import copy
import hashlib
import itertools
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from raylight.config.schema import TrainerConfig
from raylight.cpu.engine import bf16_supported
from raylight.machine import give_back_freed_memory, usable_cpus
from raylight.models.preprocessing import Preprocessing
from raylight.models.stages import StagedNetwork
from raylight.process import torch_threads, use_torch_threads
from raylight.runs.environment import processor_name
from raylight.storage.atomic import write_atomically

SHORT_RUN = 120.0
"""Seconds of training below which measuring costs more than it gives."""

BUDGET = 10.0
"""Seconds that measuring may take."""

WORTH = 1.1
"""How many times faster other settings must be than those by the flags: other programs disturb so short a measurement."""

LOSS_TOLERANCE = 0.02
"""Largest difference of a step's loss from fp32's, as a share of it (at least of 1)."""

_STEPS = 2
_VERSION = 4

log = logging.getLogger(__name__)

LossOf = Callable[[Float[Tensor, "batch output"], Int64[Tensor, " batch"]], Float[Tensor, ""]]


@dataclass(frozen=True)
class CpuSettings:
    """What a training uses.

    Attributes:
        precision: ``32`` or ``bf16``; on a GPU also ``16``.
        channels_last: memory format of images and convolutions.
        threads: threads of torch's operators.
        reason: why, in one sentence.
    """

    precision: str
    channels_last: bool
    threads: int
    reason: str

    @property
    def inference_precision(self) -> str:
        """The inference engine's name for the precision."""
        return "bf16" if self.precision == "bf16" else "fp32"

    def __str__(self) -> str:
        form = "channels last" if self.channels_last else "contiguous"
        return f"{self.precision}, {form}, {self.threads} thread{'s' if self.threads > 1 else ''}"


@dataclass(frozen=True)
class Work:
    """A sample of a training's work, to be timed.

    Attributes:
        network: copied before it is run.
        boundary: position of the first stage that trains.
        preprocessing: of the images.
        loss: from the network's outputs and the targets.
        images: one batch.
        targets: their classes.
        steps: batches of the whole training.
    """

    network: StagedNetwork
    boundary: int
    preprocessing: Preprocessing
    loss: LossOf
    images: UInt8[Tensor, "batch 3 height width"]
    targets: Int64[Tensor, " batch"]
    steps: int


def choose_settings(trainer: TrainerConfig) -> CpuSettings:
    """Settings by what the config fixes and, for the rest, the processor's flags, or the GPU's."""
    if trainer.accelerator == "gpu":
        return _gpu_settings(trainer)
    fast = bf16_supported()
    if trainer.precision != "auto" and trainer.channels_last.lower() != "auto":
        reason = "as the config says"
    else:
        reason = f"the processor {'has' if fast else 'has no'} bf16 instructions"
    return CpuSettings(
        precision=trainer.precision if trainer.precision != "auto" else ("bf16" if fast else "32"),
        channels_last=trainer.channels_last.lower() != "false",
        threads=trainer.threads or usable_cpus(),
        reason=reason,
    )


def _gpu_settings(trainer: TrainerConfig) -> CpuSettings:
    """Mixed precision and channels last, as GPUs with tensor cores want them; nothing is timed."""
    fast = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    by_flags = f"the GPU {'has' if fast else 'has no'} bf16 units"
    return CpuSettings(
        precision=trainer.precision if trainer.precision != "auto" else ("bf16" if fast else "16"),
        channels_last=trainer.channels_last.lower() != "false",
        threads=trainer.threads or usable_cpus(),
        reason=by_flags if trainer.precision == "auto" else "as the config says",
    )


def measured_settings(trainer: TrainerConfig, by_flags: CpuSettings, work: Work, folder: Path) -> CpuSettings:
    """The fastest settings for this work among those that the config leaves open.

    Args:
        trainer: what it fixes isn't measured.
        by_flags: what ``choose_settings`` gave; kept where the run is short, or nothing is left open.
        work: what the training will do.
        folder: where choices are remembered.
    """
    candidates = _candidates(trainer, by_flags)
    if len(candidates) == 1:
        return by_flags
    file = folder / f"{_key(work, candidates)}.json"
    if (known := _remembered(file)) is not None:
        return replace(known, reason=f"measured before: {known.reason}")
    begin = time.perf_counter()
    with torch_threads(), torch.random.fork_rng(devices=()):
        losses, seconds = _timed_steps(work, by_flags)
        if seconds * work.steps < SHORT_RUN:
            return replace(
                by_flags, reason=f"{by_flags.reason}; about {seconds * work.steps:.0f} s, too short to measure"
            )
        plain = replace(by_flags, precision="32", reason="")
        exact, plain_seconds = (losses, seconds) if by_flags.precision == "32" else _timed_steps(work, plain)
        timings = {_fixed(by_flags): seconds, plain: plain_seconds} if _close(losses, exact) else {plain: plain_seconds}
        for candidate in candidates:
            used = time.perf_counter() - begin
            if candidate in (_fixed(by_flags), plain) or used + 2 * _STEPS * seconds > BUDGET:
                continue
            losses, candidate_seconds = _timed_steps(work, candidate)
            if _close(losses, exact):
                timings[candidate] = candidate_seconds
    give_back_freed_memory()  # a step in fp32 takes more than the run's own may
    ranked = sorted((item for item in timings.items() if item[0] in candidates), key=lambda item: item[1])
    if not ranked:
        return by_flags
    batch = len(work.images)
    told = "; ".join(f"{settings} {batch / each:.1f} images/s" for settings, each in ranked)
    known, fastest = _fixed(by_flags), ranked[0]
    best = replace(known if timings.get(known, math.inf) < WORTH * fastest[1] else fastest[0], reason=told)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(asdict(best)).encode())
    return replace(best, reason=f"measured: {told}")


def _remembered(file: Path) -> CpuSettings | None:
    """What was measured before; None where nothing was, or a disk has damaged it."""
    try:
        return CpuSettings(**json.loads(file.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        log.warning("%s is damaged (%s); the settings are measured anew.", file, error)
        return None


def _candidates(trainer: TrainerConfig, by_flags: CpuSettings) -> list[CpuSettings]:
    """The settings to choose among, the likely ones first; bf16 only where the processor has it."""
    precisions = ["bf16", "32"] if trainer.precision == "auto" and bf16_supported() else [by_flags.precision]
    formats = [True, False] if trainer.channels_last.lower() == "auto" else [by_flags.channels_last]
    cores = _physical_cores()
    threads = [by_flags.threads]
    if trainer.threads is None and cores < by_flags.threads:
        threads.append(cores)
    return [CpuSettings(*chosen, "") for chosen in itertools.product(precisions, formats, threads)]


def _physical_cores() -> int:
    import psutil

    return min(psutil.cpu_count(logical=False) or usable_cpus(), usable_cpus())


def _fixed(settings: CpuSettings) -> CpuSettings:
    return replace(settings, reason="")


def _close(losses: Sequence[float], exact: Sequence[float]) -> bool:
    return all(
        abs(one - other) <= LOSS_TOLERANCE * max(1.0, abs(other)) for one, other in zip(losses, exact, strict=True)
    )


def _timed_steps(work: Work, settings: CpuSettings) -> tuple[list[float], float]:
    """Losses of a few steps from the same start, and the seconds of the fastest step after the first."""
    use_torch_threads(settings.threads)
    torch.manual_seed(0)
    memory_format = torch.channels_last if settings.channels_last else torch.contiguous_format
    network = copy.deepcopy(work.network)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    losses, seconds = [], []
    for _ in range(1 + _STEPS):
        begin = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            value = work.preprocessing.normalise(work.images).contiguous(memory_format=memory_format)
            if work.boundary:
                with torch.no_grad():
                    value = network.run(value, 0, work.boundary)
            loss = work.loss(network.run(value, work.boundary, None).float(), work.targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seconds.append(time.perf_counter() - begin)
        losses.append(float(loss.detach()))
    return losses, min(seconds[1:])


def _key(work: Work, candidates: Sequence[CpuSettings]) -> str:
    about: list[Any] = [
        _VERSION,
        torch.__version__,
        processor_name(),
        usable_cpus(),
        repr(work.network),
        work.boundary,
        tuple(work.images.shape),
        [asdict(candidate) for candidate in candidates],
    ]
    return hashlib.sha256(json.dumps(about, default=str).encode()).hexdigest()[:32]
