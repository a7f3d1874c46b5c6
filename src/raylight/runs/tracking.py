"""Weights & Biases: one run a job, finished however the job ends.

Covers starting and finishing, and what is logged besides the metrics that Lightning logs: plots, the summary with
intervals, artifacts. Without W&B (logger=csv, none) nothing here imports it.
"""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raylight.config.schema import LoggerConfig

log = logging.getLogger(__name__)


@dataclass
class Tracker:
    """Where a run is shown.

    Attributes:
        run: the W&B run, None when W&B isn't used.
        exit_code: what the W&B run finishes with; a failed job must not look finished.
    """

    run: Any = None
    exit_code: int = 0

    def lightning_logger(self) -> Any:
        """The logger for Lightning's trainer, or False for none."""
        if self.run is None:
            return False
        from pytorch_lightning.loggers import WandbLogger

        return WandbLogger(experiment=self.run, log_model=False)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Put final values into the run's summary, numbers as ``test/accuracy``, intervals as ``test/accuracy_low``."""
        if self.run is not None:
            self.run.summary.update(dict(values))

    def images(self, paths: Mapping[str, Path]) -> None:
        """Log pictures under ``plots/``."""
        if self.run is not None:
            import wandb

            self.run.log({f"plots/{name}": wandb.Image(str(path)) for name, path in paths.items()})

    def artifact(self, name: str, kind: str, files: Sequence[Path], aliases: Sequence[str]) -> None:
        """Log files as a versioned artifact."""
        if self.run is None:
            return
        import wandb

        artifact = wandb.Artifact(name, type=kind)
        for path in files:
            artifact.add_file(str(path))
        self.run.log_artifact(artifact, aliases=list(aliases))


@contextlib.contextmanager
def tracking(
    logger: LoggerConfig,
    run_folder: Path,
    config: Mapping[str, Any],
    tags: Sequence[str],
) -> Iterator[Tracker]:
    """A tracker for one job; its W&B run is finished on the way out, whatever happens.

    Args:
        logger: what to log to.
        run_folder: W&B's files go into its ``wandb`` folder.
        config: the resolved config, logged as the W&B run's.
        tags: besides the config's own.
    """
    if logger.name != "wandb":
        yield Tracker()
        return
    # Artifacts are staged in WANDB_DATA_DIR, elsewhere than the run unless told so.
    before = {name: os.environ.get(name) for name in ("WANDB_DATA_DIR", "WANDB_SILENT")}
    os.environ["WANDB_DATA_DIR"] = str(run_folder / "wandb")
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    mode = os.environ.get("WANDB_MODE", logger.mode)
    tracker = Tracker()
    try:
        tracker.run = wandb.init(
            project=logger.project,
            entity=logger.entity,
            group=logger.group,
            name=run_folder.name,
            tags=[*logger.tags, *tags],
            dir=str(run_folder),
            config=dict(config),
            mode=mode,  # type: ignore[arg-type]
            id=_run_id(run_folder / "wandb" / "raylight-run-id"),
            resume="allow",
            reinit="finish_previous",
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )
        tracker.run.define_metric("epoch")
        yield tracker
    except BaseException:
        tracker.exit_code = 1
        raise
    finally:
        if tracker.run is not None:
            tracker.run.finish(exit_code=tracker.exit_code)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _run_id(path: Path) -> str:
    """The W&B run of a run folder: made up once, so that a resumed run goes on in the same one."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(os.urandom(6).hex())
    return path.read_text()
