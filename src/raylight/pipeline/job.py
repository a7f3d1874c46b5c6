"""A job in its run folder: a new one or a resumed one, recorded however it ends; its path is printed last."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from raylight.config.check import completed, load_config
from raylight.config.quoting import as_yaml
from raylight.config.resume import COMMAND_FILE
from raylight.config.schema import RunConfig
from raylight.errors import RaylightError, RunError
from raylight.installation import TRAIN
from raylight.pipeline.costs import Costs
from raylight.pipeline.extension import EPOCHS, asked_epochs, extended
from raylight.pipeline.run import train
from raylight.runs.console import log_to
from raylight.runs.run_dir import LAST_CHECKPOINT, RunDir, recorded, state_of
from raylight.runs.sweep_dir import OVERRIDES_FILE, earlier_run, unused_folder

log = logging.getLogger("raylight")


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        exit_code: see ``train.py --help``.
        run: its folder.
        objective: the monitored validation metric at the chosen checkpoint, for sweepers; None when it failed.
        error: the exception that ended it, if any.
    """

    exit_code: int
    run: Path
    objective: float | None
    error: BaseException | None = None


def run_job(config: DictConfig) -> Outcome:
    """Run one Hydra job in its run folder; its outcome is in ``status.json`` and ``train.log``.

    In a resumed sweep, a job that has finished before isn't run again, and one that was stopped continues in its folder.
    The run folder's path is the last line printed.

    Raises:
        SystemExit: the job was interrupted, so that a sweep doesn't start the next one.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    log_to(sys.stdout)
    job = HydraConfig.get()
    is_part_of_sweep = job.mode == RunMode.MULTIRUN
    costs = Costs() if is_part_of_sweep else Costs.of_process()  # a sweep's start isn't the cost of one of its jobs
    folder, overrides = Path(job.runtime.output_dir), list(job.overrides.task)
    try:
        outcome = (
            _resumed(Path(config.run))
            if config.run
            else run_here(config, folder, overrides, costs, is_part_of_sweep=is_part_of_sweep)
        )
    except RaylightError as error:  # about the run folder itself; other errors are recorded in it
        log.error("%s", error)
        return Outcome(error.exit_code, folder, None)
    if not config.run:
        print(outcome.run, flush=True)  # noqa: T201 - the command's result
    if outcome.exit_code >= 128:
        raise SystemExit(outcome.exit_code)
    return outcome


def _resumed(path: Path) -> Outcome:
    return Outcome(resume_run(path), path, None)


def run_here(
    config: DictConfig, folder: Path, overrides: Sequence[str], costs: Costs, *, is_part_of_sweep: bool = False
) -> Outcome:
    """Run one composed job.

    Args:
        config: as composed, with absolute paths.
        folder: the run folder, which doesn't exist yet.
        overrides: the settings that were typed.
        costs: gets the time of each stage.
        is_part_of_sweep: whether other jobs share the folder's parent.

    Returns:
        How it ended; errors of the job aren't raised.

    Raises:
        RunError: the run folder can't be made, or another process works in it.
    """
    earlier = earlier_run(Path(config.resume), overrides) if config.resume else None
    state = state_of(earlier) if earlier else None
    if earlier is not None and state == "finished":
        log.info("%s has finished before; it isn't run again.", earlier.path)
        return Outcome(0, earlier.path, earlier.read_json("metrics.json")["provenance"]["selected_value"])
    if earlier is not None and state == "running":
        log.error("%s is still being trained by another process; it is left to that.", earlier.path)
        return Outcome(1, earlier.path, None)
    run = earlier or RunDir.claim(unused_folder(folder) if config.resume else folder)
    own: dict[str, Any] = {"resume": None}
    if is_part_of_sweep and config.logger.group is None:
        own["logger"] = {"group": folder.parent.name}
    objective: list[float] = []
    spent = costs.carry_over(run) if earlier else 0.0
    with recorded(run, spent) as status:
        run.write_json(OVERRIDES_FILE, [text for text in overrides if not text.startswith("resume=")])
        if earlier is None:
            settings = OmegaConf.to_container(OmegaConf.merge(completed(config), own), resolve=True)
            assert isinstance(settings, dict)
            run.write_text("config.yaml", as_yaml({str(key): value for key, value in settings.items()}))
        objective.append(train(_settings_of(run), run, status, costs))
    return Outcome(status.exit_code, run.path, objective[0] if objective else None, status.error)


def resume_run(path: Path, settings: Sequence[str] = ()) -> int:
    """Continue an interrupted run after its last complete epoch, in the same folder; a finished one for more epochs.

    Args:
        path: the run folder.
        settings: ``trainer.max_epochs=N``, or nothing.

    Returns:
        The exit code.

    Raises:
        RunError: it isn't a run folder, or the run is still going.
        ConfigError: its data or weights have moved, or the settings can't change.
    """
    log_to(sys.stdout)
    costs = Costs()
    epochs = asked_epochs(settings)
    if (path / COMMAND_FILE).is_file():
        raise RunError(
            f"{path} is the folder of a sweep, whose jobs are what its command says. It continues with: {TRAIN} resume={path}. "
            f"One of its runs can have more epochs: raylight resume {path}/RUN {EPOCHS}=N"
        )
    run = RunDir.open(path)
    state = state_of(run)
    if state == "running":
        raise RunError(f"{path} is still being trained; wait for it, or stop it first.")
    if state == "finished" and epochs is None:
        log.info("%s is finished already; for more epochs: raylight resume %s %s=N", path, path, EPOCHS)
        return 0
    config = _settings_of(run)
    notes: list[str] = []
    if epochs == config.trainer.max_epochs and state == "finished":
        log.info("%s is finished already, with %s=%d.", path, EPOCHS, epochs)
        return 0
    if epochs is not None:
        from raylight.training.callbacks.checkpoints import epochs_done

        config, notes = extended(config, epochs, epochs_done(run), finished=state == "finished")
    spent = costs.carry_over(run)
    with recorded(run, spent) as status:
        if epochs is not None:
            run.write_text("config.yaml", as_yaml(asdict(config)))
        for line in notes:
            log.info("%s", line)
        train(config, run, status, costs)
    print(run.path, flush=True)  # noqa: T201 - the command's result
    return status.exit_code


def _settings_of(run: RunDir) -> RunConfig:
    """The settings of a run, checked; with a checkpoint it needs no pretrained weights any more."""
    config = OmegaConf.load(run / "config.yaml")
    assert isinstance(config, DictConfig)
    return load_config(config, weights_needed=not (run / LAST_CHECKPOINT).is_file())
