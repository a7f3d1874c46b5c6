"""The stages of a run, in order, with the time of each."""

from __future__ import annotations

import contextlib
from pathlib import Path

from raylight.config.schema import RunConfig
from raylight.imports import few_collections
from raylight.pipeline.costs import Costs
from raylight.pipeline.images import audited, decoded, indexed, streaming
from raylight.runs.loggers import other_loggers
from raylight.runs.run_dir import RunDir, Status
from raylight.runs.tracking import check_tracking, tracking


def train(config: RunConfig, run: RunDir, status: Status, costs: Costs) -> float:
    """Train: from image files to a reported result.

    Args:
        config: checked settings.
        run: a claimed run folder.
        status: gets the current stage.
        costs: gets the time of each stage; written into ``metrics.json`` at the end.

    Returns:
        The monitored validation metric at the chosen checkpoint.

    Raises:
        RaylightError: the data, the weights or the training can't be used; the message says why.
    """
    cache_dir = Path(config.cache_dir).expanduser()
    if config.trainer.accelerator == "gpu":
        from raylight.training.distributed.launch import check_accelerator

        check_accelerator(config.trainer)

    with contextlib.ExitStack() as job, contextlib.ExitStack() as start_up:
        start_up.enter_context(few_collections())
        check_tracking(config.logger)
        status.enter("indexing")
        index = indexed(config, cache_dir)
        costs.lap("index")

        status.enter("decoding")
        images = decoded(config, run, index, cache_dir)
        costs.lap("decode")
        audited(config, run, images.index, cache_dir)
        costs.lap("audit")

        status.enter("building the model")
        from raylight.pipeline.learner import build_learner, restored_processor
        from raylight.runs.console import progress_bar
        from raylight.training.callbacks.checkpoints import last_checkpoint
        from raylight.training.distributed.launch import run_training
        from raylight.training.trainer import Training

        job.enter_context(streaming(config, images))
        job.enter_context(restored_processor(config.trainer.accelerator))
        on_progress = job.enter_context(progress_bar("frozen layers", config.trainer.progress, closing_line=False))
        last = last_checkpoint(run)
        learner = build_learner(config, run, images, cache_dir, last, on_progress)
        config = learner.config
        tags = [config.data.name, config.model.name, config.finetune.name]
        tracker = job.enter_context(tracking(config.logger, run.path, learner.chosen, tags))
        others = job.enter_context(other_loggers(config.logger, run, learner.chosen))
        loggers = [logger for logger in (tracker.lightning_logger(), *others) if logger]
        start_up.close()
        costs.lap("start-up")

        status.enter("training")
        training = Training(
            learner.classifier,
            learner.loaders,
            config.trainer,
            learner.settings,
            tracked=bool(loggers),
            callbacks=config.callbacks,
        )
        finished = run_training(training, config.ray, run, loggers, last)
        costs.lap("training")

        from raylight.pipeline.judge import Record, judge

        with few_collections():
            judge(config, Record(run, status, costs, tracker), images, learner, finished)
    costs.lap("closing")
    costs.write(run)
    return finished.monitor_value
