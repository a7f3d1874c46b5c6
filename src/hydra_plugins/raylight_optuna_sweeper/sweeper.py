"""A small sweeper on current Optuna: asks for a trial, launches it as a job, tells what came out.

The search space is what the command line and ``hydra.sweeper.params`` sweep over; what is maximized or minimized is what a
job returns: the monitored validation metric at its chosen checkpoint. The study lives in SQLite, so that the same command
goes on where a killed one stopped. A job that fails is a failed trial; one that does worse than the median of the others
is pruned (``raylight.training.callbacks.pruning``). Hydra imports this module at each start; Optuna is imported when a
study begins.
"""

import json
import logging
import math
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.raylight_optuna_sweeper import config as _registers  # noqa: F401
from raylight.config.rules.metric_names import better
from raylight.errors import RunError
from raylight.installation import install_command
from raylight.runs.console import log_to
from raylight.storage.locks import locked

log = logging.getLogger("raylight")

LOCK_FILE = "optuna.lock"
"""Locked while trials run, so that a second process doesn't take them for those of a killed one."""


class OptunaSweeper(Sweeper):
    """See ``config.OptunaSweeperConfig`` for the settings."""

    def __init__(
        self,
        n_trials: int,
        n_jobs: int,
        direction: str | None,
        storage: str | None,
        study_name: str,
        seed: int | None,
        n_startup_trials: int,
        prune: bool,
        prune_after: int,
        params: DictConfig | dict[str, str] | None,
    ) -> None:
        if n_trials < 1 or n_jobs < 1:
            raise HydraException(f"hydra.sweeper: n_trials={n_trials} and n_jobs={n_jobs} must be at least 1")
        if direction not in (None, "minimize", "maximize"):
            raise HydraException(f"hydra.sweeper.direction: {direction!r} is neither minimize nor maximize")
        self.n_trials, self.n_jobs = n_trials, n_jobs
        self.direction, self.storage, self.study_name = direction, storage, study_name
        self.seed, self.n_startup_trials = seed, n_startup_trials
        self.prune, self.prune_after = prune, prune_after
        self.params = dict(params or {})
        self.prefixes: dict[str, str] = {}
        self.launcher: Launcher | None = None
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's way of handing over what a sweep needs."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the trials that the study lacks.

        Args:
            arguments: the command line's overrides; those that sweep span the search space, the others go to each job.

        Returns:
            The best value; None where no trial finished.

        Raises:
            HydraException: Optuna is missing, nothing is swept over, a setting that doesn't exist, or another process that
                searches in the sweep's folder.
        """
        try:
            import optuna
            from optuna.trial import TrialState
        except ImportError as error:
            raise HydraException(
                f"hydra/sweeper=optuna searches with Optuna, which isn't here: {install_command('sweeper')}"
            ) from error

        assert self.config is not None
        fixed, space = self._space(arguments)
        folder = Path(str(self.config.hydra.sweep.dir)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        log_to(sys.stdout)  # before the first job does
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = self.storage or f"sqlite:///{folder / 'optuna.db'}"
        study = optuna.create_study(
            storage=storage,
            sampler=optuna.samplers.TPESampler(seed=self.seed, n_startup_trials=self.n_startup_trials),
            study_name=self.study_name,
            direction=self.direction or self._monitored_direction(),
            load_if_exists=True,
        )
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(folder, LOCK_FILE, "being searched"))
            except RunError as error:
                raise HydraException(str(error)) from error
            for stale in study.get_trials(states=(TrialState.RUNNING,)):
                # Its process was killed. The same values are tried again; the job goes on in its folder if that is known.
                study.tell(stale.number, state=TrialState.FAIL)
                study.set_user_attr(f"stopped_{stale.number}", True)
                study.enqueue_trial(stale.params)
            while (missing := self.n_trials - self._done(study)) > 0:
                self._run(study, storage, space, fixed, min(missing, self.n_jobs))
            return self._report(study, folder)

    def _space(self, arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
        """Overrides for every job, and distributions by key."""
        from hydra_plugins.raylight_optuna_sweeper.space import distribution
        from raylight.config.check import value_problem

        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        texts = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        fixed, space = {}, {}
        for override in parser.parse_overrides(texts):
            written_key = override.get_key_element()
            key = written_key.lstrip("+")  # how Hydra is to take it is no part of a parameter's name
            fixed.pop(key, None)
            space.pop(key, None)  # the command line comes last and wins
            if override.is_sweep_override():
                space[key] = distribution(override)
                self.prefixes[key] = written_key.removesuffix(key)
            else:
                fixed[key] = override.input_line or f"{written_key}={override.get_value_element_as_str()}"
        if not space:
            raise HydraException(
                "hydra/sweeper=optuna has nothing to search: sweep over a setting, for example "
                "'optimizer.lr=tag(log,interval(1e-4,1e-1))' or model=cnn2,cnn5"
            )
        groups = set(self.hydra_context.config_loader.list_groups(""))
        unknown = [
            problem
            for key in space
            if key.split("@")[0] not in groups
            and (problem := value_problem(key, "${...}"))
            and "there is no such setting" in problem
        ]
        if unknown:
            raise HydraException("\n".join(["hydra.sweeper.params:", *(f"  - {problem}" for problem in unknown)]))
        return list(fixed.values()), space

    def _run(self, study: Any, storage: str, space: dict[str, Any], fixed: list[str], n: int) -> None:
        """Ask for some trials, launch them together, tell their results."""
        from hydra_plugins.raylight_optuna_sweeper.space import written

        assert self.launcher is not None
        trials = [study.ask(fixed_distributions=space) for _ in range(n)]
        jobs = [
            [*fixed, *(f"{self.prefixes[key]}{key}={written(value)}" for key, value in trial.params.items())]
            for trial in trials
        ]
        for number, job in zip((trial.number for trial in trials), jobs, strict=True):
            log.info("trial %d of %d: %s", number + 1, self.n_trials, " ".join(job[len(fixed) :]))
        self.validate_batch_is_legal(jobs)
        if self.prune:
            jobs = [
                [*job, _address(storage, study.study_name, trial.number, self.n_startup_trials, self.prune_after)]
                for trial, job in zip(trials, jobs, strict=True)
            ]
        results = self.launcher.launch(jobs, initial_job_idx=trials[0].number)
        for trial, result in zip(trials, results, strict=True):
            self._tell(study, trial, result)

    @staticmethod
    def _tell(study: Any, trial: Any, result: JobReturn) -> None:
        from optuna.trial import TrialState

        value = result.return_value if result.status == JobStatus.COMPLETED else None
        ended = next(one for one in study.get_trials() if one.number == trial.number)
        if value is None or not math.isfinite(float(value)):
            study.tell(trial, state=TrialState.FAIL)
            log.info("trial %d failed", trial.number + 1)
        elif "pruned_at" in ended.user_attrs:
            study.tell(trial, state=TrialState.PRUNED)
            log.info("trial %d was pruned after epoch %d", trial.number + 1, ended.user_attrs["pruned_at"] + 1)
        else:
            study.tell(trial, float(value))
            log.info("trial %d: %.4f; best so far %.4f", trial.number + 1, float(value), study.best_value)

    def _done(self, study: Any) -> int:
        """Trials that count: all that ended by themselves."""
        return sum(
            trial.state.is_finished() and f"stopped_{trial.number}" not in study.user_attrs
            for trial in study.get_trials()
        )

    def _report(self, study: Any, folder: Path) -> float | None:
        """Say which trial was best, in words and in ``optuna.yaml``."""
        from optuna.trial import TrialState

        states = [trial.state.name.lower() for trial in study.get_trials()]
        facts: dict[str, Any] = {
            "study": study.study_name,
            "direction": study.direction.name.lower(),
            "trials": {state: states.count(state) for state in sorted(set(states))},
            "pruned_after_epoch": {
                trial.number: trial.user_attrs["pruned_at"] for trial in study.get_trials(states=(TrialState.PRUNED,))
            },
        }
        finished = study.get_trials(states=(TrialState.COMPLETE,))
        if finished:
            best = study.best_trial
            facts |= {"best_trial": best.number, "best_value": best.value, "best_params": dict(best.params)}
            words = " ".join(f"{key}={value}" for key, value in best.params.items())
            log.info("Best of %d trials: %.4f with %s", len(finished), best.value, words)
        OmegaConf.save(OmegaConf.create(facts), folder / "optuna.yaml")
        return study.best_value if finished else None

    def _monitored_direction(self) -> str:
        assert self.config is not None
        monitor = OmegaConf.select(self.config, "trainer.monitor", default="val/loss")
        mode = OmegaConf.select(self.config, "trainer.monitor_mode", default="auto")
        return "minimize" if better(monitor, mode) == "min" else "maximize"


def _address(storage: str, study: str, number: int, startup: int, warmup: int) -> str:
    """An override that tells a job's process which trial it is, whatever launches it."""
    value = {"storage": storage, "study": study, "number": number, "startup": startup, "warmup": warmup}
    quoted = json.dumps(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"+hydra.job.env_set.RAYLIGHT_OPTUNA_TRIAL='{quoted}'"
