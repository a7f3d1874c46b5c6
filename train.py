"""Train a classifier: ``python train.py model=resnet18 data=xray``; ``--help`` lists what can be chosen."""

import sys
from pathlib import Path
from typing import Any

from raylight.config.launch import main


def job(config: Any) -> Any:
    """One checked job; the stages are imported only now."""
    from raylight.pipeline.job import run_job

    return run_job(config)


def rehearse(config: Any) -> Any:
    """What is wrong with what a config names, by building it."""
    from raylight.pipeline.rehearsal import rehearsal_problems

    return rehearsal_problems(config)


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent / "conf", job, rehearse))
