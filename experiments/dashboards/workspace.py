"""Builds the W&B workspace of a project of runs: results with their costs, curves, pictures, the search.

    python experiments/dashboards/workspace.py --entity NAME [--project raylight]      # saves it; prints its address
    python experiments/dashboards/workspace.py --out workspace.json                    # offline: what would be sent

Every name in it is one that a run logs (``runs.tracking``), which a test holds against a real run.
"""

import argparse
import sys
from pathlib import Path

import wandb_workspaces.expr as expr
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

RESULTS = ("accuracy", "balanced_accuracy", "f1", "auroc", "ece")
"""Test metrics that have a bar each."""

CURVES = ("loss", "accuracy", "auroc", "f1")
"""Metrics of train and validation, by epoch."""

PINNED = ("test/accuracy", "test/accuracy_low", "test/accuracy_high", "test/auroc", "test/ece", "cost/seconds_training")
"""Columns beside the runs' names."""


def workspace(entity: str, project: str) -> ws.Workspace:
    """The workspace, not saved.

    Args:
        entity: user or team.
        project: whose runs it shows.
    """
    return ws.Workspace(
        entity=entity,
        project=project,
        name="Raylight",
        sections=[_results(), _costs(), _curves(), _pictures(), _search()],
        settings=ws.WorkspaceSettings(x_axis="epoch", smoothing_type="none", tooltip_number_of_runs="all_runs"),
        runset_settings=ws.RunsetSettings(
            groupby=[expr.Metric("Group")],
            order=[expr.Ordering(expr.Summary("test/accuracy"), ascending=False)],
            pinned_columns=[f"summary:{name}" for name in PINNED],
        ),
    )


def as_json(built: ws.Workspace) -> str:
    """What saving the workspace would send, as text; W&B's library has no public name for it."""
    sent: str = built._to_model().spec.model_dump_json(by_alias=True, exclude_none=True, indent=1)
    return sent


def _results() -> ws.Section:
    bars = [wr.BarPlot(title=f"Test {name}", metrics=[wr.SummaryMetric(f"test/{name}")]) for name in RESULTS]
    return ws.Section(
        name="Results on the test images", panels=[*bars, wr.RunComparer(diff_only="split")], is_open=True
    )


def _costs() -> ws.Section:
    accuracy = wr.SummaryMetric("test/accuracy")
    costs = {
        "training time": "cost/seconds_training",
        "parameters": "cost/parameters",
        "memory": "cost/peak_memory_gb",
    }
    scatters = [
        wr.ScatterPlot(
            title=f"Accuracy against {words}", x=wr.SummaryMetric(name), y=accuracy, log_x=name == "cost/parameters"
        )
        for words, name in costs.items()
    ]
    speed = wr.BarPlot(title="Training images a second", metrics=[wr.SummaryMetric("cost/images_per_second")])
    return ws.Section(name="What accuracy costs", panels=[*scatters, speed], is_open=True)


def _curves() -> ws.Section:
    lines = [wr.LinePlot(title=f"{name} by epoch", x="epoch", y=[f"train/{name}", f"val/{name}"]) for name in CURVES]
    return ws.Section(
        name="Training",
        panels=[*lines, wr.LinePlot(title="learning rate", x="epoch", y=["learning_rate"])],
        is_open=True,
    )


def _pictures() -> ws.Section:
    figures = [f"plots/{name}" for name in ("confusion_matrix", "roc", "precision_recall", "reliability", "metrics")]
    return ws.Section(
        name="Pictures",
        panels=[
            wr.MediaBrowser(title="Figures with intervals", media_keys=figures, num_columns=3),
            wr.WeavePanelSummaryTable(table_name="predictions"),
        ],
        is_open=True,
    )


def _search() -> ws.Section:
    """Sweeps: the table of one, and which settings mattered for the validation metric, never for test."""
    axes = [wr.Config("model.name"), wr.Config("optimizer.lr"), wr.Config("trainer.batch_size"), wr.Config("seed")]
    columns = [wr.ParallelCoordinatesPlotColumn(metric=metric) for metric in (*axes, wr.SummaryMetric("best/val/loss"))]
    return ws.Section(
        name="Search",
        panels=[
            wr.WeavePanelSummaryTable(table_name="comparison"),
            wr.ParallelCoordinatesPlot(title="Settings and what they led to", columns=columns),
            wr.ParameterImportancePlot(with_respect_to="best/val/loss"),
        ],
        is_open=False,
    )


def main() -> int:
    """Build it, and save it or write it down."""
    parser = argparse.ArgumentParser(description="Build the W&B workspace of a project of runs.")
    parser.add_argument("--entity", help="user or team; needed to save it")
    parser.add_argument("--project", default="raylight")
    parser.add_argument("--out", type=Path, help="write what would be sent into this file, offline")
    arguments = parser.parse_args()
    if arguments.out is None and arguments.entity is None:
        parser.error("--entity NAME says whose workspace it is; --out FILE writes it without an account")
    built = workspace(arguments.entity or "ENTITY", arguments.project)
    if arguments.out is not None:
        arguments.out.write_text(as_json(built), encoding="utf-8")
        print(arguments.out)
        return 0
    built.save()
    print(built.url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
