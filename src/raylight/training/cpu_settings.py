"""How torch uses this machine's processor: precision, memory format, threads."""

from dataclasses import dataclass

from raylight.config.schema import TrainerConfig
from raylight.models.inference import bf16_supported
from raylight.runs.machine import usable_cpus


@dataclass(frozen=True)
class CpuSettings:
    """What a training uses.

    Attributes:
        precision: ``32`` or ``bf16``.
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


def choose_settings(trainer: TrainerConfig) -> CpuSettings:
    """Settings by what the config fixes and, for the rest, the processor's flags."""
    fast = bf16_supported()
    precision = trainer.precision if trainer.precision != "auto" else ("bf16" if fast else "32")
    channels_last = trainer.channels_last.lower() == "true" if trainer.channels_last.lower() != "auto" else True
    threads = trainer.threads or usable_cpus()
    if trainer.precision != "auto" and trainer.channels_last.lower() != "auto":
        reason = "as the config says"
    else:
        reason = f"the processor {'has' if fast else 'has no'} bf16 instructions"
    return CpuSettings(precision, channels_last, threads, reason)
