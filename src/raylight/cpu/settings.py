"""How torch uses the processor of this machine: precision, memory format, threads.

A short run chooses by the processor's flags. A long one first times a few steps of its own network at its own image size, takes
the fastest settings whose losses stay close to those in fp32, and stores them for this machine and network. Settings that the
config gives are never changed.
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
"""Seconds of training below which measuring costs more than it saves."""

BUDGET = 10.0
"""Maximum duration of the measurement, in seconds."""

REPEATED = 4.0
"""Seconds within which the measurement is repeated, in turn for all settings: a program that is busy for a moment disturbs
each of them alike, and the fastest step of each counts."""

MIN_SPEEDUP = 1.1
"""How many times faster than the settings by the flags others must be: other programs disturb so short a measurement."""

LOSS_TOLERANCE = 0.02
"""Largest difference between a step's loss and that in fp32, as a share of the latter (of 1 if it is smaller)."""

_STEPS = 2
_VERSION = 4

log = logging.getLogger(__name__)

LossOf = Callable[[Float[Tensor, "batch output"], Int64[Tensor, " batch"]], Float[Tensor, ""]]


@dataclass(frozen=True)
class CpuSettings:
    """The settings of torch that a training uses.

    Attributes:
        precision: ``32`` or ``bf16``; on a GPU also ``16``.
        channels_last: memory format of images and convolutions.
        threads: number of threads of torch's operators.
        reason: why these, in one sentence.
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
    """A sample of the steps of a training, to be timed.

    Attributes:
        network: copied before it is run.
        boundary: position of the first stage that trains.
        preprocessing: of the images.
        loss: computed from the outputs of the network and the targets.
        images: one batch, 0 to 255.
        targets: their class numbers.
        steps: number of steps of the whole training.
    """

    network: StagedNetwork
    boundary: int
    preprocessing: Preprocessing
    loss: LossOf
    images: UInt8[Tensor, "batch 3 height width"]
    targets: Int64[Tensor, " batch"]
    steps: int


def choose_settings(trainer: TrainerConfig) -> CpuSettings:
    """The settings that the config gives and, for the rest, those by the flags of the processor or GPU."""
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
    """Mixed precision and channels last, which suit tensor cores; nothing is timed."""
    fast = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    by_flags = f"the GPU {'has' if fast else 'has no'} bf16 units"
    return CpuSettings(
        precision=trainer.precision if trainer.precision != "auto" else ("bf16" if fast else "16"),
        channels_last=trainer.channels_last.lower() != "false",
        threads=trainer.threads or usable_cpus(),
        reason=by_flags if trainer.precision == "auto" else "as the config says",
    )


def measured_settings(trainer: TrainerConfig, by_flags: CpuSettings, work: Work, folder: Path) -> CpuSettings:
    """Measures which of the settings that the config leaves open are the fastest.

    Args:
        trainer: the config; what it gives isn't measured.
        by_flags: the result of ``choose_settings``; kept if the run is short, or nothing is left open.
        work: a sample of the training.
        folder: where results are stored.

    Returns:
        The fastest settings, with the measured speeds as the reason.
    """
    candidates = _candidates(trainer, by_flags)
    if len(candidates) == 1:
        return by_flags
    file = folder / f"{_key(work, candidates)}.json"
    if (stored := _stored(file)) is not None:
        return replace(stored, reason=f"measured before: {stored.reason}")
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
        for candidate in itertools.cycle(list(timings)):
            if time.perf_counter() - begin + 2 * _STEPS * timings[candidate] > REPEATED:
                break
            timings[candidate] = min(timings[candidate], _timed_steps(work, candidate)[1])
    give_back_freed_memory()  # a step in fp32 may take more memory than those of the run
    ranked = sorted((item for item in timings.items() if item[0] in candidates), key=lambda item: item[1])
    if not ranked:
        return by_flags
    batch = len(work.images)
    speeds = "; ".join(f"{settings} {batch / each:.1f} images/s" for settings, each in ranked)
    usual, fastest = _fixed(by_flags), ranked[0]
    best = replace(usual if timings.get(usual, math.inf) < MIN_SPEEDUP * fastest[1] else fastest[0], reason=speeds)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(asdict(best)).encode())
    return replace(best, reason=f"measured: {speeds}")


def _stored(file: Path) -> CpuSettings | None:
    """An earlier result; ``None`` if there is none, or it is damaged."""
    try:
        return CpuSettings(**json.loads(file.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        log.warning("%s is damaged (%s); the settings are measured again.", file, error)
        return None


def _candidates(trainer: TrainerConfig, by_flags: CpuSettings) -> list[CpuSettings]:
    """The settings to choose from, the likely ones first; bf16 only if the processor has it."""
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
    """Losses of a few steps from the same weights, and the seconds of the fastest step after the first."""
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
    inputs: list[Any] = [
        _VERSION,
        torch.__version__,
        processor_name(),
        usable_cpus(),
        repr(work.network),
        work.boundary,
        tuple(work.images.shape),
        [asdict(candidate) for candidate in candidates],
    ]
    return hashlib.sha256(json.dumps(inputs, default=str).encode()).hexdigest()[:32]
