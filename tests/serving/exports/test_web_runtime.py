"""ONNX Runtime Web is found, or downloaded once and checked; else every way out is named."""

import base64
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from raylight.errors import ConfigError, RaylightError
from raylight.serving.exports import web_runtime as module
from raylight.serving.exports.web_runtime import BINARY, PACKAGE, SCRIPT, VERSION, cache_folder, web_runtime

CONTENT = {"package.json": json.dumps({"version": "7.7.7"}).encode(), SCRIPT: b"script", BINARY: b"binary"}


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for npm that packs ``CONTENT``, and writes down its arguments."""
    archive = tmp_path / "package.tgz"
    with tarfile.open(archive, "w:gz") as packed:
        for name, content in CONTENT.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(
        module, "INTEGRITY", f"sha512-{base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()}"
    )
    program = tmp_path / "bin/npm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\ncp {archive} "$4/package.tgz"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return program


def test_it_is_downloaded_once(npm: Path, tmp_path: Path) -> None:
    for _ in range(2):
        found = web_runtime(None, tmp_path / "cache")
        assert (found.version, found.script, found.binary) == ("7.7.7", b"script", b"binary")
    (called,) = (tmp_path / "called").read_text().splitlines()
    assert called.startswith(f"pack {PACKAGE}@{VERSION} --pack-destination ")


def test_another_file_than_the_tested_one_is_refused(
    npm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INTEGRITY", "sha512-other")
    with pytest.raises(RaylightError, match=r"instead of sha512-other\. It was not kept"):
        web_runtime(None, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_what_npm_says_is_passed_on_with_every_way_out(npm: Path, tmp_path: Path) -> None:
    npm.write_text("#!/bin/sh\necho 'npm error code ENOTFOUND' >&2\nexit 1\n")
    with pytest.raises(RaylightError) as caught:
        web_runtime(None, tmp_path / "cache")
    message = str(caught.value)
    assert message.startswith(f"npm could not download {PACKAGE} {VERSION} (npm error code ENOTFOUND)")
    assert "--runtime FOLDER" in message
    assert f"copy {tmp_path / 'cache' / f'{PACKAGE}-{VERSION}'}" in message


def test_without_npm_every_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RaylightError, match=r"There is no npm here .* Install Node.js, .* --runtime FOLDER"):
        web_runtime(None, tmp_path / "cache")


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    for name, content in CONTENT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert web_runtime(tmp_path, tmp_path / "cache").version == "7.7.7"
    (tmp_path / SCRIPT).unlink()
    with pytest.raises(ConfigError, match=rf"--runtime: {tmp_path} lacks {SCRIPT}; name the folder of an unpacked"):
        web_runtime(tmp_path, tmp_path / "cache")


def test_downloads_are_kept_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAYLIGHT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("RAYLIGHT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/raylight"
