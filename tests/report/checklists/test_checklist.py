"""Standards as published, pages whose links lead somewhere, and mistakes answered with a sentence."""

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from typer.testing import CliRunner

from raylight.cli import app
from raylight.errors import ConfigError
from raylight.report.checklists.checklist import ANSWERS, STANDARDS, fill, read_standard, write_checklist
from raylight.report.facts import RunFacts
from raylight.report.run_page import write_report
from tests.finished_run import FinishedRun

LETTERS = {
    "tripod-ai": {3: 3, 5: 2, 6: 3, 8: 3, 9: 3, 12: 7, 18: 6, 20: 3, 23: 2, 27: 3},
    "stard-ai": {15: 4, 16: 3, 17: 2, 26: 2, 40: 2},
}
"""Items with lettered parts, and how many, as published."""


@pytest.mark.parametrize(("standard", "items"), [("claim", 44), ("tripod-ai", 27), ("stard-ai", 40)])
def test_item_numbers_are_those_of_the_publication(standard: str, items: int) -> None:
    parts = LETTERS.get(standard, {})
    published = [
        f"{n}{letter}" for n in range(1, items + 1) for letter in ("abcdefg"[: parts[n]] if n in parts else [""])
    ]
    assert [item.number for item in read_standard(standard).items] == published


@pytest.mark.parametrize(
    ("standard", "number", "topic"),
    [
        ("claim", "20", "Level at which partitions are disjoint"),
        ("claim", "33", "External test data"),
        ("tripod-ai", "13", "Class imbalance"),
        ("tripod-ai", "23a", "Performance"),
        ("stard-ai", "15c", "Positivity of the index test"),
        ("stard-ai", "30", "Cross-tabulation"),
    ],
)
def test_items_are_about_what_the_publication_has_there(standard: str, number: str, topic: str) -> None:
    assert {item.number: item.topic for item in read_standard(standard).items}[number] == topic


def test_each_answer_is_used_and_each_item_asks_or_answers() -> None:
    items = [item for standard in STANDARDS for item in read_standard(standard).items]
    assert {name for item in items for name in item.answers} == {*ANSWERS, "external"}
    assert all(item.answers or item.ask for item in items)
    maybe = {"clusters", "explanations", "external", "fairness", "limitations", "plots", "robustness", "subgroups"}
    assert all(item.ask or item.without for item in items if maybe.issuperset(item.answers))
    assert all(item.ask.rstrip().endswith(("?", ".")) for item in items if item.ask)


def test_what_the_run_cant_say_is_asked(finished: FinishedRun) -> None:
    filled = {one.item.number: one for one in fill(read_standard("claim"), RunFacts(finished.run))}
    assert (filled["9"].state, filled["9"].question) == ("answered", "")
    assert filled["8"].state == "in part"
    assert filled["8"].question == "By which criteria were patients and examinations chosen?"
    assert (filled["44"].state, filled["44"].answers) == ("for the author", ())
    assert "--external OUT" in filled["33"].question


def test_links_lead_to_files_and_sections(finished: FinishedRun, tmp_path: Path, capsys) -> None:
    report = write_report(finished.run, finished.network).read_text(encoding="utf-8")
    page = tmp_path / "elsewhere" / "claim.html"
    page.parent.mkdir()
    assert write_checklist(finished.run.path, "claim", page, None) == 0
    links = re.findall(r'href="([^"]+)"', page.read_text(encoding="utf-8"))
    links = [link for link in links if not link.startswith("data:")]
    assert len(links) > 30
    for link in links:
        file, _, anchor = link.partition("#")
        assert (page.parent / unquote(file)).exists(), link
        assert not anchor or f'id="{anchor}"' in report, link
    said = capsys.readouterr().out.splitlines()
    assert said[1] == str(page)
    answered, in_part, open_ = (int(number) for number in re.findall(r"(\d+) (?:answered|in part|for)", said[0]))
    assert answered + in_part + open_ == 44
    assert (answered + in_part) / 44 >= 0.6


def test_the_page_stands_in_the_run_folder_by_default(finished: FinishedRun) -> None:
    outcome = CliRunner().invoke(app, ["checklist", str(finished.run.path), "--standard", "stard-ai"])
    assert outcome.exit_code == 0
    assert "<h1>cnn2 on animals</h1>" in (finished.run / "checklist-stard-ai.html").read_text(encoding="utf-8")


def test_an_unknown_standard_is_named_with_the_nearest(finished: FinishedRun) -> None:
    with pytest.raises(ConfigError, match="no 'clam' among claim, tripod-ai, stard-ai; did you mean 'claim'"):
        write_checklist(finished.run.path, "clam", None, None)


def test_an_evaluation_on_other_data_answers_the_external_item(finished: FinishedRun, tmp_path: Path) -> None:
    cell = {"value": 0.75, "low": 0.6, "high": 0.85, "n": 40}
    provenance = {"run": str(finished.run.path), "test_files": 40}
    (tmp_path / "metrics.json").write_text(json.dumps({"test/accuracy": cell, "provenance": provenance}))
    filled = {one.item.number: one for one in fill(read_standard("claim"), RunFacts(finished.run), tmp_path)}
    assert filled["33"].state == "answered"
    assert filled["33"].answers[0].text == "On 40 images of another data set: accuracy 0.750 (0.600 to 0.850), n = 40."


@pytest.mark.parametrize(
    ("content", "why"),
    [("{}", "isn't the folder of"), ('{"provenance": {"run": "/x/other", "test_files": 4}}', "of other")],
)
def test_another_folder_is_no_evaluation_of_the_run(
    finished: FinishedRun, tmp_path: Path, content: str, why: str
) -> None:
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(ConfigError, match=why):
        fill(read_standard("claim"), RunFacts(finished.run), tmp_path)
