"""Ray decodes as threads do, and gets its settings back."""

from pathlib import Path

import numpy as np
import pytest

from raylight.data.decode.blocks import Engine
from raylight.data.decode.engines import decode_files
from tests.data.decode.test_engines import SPEC, gathered

THREADS, RAY = Engine("threads", 2), Engine("ray")


def test_ray_and_threads_give_the_same_bytes_and_reasons(
    session: None, files: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    with_threads = gathered(decode_files(files, SPEC, THREADS), 64)
    capfd.readouterr()
    with_ray = gathered(decode_files(files, SPEC, RAY), 64)
    assert np.array_equal(with_threads[0], with_ray[0])
    assert with_threads[1] == with_ray[1]
    assert "".join(capfd.readouterr()).strip() == ""


def test_ray_data_gets_its_settings_back(session: None, files: list[Path]) -> None:
    from ray.data import DataContext

    context = DataContext.get_current()
    before = context.enable_progress_bars, context.print_on_execution_start
    for _ in decode_files(files, SPEC, RAY):
        break
    assert (context.enable_progress_bars, context.print_on_execution_start) == before
    assert len(gathered(decode_files(files, SPEC, RAY), 64)[1]) == 4
