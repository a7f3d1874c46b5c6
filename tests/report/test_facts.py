"""What a run's folder says of it."""

from pathlib import Path

from raylight.report.facts import parameters_of
from tests.compare.jobs import job


def test_parameters_leave_out_what_no_optimizer_touches(tmp_path: Path) -> None:
    assert parameters_of(job(tmp_path, 0)) == 4 * 3 * 3 * 3
