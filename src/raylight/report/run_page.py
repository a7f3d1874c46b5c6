"""``report.html``: a run on one page that loads nothing else.

Covers the list of sections; text and layout are in ``templates/run_report.html`` and
``run_report_sections.html``. A section that fails is replaced by a sentence with the error and logged, so that a broken
figure never loses the report. Leaves out reading the folder (``facts``) and the content of sections (``sections``).
"""

import hashlib
import logging
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raylight.installation import TRAIN
from raylight.models.stages import StagedNetwork
from raylight.report.caveats import caveats_of, rule_on_validation
from raylight.report.facts import RunFacts
from raylight.report.images import Gallery
from raylight.report.pages import decimal, latex_table, seconds
from raylight.report.sections.data import data
from raylight.report.sections.result import images, result, shortcuts, training
from raylight.report.sections.settings import asked
from raylight.report.templating import page_templates
from raylight.runs.run_dir import RunDir
from raylight.storage.digests import file_sha256

log = logging.getLogger("raylight")


@dataclass(frozen=True)
class PageSection:
    """A part of the page.

    Attributes:
        name: its anchor, and the macro that renders it.
        title: its heading.
        facts: gathers what it is rendered from.
    """

    name: str
    title: str
    facts: Callable[[], Mapping[str, Any]]


def write_report(run: RunDir, network: StagedNetwork | None = None) -> Path:
    """Write ``report.html`` and ``model_card.md`` of a run whose results are in its folder; see ``write_pages``.

    Args:
        run: with ``config.yaml``, ``metrics.json``, ``predictions.csv`` and so on; a section whose files are missing says so.
        network: with the chosen weights, for Grad-CAM; None leaves Grad-CAM out, and the report says so.

    Returns:
        The path of ``report.html``.

    Raises:
        OSError: the folder can't be written.
    """
    return write_pages(Gallery(RunFacts(run), network))


def write_pages(gallery: Gallery) -> Path:
    """Write ``report.html`` and ``model_card.md``, and ``metrics.tex``: the test metrics as a table for LaTeX.

    Args:
        gallery: the facts of the run, and its notable images.

    Returns:
        The path of ``report.html``: one file of about 1 MB that loads nothing else.

    Raises:
        OSError: the folder can't be written.
    """
    from raylight.report.model_card import write_model_card

    facts = gallery.facts
    try:
        write_model_card(facts)
        facts.run.write_text("metrics.tex", _metrics_table(facts))
    except Exception as error:  # a damaged folder may fail in any way; the report is still written
        log.warning("model_card.md or metrics.tex couldn't be written (%s: %s).", type(error).__name__, error)
    return facts.run.write_text("report.html", render_report(gallery))


def _metrics_table(facts: RunFacts) -> str:
    rows = [
        [one.label, decimal(one.value), f"{decimal(one.low)} to {decimal(one.high)}", str(one.n)]
        for one in facts.measured().values()
    ]
    caption = f"{facts.title}: {len(facts.test)} test images, with 95 % intervals."
    return latex_table(["metric", "value", "95 % interval", "n"], rows, caption)


def render_report(gallery: Gallery) -> str:
    """Render the page; see ``write_report``."""
    from markupsafe import Markup

    facts = gallery.facts
    pages = page_templates("raylight.report")
    pages.filters["duration"] = seconds
    macros = pages.get_template("run_report_sections.html").module
    sections = [
        PageSection("summary", "Summary", lambda: _summary(facts)),
        PageSection("asked", "Settings", lambda: asked(facts)),
        PageSection("data", "Data", lambda: data(facts)),
        PageSection("training", "Training", lambda: training(facts)),
        PageSection("result", "Result", lambda: result(facts)),
        *([PageSection("shortcuts", "Shortcuts", lambda: shortcuts(facts))] if facts.shortcuts_known else []),
        PageSection("images", "Images", lambda: images(gallery)),
        PageSection("cost", "Cost", lambda: _cost(facts)),
        PageSection("provenance", "Provenance", lambda: _provenance(facts)),
    ]
    rendered = []
    for section in sections:
        try:
            body = getattr(macros, section.name)(section.facts())
        except Exception as error:  # whatever failed, the other sections are still rendered
            log.warning("The report's section %r failed (%s: %s).", section.title, type(error).__name__, error)
            log.debug("The report's section %r failed.", section.title, exc_info=True)
            body = Markup('<p class="broken">This section couldn\'t be rendered ({}: {}).</p>').format(
                type(error).__name__, error
            )
        rendered.append((section.name, section.title, body))
    page = pages.get_template("run_report.html").render(head=_head(facts), sections=rendered)
    # File names may hold invalid UTF-8, which a page shows as question marks.
    return page.encode("utf-8", "replace").decode("utf-8")


def _head(facts: RunFacts) -> dict[str, Any]:
    """Title, date and banner; defaults where the folder can't be read."""
    try:
        config, started = facts.config, str(facts.status["started"])
        return {"title": facts.title, "started": started, "folder": facts.run.path.name, "medical": config.data.medical}
    except Exception as error:  # as for the sections
        log.warning("The report's heading failed (%s: %s).", type(error).__name__, error)
        # Shown to be safe: whether the data is medical isn't known.
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
        "notes": caveats_of(facts),
        "classes": facts.test.class_names,
        "train": facts.total("train"),
    }


def _cost(facts: RunFacts) -> dict[str, Any]:
    cost, seconds = facts.cost, dict(facts.cost["seconds"])
    trainer, environment = facts.config.trainer, facts.environment
    return {
        "total": sum(seconds.values()),
        "resumed": "earlier" in seconds,
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
            ("memory of the machine", f"{environment['memory_gb']} GB"),
            ("batch size", trainer.batch_size),
        ],
    }


def _provenance(facts: RunFacts) -> dict[str, Any]:
    contents = "\n".join(sorted(digest or "" for digest in facts.index.column("sha256"))).encode()
    return {
        "command": facts.command,
        "started_as": None if facts.overrides is None else f"{TRAIN} {shlex.join(facts.overrides)}",
        "folder": str(facts.run.path.resolve()),
        "data_root": str(facts.index.root),
        "started": facts.status["started"],
        "python": facts.environment["python"],
        "platform": facts.environment["platform"],
        "packages": facts.environment["packages"],
        "git": facts.environment.get("git"),
        "hashes": [
            ("weights (model.safetensors)", file_sha256(facts.run / "model.safetensors")),
            ("contents of all image files", hashlib.sha256(contents).hexdigest()),
            ("names of the test files", facts.chosen["test_files_sha256"]),
            ("split (index.parquet)", file_sha256(facts.run / "index.parquet")),
        ],
        "looks": facts.looks,
        "seed": facts.config.seed,
    }
