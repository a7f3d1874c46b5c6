"""Weights & Biases: one run per job, finished however the job ends.

Starts and finishes runs, and logs what Lightning doesn't: plots, tables with images, the summary with intervals, artifacts.
Without W&B (logger=csv, none), nothing here imports it.
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
from raylight.imports import without_init
from raylight.process import environment, temporary_folder
from raylight.storage.atomic import write_atomically
from raylight.storage.scratch import scratch_folder

_INIT_TIMEOUT = 60.0
"""Seconds to wait for the server when a run starts."""

_CHECK_TIMEOUT = 10.0
"""Seconds to wait for an answer of the server before any work."""

_REMEDY = (
    "keep the run on this machine with logger.mode=offline, or WANDB_MODE=offline where that is set (upload it later with: "
    "wandb sync RUN/wandb/offline-run-*), or do without W&B: logger=csv"
)

_MIN_AGE = 2.0
"""Seconds within which W&B's service ends after its process was killed."""

log = logging.getLogger(__name__)


@dataclass
class Tracker:
    """Sends the results of a job to W&B, if it is used.

    Errors are logged and don't fail the job, whose run folder has everything.

    Attributes:
        run: the W&B run; ``None`` if W&B isn't used.
        exit_code: of the W&B run at its end; not 0 if the job failed.
    """

    run: Any = None
    exit_code: int = 0
    _failed: set[str] = field(default_factory=set)

    def lightning_logger(self) -> Any:
        """The logger for Lightning's trainer, or False for none."""
        if self.run is None:
            return False
        from pytorch_lightning.loggers import WandbLogger

        tracker = self

        class Logger(WandbLogger):
            def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
                tracker.send("the metrics of some epochs", lambda _: WandbLogger.log_metrics(self, metrics, step))

        return Logger(experiment=self.run, log_model=False)

    def send(self, content: str, action: Callable[[Any], object]) -> None:
        """Does something with the W&B run, if there is one; an error is logged, once per ``content``.

        Args:
            content: what is sent, for the message.
            action: called with the W&B run.
        """
        if self.run is None:
            return
        try:
            with temporary_folder(_scratch()):
                action(self.run)
        except Exception as error:  # W&B and its dependencies may raise anything
            if content not in self._failed:
                log.error("W&B didn't receive %s (%s); the run folder has everything.", content, first_line(error))
                log.debug("W&B didn't receive %s.", content, exc_info=True)
            self._failed.add(content)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Adds final values to the summary of the run, such as ``test/accuracy``, and intervals as ``test/accuracy_low``."""
        self.send("the summary", lambda run: run.summary.update(dict(values)))

    def log(self, content: str, values: Callable[[], Mapping[str, Any]]) -> None:
        """Logs values that W&B may store as files: images, tables, charts, pages.

        Args:
            content: what they are, for messages.
            values: makes them by name, if W&B is used; if there are none, nothing is logged.
        """

        def log_values(run: Any) -> None:
            if made := dict(values()):
                run.log(made)

        self.send(content, log_values)

    def images(self, paths: Mapping[str, Path]) -> None:
        """Logs image files by name, below ``plots/``."""

        def images() -> dict[str, Any]:
            import wandb

            return {f"plots/{name}": wandb.Image(str(path)) for name, path in paths.items()}

        self.log("the figures", images)

    def table(self, name: str, columns: Sequence[str], rows: Callable[[], Sequence[Sequence[Any]]]) -> None:
        """Logs a table.

        Args:
            name: of the table.
            columns: names of the columns.
            rows: makes the rows, if W&B is used; arrays of pixels become images.
        """

        def table() -> dict[str, Any]:
            import wandb

            def cell(value: Any) -> Any:
                return wandb.Image(value, file_type="jpg") if isinstance(value, np.ndarray) else value

            return {name: wandb.Table(columns=list(columns), data=[[cell(value) for value in row] for row in rows()])}

        self.log(f"the table of {name}", table)

    def artifact(
        self, kind: str, of: str | None, files: Sequence[Path], aliases: Sequence[str], facts: Mapping[str, Any]
    ) -> None:
        """Logs files as a versioned artifact.

        Args:
            kind: its type, and the beginning of its name.
            of: the rest of its name; ``None`` takes the id of the W&B run, so that no other run adds versions to it.
            files: its content, without folders.
            aliases: besides ``latest``.
            facts: its metadata.
        """

        def log_artifact(run: Any) -> None:
            import wandb

            artifact = wandb.Artifact(artifact_name(f"{kind}-{of or run.id}"), type=kind, metadata=dict(facts))
            for path in files:
                artifact.add_file(str(path))
            run.log_artifact(artifact, aliases=list(aliases))

        self.send(f"the {kind} as an artifact", log_artifact)


@contextlib.contextmanager
def tracking(
    logger: LoggerConfig,
    run_folder: Path,
    config: Mapping[str, Any],
    tags: Sequence[str],
) -> Iterator[Tracker]:
    """Starts a W&B run for a job, if W&B is used; it is finished at the end, whatever happens.

    Args:
        logger: the settings of the logger.
        run_folder: W&B's files go into its ``wandb`` folder.
        config: the resolved config, which is logged.
        tags: besides those of the config.

    Yields:
        The tracker.

    Raises:
        RaylightError: W&B can't be reached, or refuses the login.
    """
    if logger.name != "wandb":
        yield Tracker()
        return
    # By default, artifacts are staged outside the run folder.
    silent = os.environ.get("WANDB_SILENT", "true")
    with environment(WANDB_DATA_DIR=str(run_folder / "wandb"), WANDB_SILENT=silent):
        with temporary_folder(_scratch()):
            import wandb

        tracker = Tracker()
        try:
            tracker.run = _init(
                project=logger.project,
                entity=logger.entity,
                group=logger.group,
                name=run_folder.name,
                tags=list(dict.fromkeys([*logger.tags, *map(fitting_tag, tags)])),
                dir=str(run_folder),
                config=dict(config),
                mode=_mode(logger),
                id=_run_id(run_folder / "wandb" / "raylight-run-id"),
                resume="allow",
                reinit="finish_previous",
                settings=wandb.Settings(
                    silent=True, console="off", disable_git=True, save_code=False, init_timeout=_INIT_TIMEOUT
                ),
            )
            tracker.send("the definition of epochs", lambda run: run.define_metric("epoch"))
            yield tracker
        except BaseException:
            tracker.exit_code = 1
            raise
        finally:
            tracker.send("the end of the run", lambda run: run.finish(exit_code=tracker.exit_code))


def check_tracking(logger: LoggerConfig) -> None:
    """Checks W&B's environment variables and, if it is used online, the login, before any work that could be lost.

    Args:
        logger: the settings of the logger.

    Raises:
        ConfigError: W&B rejects a variable, its server can't be reached, or the login fails.
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
        problems = [f"WANDB_{str(one['loc'][0]).upper()}: refused by W&B ({one['msg']})" for one in found if one["loc"]]
        problems = problems or [f"environment: refused by W&B ({first_line(error)})"]
        raise ConfigError([f"{problem}; change it, or do without W&B: logger=csv" for problem in problems]) from error
    if _mode(logger) == "online":
        with temporary_folder(_scratch()):
            url = wandb.setup().settings.base_url
            _check_server(url)
            _check_login(url)


def _mode(logger: LoggerConfig) -> str:
    """Whether runs are sent to W&B's server; its own environment variable is stronger than the config."""
    return os.environ.get("WANDB_MODE") or logger.mode


def _check_server(url: str) -> None:
    """Checks that a server answers, through the system's proxies, whatever its answer and its certificate."""
    import http.client
    import ssl
    import urllib.error
    import urllib.request

    try:
        urllib.request.urlopen(url, timeout=_CHECK_TIMEOUT).close()  # noqa: S310 - W&B accepts http and https only
    except (urllib.error.HTTPError, http.client.HTTPException):
        pass  # an answer, which W&B will interpret
    except OSError as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, ssl.SSLError):
            raise ConfigError(
                [f"logger.mode: online, but W&B's server {url} can't be reached ({reason}); {_REMEDY}"]
            ) from error


def _check_login(url: str) -> None:
    """Checks that the server accepts the login; on a terminal, W&B asks for a key if it has none."""
    import wandb

    try:
        if wandb.login(force=True, verify=True):
            return
        reason = "there is no API key"
    except wandb.errors.Error as error:
        reason = first_line(error)
    raise ConfigError(
        [
            f"logger.mode: online, but the login to W&B's server {url} fails ({reason}); give a key with: wandb login, or "
            f"with WANDB_API_KEY; or {_REMEDY}"
        ]
    )


def _init(**arguments: Any) -> Any:
    """``wandb.init``; a problem with the network or the account becomes an error for the user."""
    import wandb

    try:
        # It asks for inputs of W&B Launch, whose package imports W&B's agents and API: a second of processor time.
        with temporary_folder(_scratch()), without_init("wandb.sdk.launch"):
            # The process's own settings decide about W&B's telemetry, which an offline run would send all the same.
            wandb.setup(wandb.Settings(mode=arguments["mode"]))
            return wandb.init(**arguments)
    except wandb.errors.Error as error:
        raise RaylightError(f"W&B can't be used online: {first_line(error)}. Possible remedies: {_REMEDY}") from error


@functools.cache
def _scratch() -> Path:
    """The folder for W&B's temporary files and sockets, one per process, since W&B has one service for all runs in it.

    W&B creates temporary folders when it is imported, for images and artifacts, and when its service starts, for sockets. It
    has no setting for them, and leaves them behind if it is killed; here, the next process removes them.

    Returns:
        Its path.
    """
    lifetime = contextlib.ExitStack()
    atexit.register(lifetime.close)  # registered before W&B's own functions, so called after them
    return lifetime.enter_context(scratch_folder("wandb", _MIN_AGE))


def _run_id(path: Path) -> str:
    """The id of the W&B run, generated once per run folder, so that a resumed run continues the same one."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, os.urandom(6).hex().encode())
    return path.read_text()
