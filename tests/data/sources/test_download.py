"""Downloads survive broken lines and changed files; archives are unpacked without trust."""

import hashlib
import io
import re
import stat
import sys
import threading
import types
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from raylight.config.schema import DataConfig
from raylight.data.sources import download as module
from raylight.data.sources.download import download, extract, fetch
from raylight.data.sources.source import find_images
from raylight.errors import DataError
from raylight.installation import install_command


class Server:
    """A web server with one file, whose manners can be changed."""

    def __init__(self) -> None:
        self.content = b""
        self.etag: str | None = '"one"'
        self.ranges = True
        self.break_after: int | None = None
        self.status = 200
        self.asked: list[str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/set.zip"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        if self.status != 200:
            request.send_error(self.status)
            return
        start = 0
        if wanted and self.ranges and request.headers.get("If-Range") == self.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(self.content):
                request.send_error(416)
                return
        body = self.content[start:]
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if self.etag:
            request.send_header("ETag", self.etag)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.break_after is not None:
            body, self.break_after = body[: self.break_after], None
        request.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "PAUSE", 0.0)
    served = Server()
    yield served
    served.http.shutdown()
    served.http.server_close()


def zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


PETS = {f"PetImages/{kind}/{number}.jpg": bytes([number]) * 5000 for kind in ("Cat", "Dog") for number in range(3)}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_download_makes_the_folder_that_is_then_read(server: Server, tmp_path: Path) -> None:
    server.content = zipped(PETS)
    data = DataConfig(
        name="pets",
        root=str(tmp_path / "pets"),
        download=True,
        archive_url=server.url,
        archive_sha256=sha256(server.content),
    )
    source = find_images(data, tmp_path)
    assert source.class_names == ("Cat", "Dog")
    assert len(source.files) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == [".pets.lock", "pets"]
    find_images(data, tmp_path)
    assert len(server.asked) == 1


def test_a_broken_line_is_continued_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.content = bytes(range(256)) * 4000
    server.break_after = 300_000
    seen: list[int] = []
    fetch(server.url, tmp_path / "file", sha256(server.content), lambda have, total: seen.append(have))
    assert server.asked == [None, "bytes=300000-"]
    assert (tmp_path / "file").read_bytes() == server.content
    assert seen == sorted(seen)
    assert seen[-1] == len(server.content)


def test_the_next_call_continues_what_a_killed_one_left(server: Server, tmp_path: Path) -> None:
    server.content = b"0123456789" * 50_000
    (tmp_path / "file").write_bytes(server.content[:123_456])
    (tmp_path / "file.json").write_text('{"validator": "\\"one\\"", "total": 500000}')
    fetch(server.url, tmp_path / "file", sha256(server.content))
    assert server.asked == ["bytes=123456-"]
    fetch(server.url, tmp_path / "file", sha256(server.content))
    assert server.asked[1:] == ["bytes=500000-"]
    assert (tmp_path / "file").read_bytes() == server.content


@pytest.mark.parametrize("manners", ["no ranges", "changed file", "no version", "too long", "torn note"])
def test_what_cannot_be_continued_begins_anew(server: Server, tmp_path: Path, manners: str) -> None:
    server.content = b"0123456789" * 50_000
    have = b"y" * 600_000 if manners == "too long" else b"y" * 1000
    note = '{"validator": "\\"one\\"", "total": 500000}'
    (tmp_path / "file").write_bytes(have)
    (tmp_path / "file.json").write_text(note[:9] if manners == "torn note" else note)
    server.ranges = manners != "no ranges"
    server.etag = {"changed file": '"two"', "no version": None}.get(manners, '"one"')
    fetch(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == server.content


def test_wrong_checksum_is_refused_and_not_kept(server: Server, tmp_path: Path) -> None:
    server.content = zipped(PETS)
    data = DataConfig(name="pets", archive_url=server.url, archive_sha256="0" * 64)
    with pytest.raises(DataError, match=f"its SHA-256 is {sha256(server.content)}, data.archive_sha256 is 0000"):
        download(data, tmp_path / "pets")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".pets.lock"]


def test_a_line_that_never_holds_is_given_up_and_its_part_kept(server: Server, tmp_path: Path) -> None:
    server.content = b"x" * 1000
    server.status = 503
    with pytest.raises(DataError, match=r"the server answers 503 .*, 5 times in a row. 0 bytes are kept"):
        fetch(server.url, tmp_path / "file")
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(DataError, match="Connection refused, 5 times in a row"):
        fetch(server.url, tmp_path / "file")


def test_a_missing_file_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(DataError, match="the server answers 404"):
        fetch(server.url, tmp_path / "file")
    assert len(server.asked) == 1
    with pytest.raises(DataError, match="expected a URL that begins with https"):
        fetch("file:///etc/passwd", tmp_path / "file")


def archive(tmp_path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return path


def link(name: str, target: str) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, target.encode()


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (("../outside.jpg", b"x"), "its path leads out"),
        (("a/../../outside.jpg", b"x"), "its path leads out"),
        (("/tmp/outside.jpg", b"x"), "its path leads out"),
        (("C:/outside.jpg", b"x"), "its path leads out"),
        (("a\\..\\outside.jpg", b"x"), "its path leads out"),
        (link("a/link", "/etc/passwd"), "it is a link or a device"),
        (("bomb.bmp", b"\0" * 60_000_000), "would unpack to"),
        (("a/1.jpg", b"y"), "two files of this name"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_archives_are_refused(tmp_path: Path, member: tuple[str, bytes], message: str) -> None:
    path = archive(tmp_path, ("a/1.jpg", b"x"), member)
    with pytest.raises(DataError, match=message):
        extract(path, tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["set.zip"]


def test_a_file_as_folder_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path, ("a", b"x"), ("a/1.jpg", b"x"))
    with pytest.raises((DataError, OSError)):
        extract(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["content", "cut", "text"])
def test_damaged_archives_are_noticed(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a/1.jpg", b"abcdefgh" * 100)
    whole = path.read_bytes()
    path.write_bytes({"content": whole.replace(b"abcd", b"abce", 1), "cut": whole[:300], "text": b"<html>"}[damage])
    with pytest.raises(DataError, match="isn't a valid zip archive"):
        extract(path, tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["set.zip"]


def test_no_address_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data=mine has no URL to download from"):
        download(DataConfig(name="mine"), tmp_path / "mine")


def kaggle(monkeypatch: pytest.MonkeyPatch, dataset_download: object) -> None:
    stand_in = types.ModuleType("kagglehub")
    stand_in.dataset_download = dataset_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", stand_in)


def test_kaggle_sets_land_under_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(handle: str, output_dir: str) -> str:
        assert handle == "owner/films"
        for path in ("films/train/a/1.jpg", "films/train/b/1.jpg"):
            (Path(output_dir) / path).parent.mkdir(parents=True)
            (Path(output_dir) / path).write_bytes(b"x")
        return output_dir

    kaggle(monkeypatch, fetched)
    data = DataConfig(name="films", kaggle="owner/films", download=True, root=str(tmp_path / "films"))
    source = find_images(data, tmp_path)
    assert source.root == tmp_path / "films" / "films"
    assert len(source.files) == 2


def test_kaggle_without_account_or_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(handle: str, output_dir: str) -> str:
        (Path(output_dir) / "half").write_bytes(b"x")
        raise PermissionError("User is not authenticated")

    data = DataConfig(name="films", kaggle="owner/films")
    kaggle(monkeypatch, refused)
    with pytest.raises(
        DataError, match=r"owner/films can't be downloaded from Kaggle: User is not authenticated.*kaggle.json"
    ):
        download(data, tmp_path / "films")
    assert [entry.name for entry in tmp_path.iterdir()] == [".films.lock"]
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(DataError, match=re.escape(install_command("download"))):
        download(data, tmp_path / "films")
