"""The table of a sweep, written: ``comparison.csv``, ``.md`` and ``.html``, the terminal, and W&B.

Leaves out the numbers (``table``).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raylight.comparison.cells import SHOWN, TextTable, cell, metric_heads, words
from raylight.comparison.sweep.choice import validation
from raylight.comparison.sweep.rows import Job, Row
from raylight.comparison.sweep.table import SweepTable
from raylight.config.rules.metric_names import LABELS, LOWER_IS_BETTER
from raylight.report.pages import Costed, count, decimal, draw_costs, render, seconds
from raylight.storage.atomic import write_atomically
from raylight.storage.tables import csv_text


def write_sweep(table: SweepTable) -> dict[str, Path]:
    """Write the table into the sweep's folder.

    Returns:
        The files by kind: csv, md, html.
    """
    points = [
        Costed(
            row.name, accuracy.mean, accuracy.low, accuracy.high, row.training_seconds, row.parameters, accuracy.values
        )
        for row in table.rows
        if (accuracy := row.metrics["accuracy"]).mean is not None
    ]
    page = render(
        "sweep.html",
        table=table,
        shown=SHOWN,
        metrics=list(dict.fromkeys(name for row in table.rows for name in row.metrics)),
        labels=LABELS,
        lower_is_better=LOWER_IS_BETTER,
        charts=draw_costs(points, table.folder),
        validation=validation,
        job_name=job_name,
        medical=_medical(table),
    )
    contents = {
        "csv": csv_text(flat_rows(table)),
        "md": markdown(table),
        "tex": text_table(table).latex(f"Sweep {table.folder.name}, with 95 % intervals."),
        "html": page,
    }
    return {
        kind: write_atomically(table.folder / f"comparison.{kind}", content.encode("utf-8", "surrogateescape"))
        for kind, content in contents.items()
    }


def flat_rows(table: SweepTable) -> list[dict[str, Any]]:
    """The whole table, a flat row per configuration, None where there is no value."""
    rows = []
    for row in table.rows:
        flat: dict[str, Any] = {"configuration": row.name}
        flat |= {name: row.choices.get(name) for name in table.settings}
        flat |= {"jobs": len(row.jobs), "finished": row.finished}
        if table.choice is not None:
            flat |= {"chosen_by": table.choice.by, "chosen": int(row is table.choice.row)}
            flat["validation"] = validation(row, table.choice.by).mean
            flat["validation_sd"] = validation(row, table.choice.by).deviation
        for name, metric in row.metrics.items():
            flat[f"test/{name}"] = metric.mean
            flat[f"test/{name}_sd"] = metric.deviation
            flat[f"test/{name}_low"] = metric.low
            flat[f"test/{name}_high"] = metric.high
        flat["parameters"] = row.parameters
        flat["training_seconds"] = row.training_seconds
        flat["seconds"] = row.seconds
        flat["peak_memory_gb"] = row.memory_gb
        flat["failures"] = "; ".join(failures(table, row)) or None
        flat["runs"] = " ".join(job_name(table, job) for job in row.jobs)
        rows.append(flat)
    return rows


def failures(table: SweepTable, row: Row) -> list[str]:
    """Why jobs of a configuration have no result."""
    return [
        f"{repeats + ': ' if (repeats := table.repeats(job)) else ''}{job.state}: {job.reason or 'no reason recorded'}"
        for job in row.jobs
        if job.state != "finished"
    ]


def job_name(table: SweepTable, job: Job) -> str:
    """The folder of a job, below the sweep's."""
    return str(job.run.path.relative_to(table.folder))


def jobs_words(row: Row) -> str:
    """How many of a row's jobs have a result."""
    return f"{row.finished}" if row.finished == len(row.jobs) else f"{row.finished} of {len(row.jobs)}"


def text_table(table: SweepTable) -> TextTable:
    """A row per configuration; the one that validation chooses is bold, one without a result red."""
    rows, styles = [], []
    for row in table.rows:
        chosen = [words(validation(row, table.choice.by))] if table.choice else []
        measured = [cell(row.metrics[name]) for name in SHOWN]
        costs = [count(row.parameters), seconds(row.training_seconds), _memory(row)]
        rows.append([row.name, jobs_words(row), *chosen, *measured, *costs])
        styles.append("red" if not row.finished else "bold" if table.choice and row is table.choice.row else None)
    by = [table.choice.by] if table.choice else []
    head = ["configuration", "runs", *by, *metric_heads(), "parameters", "training", "memory"]
    optional = ["memory", "parameters", *(name for name in metric_heads() if name not in ("accuracy", "AUROC"))]
    return TextTable(f"Sweep {table.folder.name}", head, rows, styles, [*optional, "training"])


def markdown(table: SweepTable) -> str:
    """Format the table in Markdown, with the reasons of jobs without a result."""
    lines = [f"# {table.folder.name}", "", *text_table(table).markdown()]
    if table.fixed:
        lines += ["", "For all: " + ", ".join(f"`{name}={value}`" for name, value in table.fixed.items()) + "."]
    for row in table.rows:
        lines += [
            f"{'' if lines[-1].startswith('- ') else chr(10)}- **{row.name}** {text}" for text in failures(table, row)
        ]
    return "\n".join([*lines, "", *(line for note in table.notes for line in (note, "")), ""]).rstrip() + "\n"


def summary(table: SweepTable) -> Mapping[str, float]:
    """Flat numbers for a dashboard: each configuration's metrics under its label."""
    return {
        f"{row.name}/test/{name}": metric.mean
        for row in table.rows
        for name, metric in row.metrics.items()
        if metric.mean is not None
    }


def _medical(table: SweepTable) -> bool:
    """Whether a job's data is medical."""
    from raylight.report.facts import RunFacts

    return any(RunFacts(job.run).config.data.medical for job in table.jobs if (job.run / "config.yaml").is_file())


def _memory(row: Row) -> str:
    return "–" if row.memory_gb is None else f"{decimal(row.memory_gb, 2)} GB"
