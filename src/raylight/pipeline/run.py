"""The stages of a run, in order, with what each one took."""

from __future__ import annotations

from pathlib import Path

from raylight.config.places import is_uri
from raylight.config.schema import RunConfig
from raylight.pipeline.costs import Costs
from raylight.pipeline.images import audited, decoded, indexed, streaming
from raylight.runs.run_dir import RunDir, Status


def train(config: RunConfig, run: RunDir, status: Status) -> float:
    """Everything from image files to a reported result.

    Args:
        config: checked settings.
        run: a claimed run folder.
        status: told which stage goes on.

    Returns:
        The monitored validation metric at the chosen checkpoint.

    Raises:
        RaylightError: the data, the weights or the training can't be used; the message says why.
    """
    costs = Costs()
    cache_dir = Path(config.cache_dir).expanduser()
    if config.data.root and not is_uri(config.data.root):
        config.data.root = str(Path(config.data.root).expanduser().resolve())
    if config.trainer.accelerator == "gpu":
        from raylight.training.distributed import check_accelerator

        check_accelerator(config.trainer)

    status.enter("indexing")
    index = indexed(config, cache_dir)
    costs.lap("index")

    status.enter("decoding")
    images = decoded(config, run, index, cache_dir)
    costs.lap("decode")
    audited(config, run, images.index, cache_dir)
    costs.lap("audit")

    status.enter("building the model")
    from raylight.pipeline.learner import build_learner, processor_as_it_was
    from raylight.runs.progress import progress_bar
    from raylight.runs.tracking import tracking
    from raylight.training.checkpoints import last_checkpoint
    from raylight.training.distributed import run_training

    with (
        streaming(config),
        processor_as_it_was(config.trainer.accelerator),
        progress_bar("frozen layers", config.trainer.progress, closing_line=False) as on_progress,
    ):
        learner = build_learner(config, run, images, cache_dir, on_progress)
        tags = [config.data.name, config.model.name, config.finetune.name]
        with tracking(config.logger, run.path, learner.chosen, tags) as tracker:
            logger = tracker.lightning_logger()
            costs.lap("start-up")

            status.enter("training")
            last = last_checkpoint(run)
            learning = learner.classifier, learner.loaders, config.trainer, config.ray, learner.settings
            finished = run_training(*learning, run, logger, last)
            costs.lap("training")

            from raylight.pipeline.verdict import judge

            judge(config, run, status, costs, images, learner, finished, tracker)
    return finished.monitor_value
