"""The time that each stage of a command took, from the start of its process to the end of its run."""

import os
import time
from dataclasses import dataclass, field

from raylight.machine import seconds_since_start
from raylight.runs.run_dir import RunDir


def _cpu_seconds() -> float:
    """Processor seconds so far, of this process and of those that it has started and waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


@dataclass
class Costs:
    """Wall and processor seconds of each stage.

    The stages of a command add up to its time from Enter to the prompt, less what Python needs to end: ``launch`` (Python,
    imports, Hydra, the checks of the settings), ``index``, ``decode``, ``audit``, ``start-up`` (network, processor settings,
    loggers), ``training``, ``testing``, ``reporting`` (metrics, plots, pages), ``dashboard`` (the result sent to W&B) and
    ``closing`` (W&B's run finished, processes stopped).

    Attributes:
        seconds: wall seconds by stage, in order.
        cpu_seconds: processor seconds by stage, of this process and of those that it has started and waited for; of
            processes that end later, such as Ray's and W&B's, nothing.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    _begin: float = field(default_factory=time.perf_counter)
    _cpu_begin: float = field(default_factory=_cpu_seconds)

    @classmethod
    def of_process(cls) -> "Costs":
        """Counts from the start of this process, with what was done since then as ``launch``."""
        costs = cls(_begin=time.perf_counter() - seconds_since_start(), _cpu_begin=0.0)
        costs.lap("launch")
        return costs

    def lap(self, stage: str) -> None:
        """Add the time since the last call to a stage."""
        now, cpu_now = time.perf_counter(), _cpu_seconds()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self._begin, 3)
        self.cpu_seconds[stage] = round(self.cpu_seconds.get(stage, 0.0) + cpu_now - self._cpu_begin, 3)
        self._begin, self._cpu_begin = now, cpu_now

    def as_json(self) -> dict[str, dict[str, float]]:
        """Both, for ``cost`` in ``metrics.json``."""
        return {"seconds": dict(self.seconds), "cpu_seconds": dict(self.cpu_seconds)}

    def write(self, run: RunDir) -> None:
        """Puts them into a run's ``metrics.json``, in place of those known when its metrics were written."""
        metrics = run.read_json("metrics.json")
        metrics["cost"] |= self.as_json()
        run.write_json("metrics.json", metrics)
