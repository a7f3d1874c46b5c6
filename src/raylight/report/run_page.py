"""``report.html``: everything about a run on one page that needs nothing but itself.

Covers which sections there are and what each says; the words and the looks are in ``templates/run_report.html`` and
``run_report_sections.html``. A section that fails is replaced by a sentence with the error and logged, so that a broken
figure never loses the report. Leaves out reading the folder (``run_facts``) and the pictures (``pictures``).
"""

import hashlib
import json
import logging
import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raylight.config.metric_names import LOWER_IS_BETTER
from raylight.config.schema import RunConfig
from raylight.errors import RunError
from raylight.evaluation import intervals
from raylight.evaluation.caveats import CAVEATS
from raylight.evaluation.metrics import confusion_matrix
from raylight.models.stages import StagedNetwork
from raylight.report.facts import SPLITS, RunFacts, chosen_row, rule_on_validation, worth_knowing
from raylight.report.images import (
    SAMPLE,
    Example,
    OriginalFiles,
    chart,
    examples,
    jpeg,
    sample_paths,
    telling_images,
)
from raylight.report.templating import page_templates
from raylight.runs.run_dir import RunDir

log = logging.getLogger("raylight")

MANY_CLASSES = 12
"""Beyond this number of classes the confusion matrix is a picture, and the commonest mistakes are listed."""

ROWS = 40
"""Rows that a table shows at most."""

CHART_WORDS = {
    "loss": "Loss by epoch. Where validation turns up while train goes on falling, the network learns by heart.",
    "accuracy": "Accuracy by epoch, on training images as they were augmented and on validation images.",
    "learning_rate": "Learning rate by epoch.",
    "roc": "Recall against false alarms at every threshold. The diagonal is guessing.",
    "precision_recall": "Precision against recall at every threshold. The dashed line is guessing.",
    "reliability": "What the probabilities claim against what came true; on the diagonal they can be taken at their word.",
    "confusion_matrix": "Of the images of each class (rows), how many were given each class (columns).",
}
"""What each chart shows, for its caption."""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: its anchor, and the macro that renders it.
        title: its heading.
        facts: what it is rendered from.
    """

    name: str
    title: str
    facts: Callable[[], Mapping[str, Any]]


def write_report(run: RunDir, network: StagedNetwork | None = None) -> Path:
    """Write ``report.html`` and ``model_card.md`` of a run whose results are in its folder.

    Args:
        run: with ``config.yaml``, ``metrics.json``, ``predictions.csv`` and so on; what is missing is told in place.
        network: the chosen one, for Grad-CAM; None leaves Grad-CAM out, and the report says so.

    Returns:
        The path of ``report.html``: one file of about 1 MB that loads nothing else.

    Raises:
        OSError: the folder can't be written.
    """
    from raylight.report.model_card import write_model_card

    facts = RunFacts(run)
    try:
        write_model_card(facts)
    except Exception as error:  # whatever a damaged folder makes it run into; the report must not be lost with it
        log.warning("model_card.md couldn't be written (%s: %s).", type(error).__name__, error)
    return run.write_text("report.html", render_report(facts, network))


def render_report(facts: RunFacts, network: StagedNetwork | None = None) -> str:
    """The page as text; see ``write_report``."""
    from markupsafe import Markup

    pages = page_templates("raylight.report")
    pages.filters["duration"] = duration
    macros = pages.get_template("run_report_sections.html").module
    sections = [
        Section("summary", "Summary", lambda: _summary(facts)),
        Section("asked", "What was asked", lambda: _asked(facts)),
        Section("data", "The data", lambda: _data(facts)),
        Section("training", "Training", lambda: _training(facts)),
        Section("result", "The result", lambda: _result(facts)),
        *([Section("shortcuts", "What it goes by", lambda: _shortcuts(facts))] if facts.shortcuts_known else []),
        Section("images", "The images", lambda: _images(facts, network)),
        Section("cost", "Cost", lambda: _cost(facts)),
        Section("provenance", "Provenance", lambda: _provenance(facts)),
    ]
    rendered = []
    for section in sections:
        try:
            body = getattr(macros, section.name)(section.facts())
        except Exception as error:  # whatever broke, the other sections are worth having
            log.warning("The report's section %r failed (%s: %s).", section.title, type(error).__name__, error)
            log.debug("The report's section %r failed.", section.title, exc_info=True)
            body = Markup('<p class="broken">This section couldn\'t be made ({}: {}).</p>').format(
                type(error).__name__, error
            )
        rendered.append((section.name, section.title, body))
    page = pages.get_template("run_report.html").render(head=_head(facts), sections=rendered)
    # File names may hold bytes that are no UTF-8; a page shows a question mark.
    return page.encode("utf-8", "replace").decode("utf-8")


def duration(seconds: float) -> str:
    """Seconds as people say them: ``0.24 s``, ``43 s``, ``2 min 05 s``, ``3 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _head(facts: RunFacts) -> dict[str, Any]:
    """Title, date and banner; of a folder that can't be read, what is left of them."""
    try:
        config, started = facts.config, str(facts.status["started"])
        return {"title": facts.title, "started": started, "folder": facts.run.path.name, "medical": config.data.medical}
    except Exception as error:  # as for the sections
        log.warning("The report's heading failed (%s: %s).", type(error).__name__, error)
        # Better a banner too many than one too few.
        return {"title": facts.run.path.name, "started": "", "folder": facts.run.path.name, "medical": True}


def _summary(facts: RunFacts) -> dict[str, Any]:
    measured = facts.measured()
    two = len(facts.test.class_names) == 2
    shown = ("auroc", "recall", "specificity", "ece") if two else ("balanced_accuracy", "auroc", "f1", "ece")
    return {
        "accuracy": measured["accuracy"],
        "right": facts.right,
        "n": len(facts.test),
        "tiles": [measured[name] for name in shown if name in measured],
        "positive": facts.test.positive_class if two else None,
        "chosen": facts.chosen,
        "temperature": facts.temperature,
        "threshold": facts.threshold,
        "rule": facts.decision.get("rule"),
        "rule_on_validation": rule_on_validation(facts.decision),
        "notes": worth_knowing(facts),
        "classes": facts.test.class_names,
        "train": facts.total("train"),
    }


def _asked(facts: RunFacts) -> dict[str, Any]:
    from omegaconf import OmegaConf

    defaults = OmegaConf.to_container(OmegaConf.structured(RunConfig), resolve=True)
    asked, usual = dict(_flat(facts.settings)), dict(_flat(defaults))
    typed = [text.lstrip("+~").partition("=")[0] for text in facts.overrides or []]
    changed = [
        {
            "group": key.rpartition(".")[0],
            "name": key.rpartition(".")[2],
            "value": _plain(value),
            "usual": _plain(usual.get(key)),
            "typed": any(name == key or name.startswith(f"{key}.") for name in typed),
        }
        for key, value in asked.items()
        if value != usual.get(key)
    ]
    return {
        "overrides": facts.overrides,
        "changed": changed,
        "notes": facts.config.notes,
        "all": [(key, _plain(value)) for key, value in asked.items()],
    }


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Settings by dotted name; lists and ``_target_`` nodes stay whole."""
    if not isinstance(value, dict) or not value or "_target_" in value:
        return [(prefix, value)]
    return [pair for key, inner in value.items() for pair in _flat(inner, f"{prefix}.{key}" if prefix else str(key))]


def _plain(value: Any) -> str:
    """A setting as people write it; a ``_target_`` node as the call that it stands for."""
    if isinstance(value, dict) and "_target_" in value:
        arguments = [f"{k}={_plain(v)}" for k, v in value.items() if k not in ("_target_", "_partial_")]
        return f"{value['_target_']}({', '.join(arguments)})"
    if isinstance(value, dict):
        return " ".join(f"{k}={_plain(v)}" for k, v in value.items() if v is not None) or "{}"
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        return ", ".join(map(_plain, value))
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _data(facts: RunFacts) -> dict[str, Any]:
    index, counts = facts.index, facts.counts
    names = list(counts)
    per_class = max(1, min(6, 36 // len(names)))
    files = OriginalFiles(index, facts.preprocessing.resize)
    chosen = sample_paths(index, per_class, names[:36])
    drawn = {name: [(path, files.pixels(path, SAMPLE)) for path in paths] for name, paths in chosen.items()}
    samples = [
        (name, [(path, jpeg(pixels)) for path, pixels in found if pixels is not None]) for name, found in drawn.items()
    ]
    totals = {split: facts.total(split) for split in SPLITS}
    rejected = index.rejected()
    return {
        "name": facts.config.data.name,
        "n": len(index),
        "splits": SPLITS,
        "balance": [(name, counts[name], sum(counts[name].values())) for name in names[:ROWS]],
        "more_classes": len(names) - len(names[:ROWS]),
        "totals": totals,
        "groups": len({group for group in index.column("group") if group is not None}),
        "shared": len(facts.shared_groups),
        "sizes": _sizes(facts),
        "rejected": rejected[:ROWS],
        "n_rejected": len(rejected),
        "samples": [(name, pictures) for name, pictures in samples if pictures],
        "missing": files.missing_words,
        "resize": facts.preprocessing.resize,
        "audit": facts.audit,
    }


def _sizes(facts: RunFacts) -> dict[str, Any]:
    """Width and height of the usable files: in words, and as dots of a drawing 560 by 300."""
    usable = facts.index.usable()
    width, height = np.array(usable.column("width")), np.array(usable.column("height"))
    labels = usable.targets()
    area = width * height / 1e6
    across, up = _ticks(int(width.max())), _ticks(int(height.max()))
    # A grid of 56 by 30 cells bounds the drawing however many files there are; each cell keeps its classes apart.
    cells = Counter(
        zip(
            (width / across[-1] * 56).round().astype(int).tolist(),
            (height / up[-1] * 30).round().astype(int).tolist(),
            labels.tolist(),
            strict=True,
        )
    )
    fullest = max(cells.values())
    coloured = len(facts.index.class_names) <= 6
    dots = [
        {"x": x * 10, "y": 300 - y * 10, "r": round(2 + 6 * float(np.sqrt(n / fullest)), 1), "k": k if coloured else 0}
        for (x, y, k), n in sorted(cells.items(), key=lambda cell: -cell[1])
    ]
    return {
        "same": len(set(zip(width.tolist(), height.tolist(), strict=True))) == 1,
        "width": (int(width.min()), int(np.median(width)), int(width.max())),
        "height": (int(height.min()), int(np.median(height)), int(height.max())),
        "megapixels": (float(area.min()), float(np.median(area)), float(area.max())),
        "modes": Counter(usable.column("mode")).most_common(),
        "kinds": Counter(Path(path).suffix.lower() or "none" for path in usable.column("path")).most_common(),
        "input": facts.preprocessing.size,
        "across": [(tick, round(560 * tick / across[-1])) for tick in across],
        "up": [(tick, round(300 - 300 * tick / up[-1])) for tick in up],
        "dots": dots,
        "classes": facts.index.class_names if coloured else [],
    }


def _ticks(most: int) -> list[int]:
    """Round numbers from 0 to the first that isn't below ``most``, 4 to 7 of them."""
    power = 10 ** (len(str(most)) - 1)
    step = next(step for step in (power // 5, power // 2, power, 2 * power) if step and most <= 6 * step)
    return list(range(0, -(-most // step) * step + 1, step))


def _charts(facts: RunFacts, names: tuple[str, ...], alts: Mapping[str, str]) -> list[dict[str, Any]]:
    """Charts that the run has drawn; one that can't be read is named in its place."""
    charts = []
    for name in names:
        path = facts.run / f"plots/{name}.png"
        if not path.is_file():
            continue
        try:
            uri, width, height = chart(path.read_bytes())
            charts.append({"uri": uri, "width": width, "height": height, "error": None})
        except (OSError, ValueError) as error:
            log.warning("The report's figure %s failed (%s: %s).", name, type(error).__name__, error)
            charts.append({"uri": "", "width": 0, "height": 0, "error": f"{type(error).__name__}: {error}"})
        charts[-1] |= {
            "name": name.replace("_", " "),
            "words": CHART_WORDS[name],
            "alt": alts.get(name, CHART_WORDS[name]),
        }
    return charts


def _training(facts: RunFacts) -> dict[str, Any]:
    history, row = facts.history, chosen_row(facts)
    if not history:
        raise RunError(f"{facts.run / 'history.csv'} is missing or empty")
    first, last = history[0], history[-1]
    alts = {
        name: f"{name.capitalize()} by epoch: "
        + ", ".join(
            f"{words} from {first[f'{split}/{name}']:.3f} to {last[f'{split}/{name}']:.3f}"
            for split, words in (("train", "training"), ("val", "validation"))
            if f"{split}/{name}" in first and f"{split}/{name}" in last
        )
        for name in ("loss", "accuracy")
    }
    gaps = [
        {"name": name, "train": row[f"train/{key}"], "val": row[f"val/{key}"]}
        for key, name in (("loss", "loss"), ("accuracy", "accuracy"), ("auroc", "AUROC"), ("f1", "F1"))
        if f"train/{key}" in row and f"val/{key}" in row
    ]
    rates = [row["learning_rate"] for row in history if "learning_rate" in row]
    return {
        "charts": _charts(facts, ("loss", "accuracy", "learning_rate"), alts),
        "gaps": gaps,
        "chosen": facts.chosen,
        "rates": (rates[0], min(rates), max(rates)) if rates else None,
        "phases": [asdict(phase) for phase in facts.config.finetune.phases],
        "finetune": facts.config.finetune.name,
    }


def _result(facts: RunFacts) -> dict[str, Any]:
    test, measured = facts.test, facts.measured()
    auroc, precision = measured.get("auroc"), measured.get("average_precision")
    alts = {
        "roc": f"ROC curve with an area of {auroc.words}." if auroc else "ROC curve.",
        "precision_recall": f"Precision-recall curve, average precision {precision.words}." if precision else "Curve.",
        "reliability": f"Reliability diagram, calibration error {measured['ece'].words}." if "ece" in measured else "",
    }
    matrix = confusion_matrix(test, facts.threshold)
    few = len(matrix) <= MANY_CLASSES
    mistakes = sorted(
        ((int(matrix[i, j]), i, j) for i, j in np.argwhere(matrix) if i != j), key=lambda cell: (-cell[0], *cell[1:])
    )
    before = {name: facts.metrics.get(f"test/uncalibrated_{name}") for name in ("ece", "brier")}
    least = min([0.0, *(metric.low for metric in measured.values() if metric.low is not None)])
    return {
        "metrics": list(measured.values()),
        "caveats": {one.caveat: CAVEATS[one.caveat] for one in measured.values() if one.caveat},
        "lower": LOWER_IS_BETTER,
        "least": least,
        "span": 1 - least,
        "matrix": [
            (test.class_names[i], [(int(n), float(n) / max(int(row.sum()), 1)) for n in row], int(row.sum()))
            for i, row in enumerate(matrix)
        ]
        if few
        else None,
        "names": test.class_names,
        "mistakes": [(n, test.class_names[i], test.class_names[j]) for n, i, j in mistakes[:10]],
        "classes": _classification(facts),
        "charts": _charts(
            facts, ("roc", "precision_recall", "reliability", *(() if few else ("confusion_matrix",))), alts
        ),
        "plotted": facts.config.report.plots,
        "before": before,
        "temperature": facts.temperature,
        "positive": test.positive_class if len(test.class_names) == 2 else None,
        "threshold": facts.threshold,
        "grouped": test.groups is not None,
        "unshared": list(facts.measured("test_unshared").values()),
        "shared": facts.met_before[:ROWS],
        "n_shared": len(facts.met_before),
    }


def _classification(facts: RunFacts) -> list[dict[str, Any]]:
    """Precision, recall and F1 of each class, with Wilson's intervals where they are proportions."""
    verdicts = facts.test.verdicts(facts.threshold)
    hits = verdicts.labels == verdicts.predicted
    rows = []
    for k, name in enumerate(facts.test.class_names[:ROWS]):
        row: dict[str, Any] = {"name": name, "support": int((verdicts.labels == k).sum())}
        for metric, among in (("precision", verdicts.predicted == k), ("recall", verdicts.labels == k)):
            groups = None if verdicts.groups is None else verdicts.groups[among]
            share = float(hits[among].mean()) if among.any() else None
            row[metric] = share
            row[f"{metric}_bounds"] = None if share is None else tuple(intervals.proportion(hits[among], groups))
        overlap = int((hits & (verdicts.labels == k)).sum())
        either = int((verdicts.labels == k).sum() + (verdicts.predicted == k).sum())
        row["f1"] = 2 * overlap / either if either else None
        rows.append(row)
    return rows


def _images(facts: RunFacts, network: StagedNetwork | None) -> dict[str, Any]:
    kinds = (
        ("errors", "Most confident errors", "Wrong, and surest of it. Look here for wrong labels and for shortcuts."),
        ("uncertain", "Least certain", "Nearest to being decided otherwise, right or wrong."),
        ("correct", "Correct", "Drawn at random from the right answers, all classes in turn."),
    )
    files = OriginalFiles(facts.index, facts.preprocessing.resize)
    chosen = telling_images(facts.test, facts.threshold)
    no_heat = None
    if not facts.config.report.gradcam:
        network, no_heat = None, "Grad-CAM was switched off (report.gradcam=false)."
    elif network is None:
        no_heat = "This report was written without the network, so that Grad-CAM is missing."

    def shown(name: str) -> list[Example]:
        return examples(facts.test, facts.threshold, chosen[name], files, network, facts.preprocessing)

    try:
        found = {name: shown(name) for name, _, _ in kinds}
    except RunError as error:
        network, no_heat = None, str(error)
        files.missing.clear()
        found = {name: shown(name) for name, _, _ in kinds}
    return {
        "kinds": [(title, words, found[name]) for name, title, words in kinds],
        "missing": files.missing_words,
        "no_heat": no_heat,
        "n_errors": len(facts.test) - facts.right,
        "n": len(facts.test),
        "resize": facts.preprocessing.resize,
        "size": facts.preprocessing.size,
    }


def _shortcuts(facts: RunFacts) -> dict[str, Any]:
    found = facts.run.read_json("shortcuts.json")
    return {
        "checks": [found["real"], *(check for check in found["checks"] if check["name"] != "gradcam_border")],
        "heat": next((check for check in found["checks"] if check["name"] == "gradcam_border"), None),
        "chance": found["chance"],
        "n": found["real"]["n"],
        "note": found["note"],
    }


def _cost(facts: RunFacts) -> dict[str, Any]:
    cost, seconds = facts.cost, dict(facts.cost["seconds"])
    trainer, environment = facts.config.trainer, facts.environment
    return {
        "total": sum(seconds.values()),
        "longest": max([*seconds.values(), 1e-9]),
        "stages": list(seconds.items()),
        "images_per_second": facts.images_per_second,
        "epochs": len(facts.history),
        "waiting": cost.get("waiting_share"),
        "peak_memory_gb": cost.get("peak_memory_gb"),
        "model_mb": (facts.run / "model.safetensors").stat().st_size / 1e6,
        "processor": environment["processor"],
        "settings": [
            ("precision", trainer.precision),
            ("channels last", trainer.channels_last),
            ("threads", environment["torch_threads"]),
            ("usable processors", environment["usable_cpus"]),
            ("instructions", environment.get("cpu_capability", "unknown")),
            ("machine's memory", f"{environment['memory_gb']} GB"),
            ("batch size", trainer.batch_size),
        ],
    }


def _provenance(facts: RunFacts) -> dict[str, Any]:
    contents = "\n".join(sorted(digest or "" for digest in facts.index.column("sha256"))).encode()
    return {
        "command": facts.command,
        "started_as": None if facts.overrides is None else shlex.join(["python", "train.py", *facts.overrides]),
        "folder": str(facts.run.path.resolve()),
        "data_root": str(facts.index.root),
        "started": facts.status["started"],
        "python": facts.environment["python"],
        "platform": facts.environment["platform"],
        "packages": facts.environment["packages"],
        "git": facts.environment.get("git"),
        "hashes": [
            ("weights (model.safetensors)", _sha256(facts.run / "model.safetensors")),
            ("contents of all image files", hashlib.sha256(contents).hexdigest()),
            ("names of the test files", facts.chosen["test_files_sha256"]),
            ("split (index.parquet)", _sha256(facts.run / "index.parquet")),
        ],
        "looks": facts.looks,
        "seed": facts.config.seed,
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
