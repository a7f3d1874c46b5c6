"""Downloading a data set: a public zip archive over HTTP, or a Kaggle data set with Kaggle's client.

After a broken connection or a killed process, the next call resumes the download, as long as the server still has the same
file. The archive's checksum is verified if the config has one, each file's CRC always. Nothing in the archive is
trusted: see ``extract``. The folder gets its final name only once it is complete.

Not here: finding its images (``source``).
"""

import glob
import http.client
import json
import logging
import os
import shutil
import stat
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, Final

from filelock import FileLock

from raylight.config.schema import DataConfig
from raylight.errors import DataError
from raylight.installation import install_command
from raylight.storage.atomic import sync_all
from raylight.storage.digests import file_sha256

TRIES: Final = 5
"""Consecutive connections without new data before giving up."""
TIMEOUT: Final = 30.0
"""Seconds without data after which a connection counts as broken."""
LARGEST_TOTAL: Final = 200 * 10**9
"""Maximum unpacked size of an archive, in bytes."""
LARGEST_RATIO: Final = 50
"""Maximum ratio of unpacked to packed size; images hardly grow at all, zip bombs a thousandfold."""
MOST_FILES: Final = 5_000_000

PAUSE: Final = 0.2
"""Seconds before the second attempt; doubled for each further one."""

_CHUNK = 1 << 20
"""Bytes read or written at a time."""
_DAMAGE = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError)

log = logging.getLogger(__name__)


def download(data: DataConfig, root: Path, on_progress: Callable[[int, int | None], None] | None = None) -> None:
    """Downloads a data set into ``root``.

    Args:
        data: has the URL (``archive_url``, with ``archive_sha256``) or the name at Kaggle (``kaggle``).
        root: folder of the data set; created once the download is complete.
        on_progress: called with the number of bytes so far and, if known, in total; ``None`` logs every 50 MB.

    Raises:
        DataError: there is no URL, the server fails, the archive is damaged or hostile, the disk is full, or
            ``kagglehub`` or its account is missing. A partial download is kept for the next call.
    """
    if not data.archive_url and not data.kaggle:
        raise DataError(
            f"data.download=true: data={data.name} has no URL to download from (data.archive_url, data.kaggle). "
            f"Put the images into {root} yourself."
        )
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.with_name(f".{root.name}.lock")):
            if root.is_dir() and any(root.iterdir()):
                return
            for abandoned in root.parent.glob(f".{glob.escape(root.name)}-*"):  # left by a killed process
                shutil.rmtree(abandoned, ignore_errors=True)
            if data.archive_url:
                archive = root.with_name(f".{root.name}.zip.part")
                fetch(data.archive_url, archive, data.archive_sha256, on_progress or _log_progress(data.name))
                log.info("unpacking %s", root)
                extract(archive, root)
                _delete_download(archive)
            else:
                _from_kaggle(data.kaggle or "", root)
    except OSError as error:
        raise DataError(f"{data.name} can't be downloaded into {root}: {error.strerror or error}.") from error


def fetch(
    url: str, path: Path, sha256: str | None = None, on_progress: Callable[[int, int | None], None] | None = None
) -> None:
    """Downloads a file, resuming a partial download.

    Args:
        url: begins with http:// or https://.
        path: where to write the file; ``PATH.json`` beside it stores the version of the server's file.
        sha256: of the whole file; not checked if ``None``.
        on_progress: called with the number of bytes so far and, if known, in total.

    Raises:
        DataError: the server refuses, the connection keeps breaking, or the checksum differs.
    """
    if not url.startswith(("http://", "https://")):
        raise DataError(f"data.archive_url={url}: expected a URL that begins with https:// or http://.")
    tries = 0
    while True:
        before = path.stat().st_size if path.exists() else 0
        try:
            if _fetch_rest(url, path, on_progress):
                break
            problem = "the connection was lost"
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise DataError(
                    f"{url} can't be downloaded: the server answers {error.code} {error.reason}."
                ) from error
            problem = f"the server answers {error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            problem = str(getattr(error, "reason", None) or error or type(error).__name__)
        now = path.stat().st_size if path.exists() else 0
        tries = 1 if now > before else tries + 1
        if tries >= TRIES:
            raise DataError(
                f"{url} can't be downloaded: {problem}, {TRIES} times in a row. {now:,} bytes are kept; run the same command "
                "again to continue."
            )
        log.info("%s: %s after %s bytes, trying again", url, problem, f"{now:,}")
        time.sleep(PAUSE * 2 ** (tries - 1))
    if sha256 is not None:
        found = file_sha256(path)
        if found != sha256.lower():
            _delete_download(path)
            raise DataError(
                f"{url} isn't the expected file: its SHA-256 is {found}, data.archive_sha256 is {sha256}. It was "
                "deleted. The publisher may have changed it, or somebody has tampered with it."
            )


def _log_progress(name: str) -> Callable[[int, int | None], None]:
    logged = 0

    def on_progress(have: int, total: int | None) -> None:
        nonlocal logged
        if have - logged >= 50 * 10**6 or have == total:
            logged = have
            log.info("%s: %s of %s MB", name, have // 10**6, "?" if total is None else total // 10**6)

    return on_progress


def _fetch_rest(url: str, path: Path, on_progress: Callable[[int, int | None], None] | None) -> bool:
    """Downloads over one connection; returns whether the file is complete."""
    sidecar = path.with_name(path.name + ".json")
    version = _stored_version(path, sidecar)
    have = path.stat().st_size if version else 0
    request = urllib.request.Request(url, headers={"User-Agent": "raylight"})  # noqa: S310 - fetch checks the scheme
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", version["validator"])
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        if have == version.get("total"):
            return True
        _delete_download(path)  # longer than the server's file: start again
        return False
    with response:
        continues = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if have and response.status == 206 and not continues:
            _delete_download(path)
            return False
        have = have if continues else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        _store_version(sidecar, response.headers, total)
        with path.open("ab" if continues else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                if on_progress is not None:
                    on_progress(have, total)
    return total is None or have == total


def _stored_version(path: Path, sidecar: Path) -> dict[str, Any]:
    """The version of the server's file that was begun; empty if the download can't be resumed."""
    if not path.exists():
        return {}
    try:
        version = json.loads(sidecar.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # ValueError: the process was killed while writing it
        return {}
    return version if isinstance(version, dict) else {}


def _store_version(sidecar: Path, headers: http.client.HTTPMessage, total: int | None) -> None:
    """Stores what identifies this version of the server's file; without it the download can't be resumed."""
    tag = headers.get("ETag")
    validator = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
    if validator:
        sidecar.write_text(json.dumps({"validator": validator, "total": total}), encoding="utf-8")
    else:
        sidecar.unlink(missing_ok=True)


def _delete_download(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_name(path.name + ".json").unlink(missing_ok=True)


def extract(archive: Path, folder: Path) -> None:
    """Unpacks a zip archive into a new folder, which appears only once it is complete.

    Rejected, with nothing left behind: absolute paths, drives, backslashes and ``..``; links and devices; encrypted
    files; two files with one name; more than ``LARGEST_TOTAL`` bytes, ``LARGEST_RATIO`` times the archive's size, or
    the free disk space; damage, including a wrong CRC of a file.

    Args:
        archive: the zip file.
        folder: must be missing or empty.

    Raises:
        DataError: the archive is damaged or rejected; the message says why.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            _check_members(members, archive)
            for member in members:
                _extract_member(opened, member, unfinished, archive)
        unfinished.chmod(0o755)
        sync_all()
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    except _DAMAGE as error:
        raise DataError(f"{archive} isn't a valid zip archive: {error}. Delete it to download it again.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _check_members(members: list[zipfile.ZipInfo], archive: Path) -> None:
    if len(members) > MOST_FILES:
        raise DataError(f"{archive} is refused: {len(members):,} files, more than {MOST_FILES:,}.")
    seen: set[PurePosixPath] = set()
    for member in members:
        name = member.orig_filename
        path = PurePosixPath(name)
        kind = stat.S_IFMT(member.external_attr >> 16)
        problem = None
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name.partition("/")[0] or "\0" in name:
            problem = "its path leads out of the folder"
        elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            problem = "it is a link or a device, not a file"
        elif member.flag_bits & 1:
            problem = "it is encrypted"
        elif path in seen:
            problem = "the archive has two files of this name"
        if problem:
            raise DataError(f"{archive} is refused because of {name!r}: {problem}.")
        seen.add(path)
    total = sum(member.file_size for member in members)
    packed = archive.stat().st_size
    if total > LARGEST_TOTAL or total > LARGEST_RATIO * packed + _CHUNK:
        raise DataError(
            f"{archive} is refused: {packed:,} bytes would unpack to {total:,}, more than {LARGEST_RATIO} times as much "
            f"or {LARGEST_TOTAL:,}."
        )
    free = shutil.disk_usage(archive.parent).free
    if total > free:
        raise DataError(f"{archive} unpacks to {total:,} bytes; {archive.parent} has {free:,} free.")


def _extract_member(opened: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, archive: Path) -> None:
    target = folder / member.orig_filename
    if member.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with opened.open(member) as source, target.open("xb") as file:
            shutil.copyfileobj(source, file, _CHUNK)
    except FileExistsError as error:
        raise DataError(f"{archive} is refused because of {member.orig_filename!r}: its name is taken.") from error
    if target.stat().st_size != member.file_size:
        raise DataError(f"{archive} is refused because of {member.orig_filename!r}: its size isn't the announced one.")


def _from_kaggle(name: str, root: Path) -> None:
    try:
        import kagglehub
    except ImportError as error:
        raise DataError(
            f"data.download=true: fetching {name} from Kaggle needs kagglehub; install it: {install_command('download')}"
        ) from error
    unfinished = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        try:
            kagglehub.dataset_download(name, output_dir=os.fspath(unfinished))
        except Exception as error:  # kagglehub may raise any error of its HTTP client
            raise DataError(
                f"{name} can't be downloaded from Kaggle: {error or type(error).__name__}. It needs the key of an account in "
                "~/.kaggle/kaggle.json or KAGGLE_USERNAME and KAGGLE_KEY (Kaggle: Settings, API); the rules of the data set "
                "must have been accepted once in a browser."
            ) from error
        unfinished.chmod(0o755)
        sync_all()
        if root.exists():
            root.rmdir()
        unfinished.rename(root)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
