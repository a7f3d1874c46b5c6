"""``model_card.md``: a model's intended use, evaluation and limits.

From the same facts as the report, without pictures.
"""

import re
from pathlib import Path

from raylight.config.rules.shapes import height_width
from raylight.report.caveats import caveats_of
from raylight.report.facts import SPLITS, RunFacts
from raylight.report.templating import page_templates


def write_model_card(facts: RunFacts) -> Path:
    """Write ``model_card.md`` into the run's folder.

    Raises:
        RunError: the run's results are missing or broken.
        OSError: the folder can't be written.
    """
    return facts.run.write_text("model_card.md", render_model_card(facts))


def render_model_card(facts: RunFacts) -> str:
    """Render the card as Markdown.

    Raises:
        RunError: the run's results are missing or broken.
    """
    pages = page_templates("raylight.report", escape=False)  # Markdown: names go through the filter md instead
    pages.filters["md"] = escape_markdown
    config, index = facts.config, facts.index
    card = pages.get_template("model_card.md.jinja").render(
        title=facts.title,
        config=config,
        classes=index.class_names,
        positive=index.positive_class if len(index.class_names) == 2 else None,
        counts=facts.counts,
        splits=SPLITS,
        rejected=len(index.rejected()),
        n=len(index),
        metrics=facts.measured(),
        chosen=facts.chosen,
        threshold=facts.threshold,
        temperature=facts.temperature,
        input=facts.input,
        size=height_width(facts.preprocessing.size),
        command=facts.command,
        folder=facts.run.path.name,
        environment=facts.environment,
        started=str(facts.status["started"])[:10],
        limits=caveats_of(facts),
        grouped=facts.test.groups is not None,
    )
    return card.encode("utf-8", "replace").decode("utf-8")


def escape_markdown(text: object) -> str:
    """Escape text so that Markdown shows it as it is, in tables too; line breaks become spaces."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~&-])", r"\\\1", " ".join(str(text).split()))
