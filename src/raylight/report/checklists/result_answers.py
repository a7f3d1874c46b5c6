"""What a run can say of its result: numbers, how sure they are, and where the network fails."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from raylight.config.rules.metric_names import LABELS
from raylight.errors import ConfigError
from raylight.evaluation.metrics import confusion_matrix
from raylight.report.caveats import caveats_of
from raylight.report.checklists.answer import REPORT, Answer, listed
from raylight.report.facts import Measured, RunFacts, measured_metrics
from raylight.report.subgroups import read_subgroups

RESULT = f"{REPORT}#result"

SHOWN = 12
"""Subgroups in an answer at most."""


def summary(facts: RunFacts) -> Answer:
    """Methods and results in two sentences."""
    weights = "random weights" if facts.config.model.weights is None else "pretrained weights"
    return Answer(
        f"{facts.config.model.name}, from {weights}, was trained on {facts.total('train')} images and chosen on "
        f"{facts.total('val')} others. On {len(facts.test)} test images: {_main_metrics(facts)} (95 % intervals).",
        (RESULT, "model_card.md"),
    )


def _main_metrics(facts: RunFacts) -> str:
    measured = facts.measured()
    return ", ".join(f"{LABELS[name]} {measured[name].words}" for name in ("accuracy", "auroc") if name in measured)


def accuracy(facts: RunFacts) -> Answer:
    """The measures of accuracy."""
    return Answer(
        f"On {len(facts.test)} test images: {_main_metrics(facts)} (95 % intervals).", (RESULT, "metrics.json")
    )


def metrics(facts: RunFacts) -> Answer:
    """Which metrics are given."""
    return Answer(f"{listed([one.label for one in facts.measured().values()])}.", ("metrics.json", RESULT))


def plots(facts: RunFacts) -> Answer | None:
    """Which figures there are."""
    folder = facts.run / "plots"
    names = sorted(file.stem.replace("_", " ") for file in folder.glob("*.png")) if folder.is_dir() else []
    return Answer(f"{listed(names)}.", ("plots", RESULT)) if names else None


def uncertainty(facts: RunFacts) -> Answer:
    """How intervals and tests are computed."""
    groups = "" if facts.test.labelled().groups is None else " All allow for images of one group being alike."
    return Answer(
        "Each metric has a 95 % interval: proportions Wilson's, AUROC a score interval with DeLong's variance, the "
        f"calibration error conservative bounds, the others a bootstrap's.{groups} One run tests no hypothesis; `raylight "
        "compare` tests differences of runs on the same images.",
        ("metrics.json",),
    )


def performance(facts: RunFacts) -> Answer:
    """All metrics with their intervals."""
    return Answer(f"{_all_metrics(facts.measured().values())}.", ("metrics.json", "metrics.tex", RESULT))


def _all_metrics(measured: Iterable[Measured]) -> str:
    return "; ".join(f"{one.label} {one.words}, n = {one.n}" for one in measured)


def confusion(facts: RunFacts) -> Answer:
    """Predicted against true classes."""
    names, matrix = facts.test.class_names, confusion_matrix(facts.test, facts.threshold)
    if len(names) > 4:
        return Answer(f"{facts.right} of {len(facts.test)} test images are right; the table has each class.", (RESULT,))
    told = "; ".join(
        f"of {row.sum()} {name} " + ", ".join(f"{n} called {given}" for n, given in zip(row, names, strict=True))
        for name, row in zip(names, matrix, strict=True)
    )
    return Answer(f"{told[0].upper()}{told[1:]}.", (RESULT, "predictions.csv"))


def failures(facts: RunFacts) -> Answer:
    """The errors."""
    wrong = len(facts.test) - facts.right
    return Answer(
        f"{wrong} of {len(facts.test)} test images are wrong; the report shows the most confident ones.",
        (f"{REPORT}#images", "predictions.csv"),
    )


def robustness(facts: RunFacts) -> Answer | None:
    """What the network relies on, where it was tested."""
    if not facts.shortcuts_known:
        return None
    told = [check["sentence"] for check in facts.run.read_json("shortcuts.json")["checks"] if check["sentence"]]
    return Answer(" ".join(told), ("shortcuts.json", f"{REPORT}#shortcuts")) if told else None


def subgroups(facts: RunFacts) -> Answer | None:
    """Results of subgroups, where they were asked for."""
    rows = read_subgroups(facts.run)
    if not rows:
        return None
    told = [
        f"{row['column']} {row['subgroup']} {float(row['accuracy']):.3f} "
        f"({float(row['accuracy_low']):.3f} to {float(row['accuracy_high']):.3f}), n = {row['n']}"
        for row in rows[:SHOWN]
        if row["accuracy"]
    ]
    more = [f"{len(rows) - SHOWN} more in the table"] if len(rows) > SHOWN else []
    return Answer(f"Accuracy by subgroup: {'; '.join(told + more)}.", ("subgroups.csv", RESULT))


def explanations(facts: RunFacts) -> Answer | None:
    """Heat maps and nearest training images."""
    if not facts.config.report.gradcam or not (facts.run / REPORT).is_file():
        return None
    near = (facts.run / "neighbours.json").is_file()
    beside = ", and the nearest training images beside each error" if near else ""
    return Answer(f"Grad-CAM on test images, right and wrong ones{beside}.", (f"{REPORT}#images", "neighbours.json"))


def internal(facts: RunFacts) -> Answer:
    """The run's own test images."""
    return Answer(
        f"{len(facts.test)} test images of the same data set, kept out of training and of all choices, "
        f"looked at {'once' if facts.looks == 1 else f'{facts.looks} times'}.",
        ("metrics.json", "looks.csv"),
    )


def limitations(facts: RunFacts) -> Answer | None:
    """The caveats of the result."""
    notes = caveats_of(facts)
    return Answer(" ".join(notes), (f"{REPORT}#summary", "model_card.md")) if notes else None


def external_result(folder: Path) -> Callable[[RunFacts], Answer]:
    """The answer that an evaluation on other data gives.

    Args:
        folder: as ``raylight evaluate RUN --data DATA --out FOLDER`` wrote it.

    Raises:
        ConfigError: it holds no result of such an evaluation. The answer raises it where that is another run's.
    """
    wanted = "the folder of `raylight evaluate RUN --data DATA --out FOLDER`"
    try:
        found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        measured = measured_metrics(found, "test")
        run, images = Path(found["provenance"]["run"]).name, int(found["provenance"]["test_files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError([f"--external: {folder} isn't {wanted} ({type(error).__name__}: {error})"]) from error
    told = _all_metrics(one for one in measured.values() if None not in (one.value, one.low, one.high))

    def external(facts: RunFacts) -> Answer:
        if run != facts.run.path.resolve().name:
            raise ConfigError([f"--external: {folder} is an evaluation of {run}, not of {facts.run.path.name}"])
        return Answer(f"On {images} images of another data set: {told}.", (str((folder / "metrics.json").resolve()),))

    return external


RESULT_ANSWERS: dict[str, Callable[[RunFacts], Answer | None]] = {
    answer.__name__: answer
    for answer in (
        *(summary, accuracy, metrics, plots, uncertainty, performance, confusion, failures, robustness, subgroups),
        *(explanations, internal, limitations),
    )
}
"""By the name that the standards use."""
