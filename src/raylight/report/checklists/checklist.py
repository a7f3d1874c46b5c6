"""``raylight checklist``: a reporting checklist filled in from a run's folder; what it can't answer is asked of the author.

The standards are in ``standards/``: item numbers as published, topics and questions in our own words.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from raylight.errors import ConfigError, did_you_mean
from raylight.report.checklists.answer import Answer
from raylight.report.checklists.data_answers import DATA_ANSWERS
from raylight.report.checklists.model_answers import MODEL_ANSWERS
from raylight.report.checklists.result_answers import RESULT_ANSWERS, external_result
from raylight.report.facts import RunFacts
from raylight.report.pages import render
from raylight.runs.run_dir import RunDir
from raylight.storage.atomic import write_atomically

STANDARDS = ("claim", "tripod-ai", "stard-ai")
"""Names of the standards, as ``--standard`` takes them."""

ANSWERS: Mapping[str, Callable[[RunFacts], Answer | None]] = {**DATA_ANSWERS, **MODEL_ANSWERS, **RESULT_ANSWERS}
"""What a run can answer, by the names in ``standards/``."""


@dataclass(frozen=True)
class Item:
    """An item of a standard.

    Attributes:
        number: as published.
        section: heading that it stands under.
        topic: what it is about.
        answers: names in ``ANSWERS`` (and ``external``) that answer it.
        ask: question to the author that stays open even then; empty where the answers are complete.
        without: question where none of them has an answer.
    """

    number: str
    section: str
    topic: str
    answers: tuple[str, ...] = ()
    ask: str = ""
    without: str = ""


@dataclass(frozen=True)
class Standard:
    """A reporting checklist.

    Attributes:
        name: in a few words.
        title: in full.
        source: the publication.
        items: in its order.
    """

    name: str
    title: str
    source: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class FilledItem:
    """An item with what the run says to it.

    Attributes:
        item: of the standard.
        answers: of the run; may be empty.
        question: to the author; empty where the answers are complete.
    """

    item: Item
    answers: tuple[Answer, ...]
    question: str

    @property
    def state(self) -> str:
        """``answered``, ``in part``, or ``for the author``."""
        return "for the author" if not self.answers else "in part" if self.question else "answered"


def read_standard(name: str) -> Standard:
    """A standard by its name.

    Args:
        name: one of ``STANDARDS``.

    Raises:
        ConfigError: there is no such standard.
    """
    import yaml

    if name not in STANDARDS:
        known = ", ".join(STANDARDS)
        raise ConfigError([f"--standard: there is no {name!r} among {known}{did_you_mean(name, STANDARDS)}"])
    text = (files("raylight.report.checklists") / "standards" / f"{name}.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    items = [
        Item(
            *(number, section, item["topic"], tuple(item.get("answers", ()))),
            ask=item.get("ask", ""),
            without=item.get("without", ""),
        )
        for section, numbered in found["items"].items()
        for number, item in numbered.items()
    ]
    return Standard(found["name"], found["title"], found["source"], tuple(items))


def fill(standard: Standard, facts: RunFacts, external: Path | None = None) -> list[FilledItem]:
    """What a run says to each item.

    Args:
        standard: the checklist.
        facts: of a finished run.
        external: folder of an evaluation of the run on other data.

    Raises:
        RunError: the run's results are missing or broken.
        ConfigError: ``external`` is no such evaluation.
    """
    known: dict[str, Callable[[RunFacts], Answer | None]] = {**ANSWERS, "external": lambda _: None}
    if external is not None:
        known["external"] = external_result(external)
    filled = []
    for item in standard.items:
        answers = tuple(answer for name in item.answers if (answer := known[name](facts)) is not None)
        filled.append(FilledItem(item, answers, item.ask if answers else item.ask or item.without))
    return filled


def write_checklist(run: Path, standard: str, out: Path | None, external: Path | None) -> int:
    """Fill a checklist from a run and write it as a page.

    Args:
        run: a finished run's folder.
        standard: one of ``STANDARDS``.
        out: the page to write; by default ``checklist-NAME.html`` in the run's folder.
        external: folder of an evaluation of the run on other data.

    Returns:
        0.

    Raises:
        RaylightError: the run can't be used, or there is no such standard or evaluation.
        OSError: the page can't be written.
    """
    chosen, facts = read_standard(standard), RunFacts(RunDir.open(run))
    filled = fill(chosen, facts, external)
    path = out or run / f"checklist-{standard}.html"
    states = [one.state for one in filled]
    counts = {state: states.count(state) for state in ("answered", "in part", "for the author")}
    page = render(
        "checklist.html",
        standard=chosen,
        title=facts.title,
        folder=facts.run.path.name,
        sections=_by_section(filled, facts.run, path.parent),
        counts=counts,
        n=len(filled),
    )
    write_atomically(path, page.encode("utf-8", "replace"))
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    sys.stdout.write(f"{chosen.name}: {len(filled)} items, {told}.\n{path}\n")
    return 0


def _by_section(
    filled: Sequence[FilledItem], run: RunDir, folder: Path
) -> dict[str, list[tuple[FilledItem, list[tuple[str, list[tuple[str, str]]]]]]]:
    """Items by section, each with its answers and, for each answer, its evidence as (name, link from ``folder``)."""
    sections: dict[str, list[tuple[FilledItem, list[tuple[str, list[tuple[str, str]]]]]]] = {}
    for one in filled:
        answers = [(answer.text, _links(answer, run, folder)) for answer in one.answers]
        sections.setdefault(one.item.section, []).append((one, answers))
    return sections


def _links(answer: Answer, run: RunDir, folder: Path) -> list[tuple[str, str]]:
    links = []
    for evidence in answer.evidence:
        name, hash_sign, anchor = evidence.partition("#")
        file = run.path / name  # an absolute path stays what it is
        if file.exists():
            link = quote(os.path.relpath(file.resolve(), folder.resolve()).replace(os.sep, "/"))
            links.append((f"{file.name}{f', {anchor}' if anchor else ''}", f"{link}{hash_sign}{anchor}"))
    return links
