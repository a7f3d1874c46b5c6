"""A run in the version that a command asks for."""

from dataclasses import dataclass
from pathlib import Path

from raylight.errors import ConfigError, did_you_mean
from raylight.serving.predictor import Predictor
from raylight.serving.versions.int8 import open_int8
from raylight.serving.versions.openvino import open_openvino

PRECISIONS = ("fp32", "bf16", "int8")
ENGINES = ("raylight", "openvino")


@dataclass(frozen=True)
class Version:
    """How a run's network is computed.

    Attributes:
        precision: ``fp32``, ``bf16``, ``int8``; ``None`` takes the run's own.
        engine: ``raylight`` or ``openvino``; ``None`` takes Raylight's own.
    """

    precision: str | None = None
    engine: str | None = None

    def open(self, run: Path) -> Predictor:
        """Open a run in this version, certified before where it needs to be.

        Raises:
            ConfigError: there is no such precision or engine, or it isn't installed.
            RefusedVersionError: the version can't be used for the run.
            UnusableRunError: the run can't be used.
        """
        for option, given, known in (("precision", self.precision, PRECISIONS), ("engine", self.engine, ENGINES)):
            if given is not None and given not in known:
                choices = f"{', '.join(known[:-1])} or {known[-1]}"
                raise ConfigError([f"--{option}: there is no {given!r}{did_you_mean(given, known)}; it is {choices}"])
        if self.engine == "openvino":
            if self.precision == "int8":
                raise ConfigError(
                    ["--engine: OpenVINO computes in fp32 or bf16; leave out --precision int8 or --engine"]
                )
            return open_openvino(run, self.precision)
        return open_int8(run) if self.precision == "int8" else Predictor.open(run, self.precision)


RUNS_OWN = Version()
