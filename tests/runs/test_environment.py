"""What a run ran on and with."""

import json
import os
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from raylight.runs import environment as module
from raylight.runs.environment import environment, git_state


def test_versions_are_those_installed_and_no_variable_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    found = environment()
    assert found["packages"]["torch"] == metadata.version("torch")
    assert 1 <= found["usable_cpus"] <= (os.cpu_count() or 1)
    assert "hf_secret" not in json.dumps(found)


def test_the_revision_is_gits_and_a_changed_tree_is_dirty(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None

    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "file").touch()
    git("add", "file")
    git("commit", "-qm", "first")
    revision = git("rev-parse", "HEAD")
    assert git_state(tmp_path) == {"revision": revision, "dirty": False}
    (tmp_path / "file").write_text("changed")
    assert git_state(tmp_path) == {"revision": revision, "dirty": True}


def test_a_git_that_takes_too_long_tells_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "git"
    program.write_text("#!/bin/sh\nexec sleep 5\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(module, "GIT_SECONDS", 0.1)
    assert git_state(tmp_path) is None
