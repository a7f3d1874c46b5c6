"""Weights & Biases: one run a job, finished however the job ends.

Covers starting and finishing, and what is logged besides the metrics that Lightning logs: plots, curves, tables with
pictures, the summary with intervals, artifacts. Without W&B (logger=csv, none) nothing here imports it.
"""

import atexit
import contextlib
import functools
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from raylight.config.schema import LoggerConfig
from raylight.errors import RaylightError, first_line
from raylight.runs.run_dir import write_atomically
from raylight.storage.scratch import scratch_folder

_PATIENCE = 60.0
"""Seconds to wait for W&B's server."""

_SETTLED = 2.0
"""Seconds within which W&B's service notices that its process has been killed."""

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

    def log(self, values: Mapping[str, Any]) -> None:
        """Log values that W&B may turn into files: pictures, tables, charts, pages."""
        if self.run is not None:
            with _temporary_files_in_scratch():
                self.run.log(dict(values))

    def images(self, paths: Mapping[str, Path]) -> None:
        """Log pictures under ``plots/``."""
        if self.run is not None:
            import wandb

            self.log({f"plots/{name}": wandb.Image(str(path)) for name, path in paths.items()})

    def curves(
        self,
        labels: Int[np.ndarray, " image"],
        predicted: Int[np.ndarray, " image"],
        probabilities: Float[np.ndarray, "image class"],
        class_names: Sequence[str],
    ) -> None:
        """Log ROC, precision-recall and the confusion matrix as charts that W&B draws, to lay runs over each other.

        Args:
            labels: true classes, as positions in ``class_names``.
            predicted: classes decided on.
            probabilities: of each class.
            class_names: in the order of the columns.
        """
        if self.run is None:
            return
        from wandb import plot

        names, truth, claimed = list(class_names), labels.tolist(), probabilities.tolist()
        matrix = plot.confusion_matrix(y_true=truth, preds=predicted.tolist(), class_names=names)
        charts: dict[str, Any] = {"test/confusion_matrix": matrix}
        if len(set(truth)) == len(names):  # the other two aren't defined for a class that doesn't occur
            charts["test/roc"] = plot.roc_curve(truth, claimed, names)
            charts["test/precision_recall"] = plot.pr_curve(truth, claimed, names)
        self.log(charts)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Log a table; pixels in it become pictures."""
        if self.run is None:
            return
        import wandb

        def cell(value: Any) -> Any:
            return wandb.Image(value, file_type="jpg") if isinstance(value, np.ndarray) else value

        self.log({name: wandb.Table(columns=list(columns), data=[[cell(value) for value in row] for row in rows])})

    def artifact(
        self, kind: str, of: str | None, files: Sequence[Path], aliases: Sequence[str], facts: Mapping[str, Any]
    ) -> None:
        """Log files as a versioned artifact.

        Args:
            kind: its type, and the beginning of its name.
            of: the rest of its name; None takes the W&B run's id, so that no other run writes versions of it.
            files: in it, flat.
            aliases: besides ``latest``.
            facts: its metadata.
        """
        if self.run is None:
            return
        import wandb

        artifact = wandb.Artifact(f"{kind}-{of or self.run.id}", type=kind, metadata=dict(facts))
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
    with _temporary_files_in_scratch():
        import wandb

    mode = os.environ.get("WANDB_MODE", logger.mode)
    tracker = Tracker()
    try:
        tracker.run = _begun(
            project=logger.project,
            entity=logger.entity,
            group=logger.group,
            name=run_folder.name,
            tags=[*logger.tags, *tags],
            dir=str(run_folder),
            config=dict(config),
            mode=mode,
            id=_run_id(run_folder / "wandb" / "raylight-run-id"),
            resume="allow",
            reinit="finish_previous",
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, save_code=False, init_timeout=_PATIENCE
            ),
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


def _begun(**arguments: Any) -> Any:
    """``wandb.init``, whose troubles with the network or the account are the user's to mend.

    Raises:
        RaylightError: W&B can't be reached, or doesn't let us in.
    """
    import wandb

    try:
        with _temporary_files_in_scratch():
            return wandb.init(**arguments)
    except wandb.errors.Error as error:
        reason = first_line(error)
        raise RaylightError(
            f"W&B can't be used online: {reason}. Keep the run on this machine with logger.mode=offline (upload it later with: "
            "wandb sync RUN/wandb/offline-run-*), or do without W&B: logger=csv"
        ) from error


@functools.cache
def _scratch() -> Path:
    """Where W&B keeps temporary files and sockets, one folder a process, as W&B has one service for all its runs."""
    lifetime = contextlib.ExitStack()
    atexit.register(lifetime.close)  # before W&B's own endings are registered, thus called after them
    return lifetime.enter_context(scratch_folder("wandb", _SETTLED))


@contextlib.contextmanager
def _temporary_files_in_scratch() -> Iterator[None]:
    """Within it, temporary folders are made where the next process finds what a killed one left.

    W&B makes its own when it is imported, for pictures and artifacts, and when its service starts, for sockets; it has no
    setting for them, and leaves them when it is killed.
    """
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(_scratch())
    try:
        yield
    finally:
        tempfile.tempdir = before
        if variable is None:
            os.environ.pop("TMPDIR", None)
        else:
            os.environ["TMPDIR"] = variable


def _run_id(path: Path) -> str:
    """The W&B run of a run folder: made up once, so that a resumed run goes on in the same one."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, os.urandom(6).hex().encode())
    return path.read_text()
