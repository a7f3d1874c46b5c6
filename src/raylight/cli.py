"""``raylight``: training, and what is done with finished runs.

Each command only reads its arguments here; the room that it names does the work. Exit codes are in each command's help.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from raylight.errors import RaylightError
from raylight.imports import postpone_imports
from raylight.installation import OPTION_FILES, join_project
from raylight.process import ending_at_once, ensure_home, shorten_waits
from raylight.runs.console import log_to
from raylight.storage.atomic import check_output


class _Commands(TyperGroup):
    """Commands whose help doesn't say of an argument that it is a ``list[Path]``: its name says what to give, and how often."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command: Any = super().get_command(ctx, cmd_name)
        for parameter in command.params if command else ():
            if parameter.param_type_name == "argument":
                parameter.display_type = lambda ctx: ""
        return command


app = typer.Typer(
    cls=_Commands, no_args_is_help=True, add_completion=True, rich_markup_mode=None, pretty_exceptions_enable=False
)

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as training prints it last.")]
Precision = Annotated[str | None, typer.Option(help="fp32, bf16, int8 (certified on validation); else the run's.")]
Engine = Annotated[str | None, typer.Option(help="raylight or openvino (an extra; certified on validation).")]
DataSettings = Annotated[
    list[str] | None, typer.Argument(metavar="[data.SETTING=VALUE]...", help="Such as data.root=PATH.")
]


@app.callback()
def describe() -> None:
    """Train; audit data; evaluate, predict with, compare, show, export and resume runs; begin a project."""


def _completed(incomplete: str) -> list[str]:
    from raylight.config.launch import completions

    return completions(OPTION_FILES, incomplete)


@app.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
def train(
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[SETTING=VALUE]...", autocompletion=_completed)
    ] = None,
) -> None:
    """Train a run, or sweep with -m. As in raylight train model=resnet18 data=xray; --help lists all choices."""
    from raylight.pipeline.command import train_command

    raise typer.Exit(train_command(settings or []))


@app.command()
def audit(
    target: Annotated[
        str,
        typer.Argument(metavar="PATH | data=NAME | RUN", help="A folder of images, an option of conf/data, or a run."),
    ],
    settings: DataSettings = None,
    out: Annotated[Path | None, typer.Option(help="Write audit.json and audit.html into this folder.")] = None,
) -> None:
    """Audit a data set, or what a run's network relies on. It looks for what makes results untrustworthy.

    Exit codes: 0 clean, 1 there are findings, 2 the data or the run can't be used.
    """
    from raylight.auditing.commands import audit_target

    _guarded(lambda: audit_target(target, settings or [], out), folder=out)


@app.command()
def rank(
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH | data=NAME [models=A,B] [SETTING=VALUE]...",
            help="Images, and networks of torchvision or timm; without models= all whose weights are at hand, those of "
            "model.weights=FOLDER among them. NAME:random has random weights.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for ranking.csv and ranking.json.")] = None,
) -> None:
    """Rank pretrained networks by a head on their features. None is trained, and no test image is looked at.

    Exit codes: 0 all were ranked, 1 some can't be (they are named), 2 the images, networks or settings can't be used.
    """
    from raylight.pipeline.probing.rank import rank_networks

    _guarded(lambda: rank_networks(settings, out), folder=out)


@app.command()
def more(
    target: Annotated[
        str,
        typer.Argument(metavar="PATH | data=NAME | RUN", help="Images, or a run, whose images and network are taken."),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SETTING=VALUE]...", help="Such as data.root=PATH model=resnet18 model.weights=FILE."),
    ] = None,
    accuracy: Annotated[
        float | None, typer.Option(help="That is wanted, 0 to 1: how many images does it take?")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for more.json and more.png.")] = None,
) -> None:
    """Say what more images would bring. By the learning curve of a head on a pretrained network's features.

    Exit codes: 0 told, 2 the images, the network or the settings can't be used.
    """
    from raylight.pipeline.probing.more import report_more

    _guarded(lambda: report_more(target, settings or [], accuracy, out), folder=out)


@app.command()
def labels(
    target: Annotated[
        str,
        typer.Argument(
            metavar="PATH | data=NAME | RUN | SWEEP",
            help="Images, a run, whose images are judged, or a cross-validation's sweep.",
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SETTING=VALUE]...", help="Such as data.root=PATH model=resnet18 model.weights=FILE."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for label_errors.csv and label_errors.html.")] = None,
) -> None:
    """List labels that are probably wrong. Judged by models that never saw the image.

    Of images and runs by a linear head on a pretrained network's features, each image left out; of a sweep by its folds.
    Exit codes: 0 none is suspected, 1 some are, 2 the images or runs can't be used.
    """
    from raylight.pipeline.probing.labels import list_suspects

    _guarded(lambda: list_suspects(target, settings or [], out), folder=out)


@app.command()
def evaluate(
    run: RunFolder,
    data: Annotated[
        str | None,
        typer.Option(help="A folder of images, a CSV or the URI of either; without it, the run's own test images."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(metavar="THEIRS=OWN,...", help="Classes of --data that the run calls otherwise: cats=cat."),
    ] = None,
    unlabelled: Annotated[
        Path | None, typer.Option(help="More images from where --data comes from; they sharpen its accuracy.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write metrics.json and predictions.csv into this folder.")] = None,
) -> None:
    """Measure a run again, from its folder alone.

    Exit codes: 0 done, 1 failed, 2 the run or the data can't be used.
    """
    from raylight.serving.evaluate import evaluate_run

    _guarded(lambda: evaluate_run(run, data, classes, out, unlabelled), folder=out)


@app.command()
def predict(
    run: RunFolder,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")],
    out: Annotated[Path | None, typer.Option(help="CSV file to write; else a table, CSV if it is piped.")] = None,
    precision: Precision = None,
    engine: Engine = None,
) -> None:
    """Say the class of images, with probabilities.

    Exit codes: 0 every image was predicted, 1 some couldn't be read (they are named), 2 the run can't be used.
    """
    from raylight.serving.predict import predict_images
    from raylight.serving.versions.opening import Version

    _guarded(lambda: predict_images(run, images, out, Version(precision, engine)), file=out)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN... | SWEEP", help="Run folders, or a sweep's folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the comparison; without it, only the table.")] = None,
) -> None:
    """Compare recipes over seeds and test images. A recipe is a configuration without its seed.

    Exit codes: 0 compared, 1 failed, 2 the runs can't be compared (other classes, no result).
    """
    from raylight.comparison.study_files import compare_runs

    _guarded(lambda: compare_runs(runs, out), folder=out)


@app.command()
def checklist(
    run: RunFolder,
    standard: Annotated[str, typer.Option(help="claim, tripod-ai or stard-ai.")],
    out: Annotated[Path | None, typer.Option(help="The page to write; by default in the run folder.")] = None,
    external: Annotated[Path | None, typer.Option(help="Folder that raylight evaluate --data --out wrote.")] = None,
) -> None:
    """Fill a reporting checklist from a run. Each answer links to what shows it; the rest are questions to the author.

    Exit codes: 0 written, 1 the run has no result, 2 the standard or the evaluation can't be used.
    """
    from raylight.report.checklists.checklist import write_checklist

    _guarded(lambda: write_checklist(run, standard, out, external), file=out)


@app.command()
def export(
    run: RunFolder,
    format: Annotated[str, typer.Option(help="onnx, torch_export, or web: a page for browsers.")] = "onnx",  # noqa: A002
    out: Annotated[Path | None, typer.Option(help="The file to write; by default in the run folder.")] = None,
    prepared: Annotated[bool, typer.Option(help="Input is of the model's size already; else of any size.")] = False,
    runtime: Annotated[
        Path | None, typer.Option(help="For web: folder of the npm package onnxruntime-web; else npm downloads it.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="fp32; with onnx also int8 (certified on validation).")] = None,
) -> None:
    """Write the model into one file, checked against the run. Resizing and calibration are inside.

    Exit codes: 0 written and checked, 1 the check failed, 2 the run or the format can't be used.
    """
    from raylight.serving.exports.command import export_run

    _guarded(lambda: export_run(run, format, out, prepared=prepared, runtime=runtime, precision=precision), file=out)


@app.command()
def serve(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, shown side by side.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 7860,
    max_mb: Annotated[float, typer.Option(help="Size of an uploaded picture at most, in megabytes.")] = 20.0,
    allow_host: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A proxy's name; repeatable.")] = None,
    precision: Precision = None,
) -> None:
    """Open a page that classifies dropped pictures. It shows how sure that is, and where the network looked.

    Exit codes: 0 stopped by Ctrl-C, 1 failed, 2 a run, the address or the port can't be used.
    """
    from raylight.serving.app import serve_runs
    from raylight.serving.versions.opening import Version

    _guarded(lambda: serve_runs(runs, host, port, max_mb, allow_host or (), Version(precision)))


@app.command()
def resume(
    run: RunFolder,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[trainer.max_epochs=N]", help="More epochs, for a finished run, too; nothing else changes."
        ),
    ] = None,
) -> None:
    """Go on with an interrupted run, or train for more epochs. In the same folder.

    Exit codes: those of raylight train.
    """
    from raylight.pipeline.job import resume_run

    _guarded(lambda: resume_run(run, settings or ()))


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where; by default here.")] = Path(),
) -> None:
    """Begin a project of your own. With an experiment and a model beside Raylight's, and a package with a network.

    Exit codes: 0 done, 1 failed, 2 a file of that name is there, or the folder can't be written.
    """
    from raylight.project import init_project

    _guarded(lambda: init_project(folder))


@app.command()
def schema(
    out: Annotated[
        Path | None, typer.Option(help="The file to write, conf/schema.json; without it, it is printed.")
    ] = None,
) -> None:
    """Write a JSON Schema of all settings, for editors. They complete, explain and check settings in YAML files by it.

    Exit codes: 0 done, 1 the file can't be written.
    """
    from raylight.project import write_schema

    _guarded(lambda: write_schema(out), file=out)


def _guarded(work: Callable[[], int], *, folder: Path | None = None, file: Path | None = None) -> None:
    """Do the work; a user's mistake ends in its sentence and exit code, not in a traceback.

    Args:
        work: the command's; returns the exit code.
        folder: that it will write into; that this can be done is checked before the work.
        file: that it will write, likewise.
    """
    log_to(sys.stderr)
    try:
        for out, is_folder in ((folder, True), (file, False)):
            if out is not None:
                check_output("--out", out, is_folder=is_folder)
        code = work()
    except RaylightError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the answer to a user's mistake
        code = error.exit_code
    except OSError as error:  # a full disk, a folder that has become read-only, a device that fails
        if not error.filename:
            raise
        print(f"{os.fsdecode(error.filename)}: {error.strerror}", file=sys.stderr)  # noqa: T201
        code = 1
    raise typer.Exit(code)


def main() -> None:
    """The console script."""
    with ending_at_once():
        ensure_home()
        shorten_waits()
        postpone_imports()
        join_project()
        app()
