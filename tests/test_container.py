"""The container file, which hadolint finds nothing in, and which is built where a container engine is at hand."""

import re

from tests.forked import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_what_it_copies_is_there_and_not_ignored() -> None:
    copied = {name for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()}
    assert all((ROOT / name).exists() for name in copied)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == allowed
    # What the wheel is built from, by pyproject.toml.
    assert {"pyproject.toml", "README.md", "LICENSE", "conf", "src"} <= copied


def test_it_brings_what_make_brings_and_runs_without_rights() -> None:
    (brought,) = re.findall(r"'\.\[([\w,]+)\]'", DOCKERFILE)
    assert f"--editable '.[{brought}]'" in (ROOT / "Makefile").read_text()
    user, entry = re.findall(r"^(?:USER|ENTRYPOINT) (.+)$", DOCKERFILE, re.MULTILINE)
    assert (user, entry) == ("1000", '["raylight"]')
