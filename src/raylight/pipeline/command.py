"""``raylight train``, which ``python train.py`` is too: from what was typed to an exit code; imports the stages late."""

import gc
import itertools
import sys
from collections.abc import Sequence
from typing import Any

from raylight.config.launch import main
from raylight.installation import OPTION_FILES, TRAIN

_jobs_before = itertools.count()


def train_command(arguments: Sequence[str]) -> int:
    """Train as the arguments say.

    Args:
        arguments: what was typed after ``raylight train``.

    Returns:
        The exit code, see ``raylight train --help``.
    """
    sys.argv = [TRAIN.split()[-1], *arguments]  # which Hydra reads
    return main(OPTION_FILES, _job, _rehearsed)


def _job(config: Any) -> Any:
    from raylight.pipeline.job import run_job

    if before := next(_jobs_before):  # a sweep: what the last job left, networks first of all, is freed here
        gc.collect()
        if before == 1:
            gc.freeze()  # libraries aren't garbage; collections after this one needn't look at them
    return run_job(config)


def _rehearsed(config: Any) -> Any:
    from raylight.pipeline.rehearsal import rehearsal_problems

    return rehearsal_problems(config)
