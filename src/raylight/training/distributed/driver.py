"""The process that prepares a training and owns the run folder, the log and the loggers: it receives what the others send."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from raylight.runs.run_dir import RunDir
from raylight.training.messages import Ended, File, FinishedTraining, LogLine, Message, Metrics


class Driver:
    """Receives messages of training processes: logs them, tracks metrics, writes files.

    Args:
        run: the run folder.
        loggers: Lightning's; may be empty.
    """

    def __init__(self, run: RunDir, loggers: Sequence[Any]) -> None:
        self.run, self.loggers = run, loggers
        self.finished: FinishedTraining | None = None

    def receive(self, message: Message) -> None:
        """Handle a message.

        Args:
            message: from any training process.

        Raises:
            OSError: the disk is full or the run folder can't be written.
            Exception: the error that ended the training.
        """
        match message:
            case LogLine(logger, level, text):
                logging.getLogger(logger).log(level, "%s", text)
            case Metrics(values, step):
                for logger in self.loggers:
                    logger.log_metrics(values, step)
            case File(name, content):
                self.run.folder(str(Path(name).parent))
                self.run.write_bytes(name, content)
            case Ended(error=Exception() as error):
                raise error
            case Ended(FinishedTraining() as finished):
                path = self.run / "checkpoints" / finished.best_checkpoint.name
                self.finished = replace(finished, best_checkpoint=path)
