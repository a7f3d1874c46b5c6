"""Raylight called from Python: train, load a run, compare runs, audit images, rank networks.

The same composing, checking and stages as the commands, but errors are raised (``RaylightError``, with the same text), nothing
ends the process, and nothing is printed unless asked for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raylight.errors import RunError

if TYPE_CHECKING:
    import pandas as pd

    from raylight.auditing.dataset import Audit
    from raylight.comparison.study import Study
    from raylight.config.schema import RunConfig
    from raylight.evaluation.metrics import Estimate
    from raylight.pipeline.probing.ranking import Ranking
    from raylight.runs.run_dir import RunDir

PathLike = str | Path


@dataclass(frozen=True)
class Run:
    """A run, by its folder; everything is read from there when it is asked for.

    Attributes:
        path: of the folder.
    """

    path: Path

    @property
    def config(self) -> "RunConfig":
        """All settings, with what was chosen for this machine."""
        from raylight.config.resume import saved_config

        return saved_config(self._folder() / "config.yaml")

    @property
    def metrics(self) -> "dict[str, Estimate]":
        """Each metric of ``test`` and ``val``, with its 95 % interval and n, by names such as ``test/accuracy``."""
        from raylight.evaluation.metrics import from_json

        found = self._folder().read_json("metrics.json")
        return {
            f"{split}/{name}": one for split in ("test", "val") for name, one in from_json(found, f"{split}/").items()
        }

    @property
    def predictions(self) -> "pd.DataFrame":
        """A row per image of ``val`` and ``test``: path, split, label, predicted, and the probability of each class."""
        import pandas as pd

        return pd.read_csv(self.path / "predictions.csv", keep_default_na=False, encoding_errors="surrogateescape")

    @property
    def history(self) -> "pd.DataFrame":
        """A row per epoch, counted from 0: losses, metrics, learning rate, seconds."""
        import pandas as pd

        return pd.read_csv(self.path / "history.csv")

    @property
    def report(self) -> Path:
        """The report, ``report.html``.

        Raises:
            RunError: there is none, since ``report.enabled=false`` or the run hasn't finished.
        """
        page = self.path / "report.html"
        if not page.is_file():
            raise RunError(f"{page} isn't there: the run was made with report.enabled=false, or hasn't finished.")
        return page

    def predict(self, images: PathLike | Iterable[PathLike]) -> "pd.DataFrame":
        """Classifies images.

        Args:
            images: a file, a folder of files, or several of them.

        Returns:
            A row per file: path, predicted, ``p_CLASS`` of each class, and the reason where the file can't be used (else None).

        Raises:
            RunError: the run can't be used.
        """
        from raylight.serving.predict import predictions_of

        several = [images] if isinstance(images, str | Path) else images
        return predictions_of(self.path, [Path(one) for one in several])

    def evaluate(self, data: PathLike | None = None, classes: str | None = None) -> "dict[str, Estimate]":
        """Evaluates the run again, on its own test images or on others.

        Args:
            data: a folder of images, a CSV or the URI of either; None takes the run's own test images.
            classes: the run's classes under the names that the data uses: ``cats=cat,dogs=dog``.

        Returns:
            Each metric with its 95 % interval, by names such as ``accuracy``.

        Raises:
            RaylightError: the run or the data can't be used.
        """
        from raylight.serving.evaluate import evaluated

        return dict(evaluated(self.path, None if data is None else str(data), classes).estimates)

    def _folder(self) -> "RunDir":
        from raylight.runs.run_dir import RunDir

        return RunDir.open(self.path)

    def _repr_html_(self) -> str:
        """What a notebook shows: the test metrics, and the plot of the loss where there is one."""
        import base64
        import html

        cells = "".join(
            f"<tr><td>{name.removeprefix('test/')}</td><td>{one.value:.3f}</td><td>{one.low:.3f} to {one.high:.3f}</td>"
            f"<td>{one.n}</td></tr>"
            for name, one in self.metrics.items()
            if name.startswith("test/")
        )
        table = f"<table><tr><th>test</th><th>value</th><th>95 % interval</th><th>n</th></tr>{cells}</table>"
        curves = self.path / "plots" / "loss.png"
        picture = base64.b64encode(curves.read_bytes()).decode() if curves.is_file() else ""
        drawn = f'<img alt="loss by epoch" src="data:image/png;base64,{picture}">' if picture else ""
        return f"<p><code>{html.escape(str(self.path))}</code></p>{table}{drawn}"


@dataclass(frozen=True)
class Comparison:
    """Recipes compared by their runs.

    Attributes:
        study: all results: recipes, pairs, notes.
    """

    study: "Study"

    @property
    def table(self) -> "pd.DataFrame":
        """A row per pair and metric: both values, the difference, its 95 % interval, p, and p corrected for all pairs."""
        import pandas as pd

        from raylight.comparison.study_files import table_rows

        return pd.DataFrame(table_rows(self.study))

    def write(self, folder: PathLike) -> dict[str, Path]:
        """Writes the page and the tables of ``raylight compare --out``.

        Args:
            folder: made if it isn't there.

        Returns:
            The files, by name.
        """
        from raylight.comparison.study_files import write_study

        return write_study(self.study, Path(folder))

    def __str__(self) -> str:
        """The comparison in Markdown."""
        from raylight.comparison.study_text import markdown

        return markdown(self.study)

    def _repr_html_(self) -> str:
        return str(self.table._repr_html_())  # type: ignore[operator]


def train(*settings: str, progress: bool | None = None) -> Run:
    """Trains, as ``raylight train SETTING=VALUE ...`` does, and returns when the run has ended.

    Args:
        settings: such as ``"model=resnet18"``, ``"data=xray"``, ``"trainer.max_epochs=3"``.
        progress: show bars and messages; None does in a notebook.

    Returns:
        The finished run.

    Raises:
        ConfigError: a setting is wrong; all problems are listed.
        RaylightError: the data, the weights or the training can't be used.
    """
    from raylight.pipeline.called import train_here

    return Run(train_here(settings, progress=progress))


def load(path: PathLike) -> Run:
    """Opens the run in a folder.

    Args:
        path: of the run's folder; ``~`` is the home folder.

    Returns:
        The run.

    Raises:
        RunError: it is no run folder.
    """
    run = Run(Path(path).expanduser())
    run._folder()
    return run


def compare(runs: Sequence[Run | PathLike]) -> Comparison:
    """Compares recipes by their runs, over seeds and test images.

    Args:
        runs: runs, their folders, or folders of sweeps.

    Returns:
        Each recipe's metrics and the differences between them, as a table, in Markdown and as files.

    Raises:
        IncomparableError: the runs have no result, or differ in their classes or labels.
    """
    from raylight.comparison.study import study_of

    return Comparison(study_of([run.path if isinstance(run, Run) else Path(run) for run in runs]))


def audit(target: PathLike, *settings: str) -> "Audit":
    r"""Looks for what makes results on a data set untrustworthy: broken files, duplicates, leaks, labels in the metadata.

    Args:
        target: a folder of images, or ``data=NAME``.
        settings: of the data, such as ``r"data.group_pattern='^(p\d+)_'"``.

    Returns:
        The findings, and the numbers behind them.

    Raises:
        RaylightError: there are no images, or a setting is wrong.
    """
    from raylight.auditing.commands import audit_of

    return audit_of(str(target), settings)


def rank(*settings: str, progress: bool = False) -> "Ranking":
    """Ranks pretrained networks by a linear head on their features, as ``raylight rank SETTING=VALUE ...`` does.

    Args:
        settings: such as ``"data.root=PATH"`` and ``"models=resnet18,mobilenet_v2"``.
        progress: show bars and messages.

    Returns:
        The networks, the best first, each with its accuracy and the difference to the best.

    Raises:
        RaylightError: the settings, the images or the weights can't be used.
    """
    import sys

    from raylight.pipeline.probing.rank import ranked
    from raylight.process import random_numbers
    from raylight.runs.console import messages_on

    with random_numbers(), messages_on(sys.stdout if progress else None):
        return ranked(settings, "auto" if progress else "off")
