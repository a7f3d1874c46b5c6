"""The time that each stage of a run took, from the start of its process to its end, over all sessions of a resumed run."""

import os
import time
from dataclasses import dataclass, field

from raylight.machine import seconds_since_start
from raylight.runs.run_dir import STATUS_FILE, RunDir

EARLIER = "earlier"
"""The stage of what sessions took that were stopped before they wrote their stages, other than training."""


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
    ``closing`` (W&B's run finished, processes stopped). A resumed run adds to the stages of the earlier sessions that finished.
    Of those that were stopped it has the seconds of their epochs as ``training``, all others as ``earlier``, and no processor
    seconds.

    Attributes:
        seconds: wall seconds by stage, in order.
        cpu_seconds: processor seconds by stage, of this process and of those that it has started and waited for; of
            processes that end later, such as Ray's and W&B's, nothing.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    _before: dict[str, dict[str, float]] = field(default_factory=dict)
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

    def carry_over(self, run: RunDir) -> float:
        """Count what earlier sessions of a run took, too.

        Args:
            run: its folder, before this session writes its status.

        Returns:
            The seconds of the earlier sessions.

        Raises:
            RunError: the folder's files are damaged.
        """
        from raylight.report.results import read_history

        known = run.read_json("metrics.json")["cost"] if (run / "metrics.json").is_file() else {}
        seconds: dict[str, float] = dict(known.get("seconds", {}))
        epochs = sum(row.get("seconds", 0.0) for row in read_history(run))
        seconds["training"] = max(seconds.get("training", 0.0), epochs)
        spent = max(float(run.read_json(STATUS_FILE)["seconds"]), epochs)
        seconds[EARLIER] = seconds.get(EARLIER, 0.0) + max(spent - sum(seconds.values()), 0.0)
        self._before = {"seconds": seconds, "cpu_seconds": known.get("cpu_seconds", {})}
        return spent

    def as_json(self) -> dict[str, dict[str, float]]:
        """Both, for ``cost`` in ``metrics.json``; with those of earlier sessions."""
        found = {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        return {name: _sum(spent, self._before.get(name, {})) for name, spent in found.items()}

    def write(self, run: RunDir) -> None:
        """Puts them into a run's ``metrics.json``, in place of those known when its metrics were written."""
        metrics = run.read_json("metrics.json")
        metrics["cost"] |= self.as_json()
        run.write_json("metrics.json", metrics)


def _sum(now: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    """The sum by stage, in the order of ``now``."""
    return {stage: round(now.get(stage, 0.0) + before.get(stage, 0.0), 3) for stage in dict.fromkeys([*now, *before])}
