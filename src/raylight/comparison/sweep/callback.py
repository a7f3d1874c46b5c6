"""At the end of a multirun, whatever launched its jobs, its table is written, printed and logged.

A Hydra callback, named in ``config.launch``; Hydra imports it before each job, so it imports nothing heavy itself.
"""

import logging
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

log = logging.getLogger("raylight")


class SweepTableCallback(Callback):
    """Ends a multirun with one table."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write, print and log the table.

        Raises:
            SystemExit: with 1, when a job has no result; jobs may have run in other processes or on other machines, so
                that only their folders know.
        """
        from raylight.comparison.sweep.table import sweep_table

        table = sweep_table(Path(str(config.hydra.sweep.dir)).resolve())
        try:
            self._report(table)
        except Exception:  # a failing table must not hide how the jobs ended
            log.exception("The sweep's table can't be written.")
            raise SystemExit(1) from None
        if table.unfinished:
            raise SystemExit(1)

    def _report(self, table: Any) -> None:
        from rich.console import Console
        from rich.padding import Padding

        from raylight.comparison.sweep.files import failures, text_table, write_sweep

        files = write_sweep(table)
        width = None if sys.stdout.isatty() else 200
        console = Console(width=width, highlight=False, soft_wrap=False)
        console.print(text_table(table).terminal(console.width))
        for row in table.rows:
            for text in failures(table, row):
                console.print(f"{row.name} {text}", style="red", markup=False)
        for note in table.notes:
            console.print(Padding(note, (0, 0, 0, 0)), markup=False)
        self._log(table, files)
        console.print(f"{files['html']}", markup=False, soft_wrap=True)
        print(table.folder, flush=True)  # noqa: T201 - the command's result

    def _log(self, table: Any, files: dict[str, Path]) -> None:
        """Log the table to a W&B run of its own, when the jobs log to W&B."""
        from omegaconf import OmegaConf

        from raylight.comparison.sweep.files import flat_rows, summary
        from raylight.config.schema import LoggerConfig
        from raylight.runs.tracking import tracking

        configs = [path for job in table.jobs if (path := job.run / "config.yaml").is_file()]
        if not configs:
            return
        logger = OmegaConf.to_object(
            OmegaConf.merge(OmegaConf.structured(LoggerConfig), OmegaConf.load(configs[0]).logger)
        )
        assert isinstance(logger, LoggerConfig)
        with tracking(logger, table.folder, {"jobs": len(table.jobs), **table.fixed}, ["sweep"]) as tracker:
            if tracker.run is None:
                return

            def page() -> dict[str, Any]:
                import wandb

                return {"comparison_page": wandb.Html(files["html"].read_text(encoding="utf-8"), inject=False)}

            rows = flat_rows(table)
            tracker.table("comparison", list(rows[0]), lambda: [list(row.values()) for row in rows])
            tracker.log("the sweep's page", page)
            tracker.summary(summary(table))
