"""Weights & Biases: one run per job, finished however the job ends.

Covers starting and finishing, and what is logged besides the metrics that Lightning logs: plots, tables with
pictures, the summary with intervals, artifacts. Without W&B (logger=csv, none) nothing here imports it.
"""

import atexit
import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from raylight.config.rules.names import artifact_name, fitting_tag
from raylight.config.schema import LoggerConfig
from raylight.errors import ConfigError, RaylightError, first_line
from raylight.process import environment, temporary_folder
from raylight.storage.atomic import write_atomically
from raylight.storage.scratch import scratch_folder

_PATIENCE = 60.0
"""Seconds to wait for W&B's server."""

_ANSWER = 10.0
"""Seconds to wait for a first answer of it, before any work."""

_OFFLINE = (
    "keep the run on this machine with logger.mode=offline, or WANDB_MODE=offline where that is set (upload it later with: "
    "wandb sync RUN/wandb/offline-run-*), or do without W&B: logger=csv"
)

_SETTLED = 2.0
"""Seconds within which W&B's service notices that its process has been killed."""

log = logging.getLogger(__name__)


@dataclass
class Tracker:
    """Where a run is shown.

    What W&B can't be told is logged and doesn't fail the run, whose folder holds everything.

    Attributes:
        run: the W&B run, None when W&B isn't used.
        exit_code: what the W&B run finishes with; a failed job must not look finished.
    """

    run: Any = None
    exit_code: int = 0
    _untold: set[str] = field(default_factory=set)

    def lightning_logger(self) -> Any:
        """The logger for Lightning's trainer, or False for none."""
        if self.run is None:
            return False
        from pytorch_lightning.loggers import WandbLogger

        tracker = self

        class Logger(WandbLogger):
            def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
                tracker.tell("some epochs' metrics", lambda _: WandbLogger.log_metrics(self, metrics, step))

        return Logger(experiment=self.run, log_model=False)

    def tell(self, what: str, work: Callable[[Any], object]) -> None:
        """Do something with the W&B run, if there is one; what goes wrong is logged, once for each ``what``."""
        if self.run is None:
            return
        try:
            with temporary_folder(_scratch()):
                work(self.run)
        except Exception as error:  # W&B and what it is built of raise errors of every kind
            if what not in self._untold:
                log.error("W&B wasn't told %s (%s); the run folder holds it all.", what, first_line(error))
                log.debug("W&B wasn't told %s.", what, exc_info=True)
            self._untold.add(what)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Put final values into the run's summary, numbers as ``test/accuracy``, intervals as ``test/accuracy_low``."""
        self.tell("the summary", lambda run: run.summary.update(dict(values)))

    def log(self, what: str, values: Callable[[], Mapping[str, Any]]) -> None:
        """Log values that W&B may turn into files: pictures, tables, charts, pages.

        Args:
            what: they are, in words.
            values: makes them, where W&B is used; without any, nothing is logged.
        """

        def log_them(run: Any) -> None:
            if found := dict(values()):
                run.log(found)

        self.tell(what, log_them)

    def images(self, paths: Mapping[str, Path]) -> None:
        """Log pictures under ``plots/``."""

        def pictures() -> dict[str, Any]:
            import wandb

            return {f"plots/{name}": wandb.Image(str(path)) for name, path in paths.items()}

        self.log("the figures", pictures)

    def table(self, name: str, columns: Sequence[str], rows: Callable[[], Sequence[Sequence[Any]]]) -> None:
        """Log a table; pixels in it become pictures."""

        def table() -> dict[str, Any]:
            import wandb

            def cell(value: Any) -> Any:
                return wandb.Image(value, file_type="jpg") if isinstance(value, np.ndarray) else value

            return {name: wandb.Table(columns=list(columns), data=[[cell(value) for value in row] for row in rows()])}

        self.log(f"the table of {name}", table)

    def artifact(
        self, kind: str, of: str | None, files: Sequence[Path], aliases: Sequence[str], facts: Mapping[str, Any]
    ) -> None:
        """Log files as a versioned artifact.

        Args:
            kind: its type, and the beginning of its name.
            of: the rest of its name, made to fit; None takes the W&B run's id, so that no other run writes versions of it.
            files: in it, flat.
            aliases: besides ``latest``.
            facts: its metadata.
        """

        def log_it(run: Any) -> None:
            import wandb

            artifact = wandb.Artifact(artifact_name(f"{kind}-{of or run.id}"), type=kind, metadata=dict(facts))
            for path in files:
                artifact.add_file(str(path))
            run.log_artifact(artifact, aliases=list(aliases))

        self.tell(f"the {kind} as an artifact", log_it)


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
    silent = os.environ.get("WANDB_SILENT", "true")
    with environment(WANDB_DATA_DIR=str(run_folder / "wandb"), WANDB_SILENT=silent):
        with temporary_folder(_scratch()):
            import wandb

        tracker = Tracker()
        try:
            tracker.run = _begun(
                project=logger.project,
                entity=logger.entity,
                group=logger.group,
                name=run_folder.name,
                tags=list(dict.fromkeys([*logger.tags, *map(fitting_tag, tags)])),
                dir=str(run_folder),
                config=dict(config),
                mode=os.environ.get("WANDB_MODE") or logger.mode,
                id=_run_id(run_folder / "wandb" / "raylight-run-id"),
                resume="allow",
                reinit="finish_previous",
                settings=wandb.Settings(
                    silent=True, console="off", disable_git=True, save_code=False, init_timeout=_PATIENCE
                ),
            )
            tracker.tell("how to draw epochs", lambda run: run.define_metric("epoch"))
            yield tracker
        except BaseException:
            tracker.exit_code = 1
            raise
        finally:
            tracker.tell("that the run has ended", lambda run: run.finish(exit_code=tracker.exit_code))


def check_tracking(logger: LoggerConfig) -> None:
    """Check W&B's environment variables and, if it is used online, the login, before any work that could be lost.

    Raises:
        ConfigError: naming those that it refuses, the server that can't be reached, or what the account lacks.
    """
    if logger.name != "wandb":
        return
    with temporary_folder(_scratch()):
        import wandb
    from pydantic import ValidationError

    try:
        wandb.Settings().update_from_env_vars(dict(os.environ))
    except (ValidationError, wandb.errors.UsageError, ValueError) as error:
        found = error.errors() if isinstance(error, ValidationError) else []
        refused = [f"WANDB_{str(one['loc'][0]).upper()}: refused by W&B ({one['msg']})" for one in found if one["loc"]]
        refused = refused or [f"environment: refused by W&B ({first_line(error)})"]
        raise ConfigError([f"{problem}; change it, or do without W&B: logger=csv" for problem in refused]) from error
    if (os.environ.get("WANDB_MODE") or logger.mode) == "online":
        with temporary_folder(_scratch()):
            url = wandb.setup().settings.base_url
            _check_server(url)
            _check_login(url)


def _check_server(url: str) -> None:
    """Check that a server answers, through the system's proxies, whatever its answer and its certificate.

    Raises:
        ConfigError: nothing does.
    """
    import http.client
    import ssl
    import urllib.error
    import urllib.request

    try:
        urllib.request.urlopen(url, timeout=_ANSWER).close()  # noqa: S310 - W&B lets only http and https be its server
    except (urllib.error.HTTPError, http.client.HTTPException):
        pass  # an answer, which W&B judges
    except OSError as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, ssl.SSLError):
            raise ConfigError(
                [f"logger.mode: online, but W&B's server {url} can't be reached ({reason}); {_OFFLINE}"]
            ) from error


def _check_login(url: str) -> None:
    """Check that the server accepts the login; on a terminal W&B asks for a key if it has none.

    Raises:
        ConfigError: it doesn't, or there is no key.
    """
    import wandb

    try:
        if wandb.login(force=True, verify=True):
            return
        said = "there is no API key"
    except wandb.errors.Error as error:
        said = first_line(error)
    raise ConfigError(
        [
            f"logger.mode: online, but W&B's server {url} can't be logged in to ({said}); bring a key with: wandb login, or "
            f"with WANDB_API_KEY; or {_OFFLINE}"
        ]
    )


def _begun(**arguments: Any) -> Any:
    """``wandb.init``; trouble with the network or the account becomes an error for the user.

    Raises:
        RaylightError: W&B can't be reached, or refuses the login.
    """
    import wandb

    try:
        with temporary_folder(_scratch()):
            return wandb.init(**arguments)
    except wandb.errors.Error as error:
        raise RaylightError(f"W&B can't be used online: {first_line(error)}. What helps: {_OFFLINE}") from error


@functools.cache
def _scratch() -> Path:
    """Where W&B keeps temporary files and sockets, one folder per process, as W&B has one service for all its runs.

    It makes its own when it is imported, for pictures and artifacts, and when its service starts, for sockets; it has no
    setting for them, and leaves them when it is killed. Here the next process finds and removes them.
    """
    lifetime = contextlib.ExitStack()
    atexit.register(lifetime.close)  # before W&B's own endings are registered, thus called after them
    return lifetime.enter_context(scratch_folder("wandb", _SETTLED))


def _run_id(path: Path) -> str:
    """The id of a run folder's W&B run: generated once, so that a resumed run continues the same one."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, os.urandom(6).hex().encode())
    return path.read_text()
