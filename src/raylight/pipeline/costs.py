"""The time that each stage of a run took."""

import time
from dataclasses import dataclass, field


@dataclass
class Costs:
    """Seconds of each stage, for the report."""

    seconds: dict[str, float] = field(default_factory=dict)
    _begin: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        """Add the time since the last call to a stage."""
        now = time.perf_counter()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self._begin, 3)
        self._begin = now
