"""Tar archives with an image and its label side by side, as WebDataset writes them.

The members of a sample share a name up to its first dot: ``0001.jpg`` with ``0001.cls`` (a number or name), ``0001.json`` (with
a ``label``), or neither, in a folder of its class. Images are read by their offset in the archive, so compressed archives have
to be unpacked. An archive has no table of contents: each process that reads from one first scans all of it, which for a URI
means to download it. See https://github.com/webdataset/webdataset.
"""

import functools
import io
import json
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from raylight.data.names import is_image, is_missing
from raylight.data.packed.shards import ShardFile, Shards, split_of
from raylight.errors import DataError, first_line
from raylight.storage.remote import AnyPath

_ANNOTATIONS = ("cls", "json", "txt")
_BUFFER = 4_000_000
"""Bytes per request while a remote archive is scanned; with a request per member, most of the time would be latency."""


class _Member(NamedTuple):
    """Where the bytes of an image are in its archive."""

    offset: int
    size: int


class _Contents(NamedTuple):
    """The images of an archive by name, and its annotations by name without suffix, then by suffix."""

    images: Mapping[str, _Member]
    annotations: Mapping[str, Mapping[str, bytes]]


class TarShards:
    """All tar archives in a folder, or a single one.

    Args:
        root: the folder or archive, or its URI.
        classes: names of the classes by number, where ``.cls`` holds numbers; empty keeps the numbers as names.
        label: key of the label in ``.json``.
        group: key of the patient or object in ``.json``, if there is one.
    """

    def __init__(self, root: str, classes: Sequence[str] = (), label: str = "label", group: str | None = None) -> None:
        self.shards = Shards(root, ".tar", "tar archive")
        self.classes, self.label, self.group = tuple(classes), label, group
        self._lock = threading.Lock()
        self._members: dict[str, Mapping[str, _Member]] = {}

    def entries(self) -> pa.Table:
        """See ``ImageSource``; the key of an image consists of its archive and its name in it."""
        rows = [row for shard in self.shards.found().values() for row in self._entries_of(shard)]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        return pa.table({name: [row.get(name) for row in rows] for name in columns})

    def read(self, key: str) -> bytes:
        """See ``ImageSource``."""
        with self._lock:
            archive, name = self.shards.split_key(key)
            if archive not in self._members:
                self._members[archive] = _contents(self.shards.path(archive)).images
        offset, size = self._members[archive][name]
        path = self.shards.path(archive)
        if not isinstance(path, Path):
            return bytes(self._opened(archive).read_at(size, offset))
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    @functools.lru_cache(maxsize=64)  # noqa: B019 - a source lives as long as its process
    def _opened(self, archive: str) -> Any:
        return self.shards.path(archive).open("rb")

    def _entries_of(self, shard: ShardFile) -> Iterator[dict[str, Any]]:
        contents = _contents(shard.path)
        self._members[shard.name] = contents.images
        for name, member in contents.images.items():
            folder, _, base = name.rpartition("/")
            beside = contents.annotations.get(f"{folder}/{base.partition('.')[0]}", {})
            metadata = _metadata(beside.get("json", b"{}"), f"{shard.path}: {name}")
            yield {
                **{key: value for key, value in metadata.items() if key not in (self.label, self.group)},
                "key": f"{shard.name}/{name}",
                "label": self._label(beside.get("cls"), metadata, folder, f"{shard.path}: {name}"),
                "group": str(metadata[self.group]) if self.group in metadata else None,
                "split": split_of(shard.name),
                "bytes": member.size,
                "modified": shard.modified,
            }

    def _label(self, cls: bytes | None, metadata: dict[str, Any], folder: str, image: str) -> str:
        text = str(metadata.get(self.label, "")) if cls is None else cls.decode("utf-8", "replace").strip()
        text = text or folder.rpartition("/")[2]
        if not text:
            raise DataError(
                f"{image}: no label; expected a .cls or a .json with {self.label!r} beside it, or a folder of its class"
            )
        if not self.classes or not text.isdigit():
            return text
        if int(text) >= len(self.classes):
            raise DataError(f"{image}: class {text}, but data.source.classes names {len(self.classes)}, counted from 0")
        return self.classes[int(text)]


def _contents(path: AnyPath) -> _Contents:
    """Scans an archive."""
    images: dict[str, _Member] = {}
    annotations: dict[str, dict[str, bytes]] = {}
    try:
        with path.open("rb") as file:
            buffered: Any = file if isinstance(path, Path) else io.BufferedReader(file, _BUFFER)
            with tarfile.open(fileobj=buffered, mode="r:") as archive:
                for member in archive:
                    folder, _, name = member.name.rpartition("/")
                    stem, _, suffix = name.partition(".")
                    if not member.isfile() or name.startswith("."):
                        continue
                    if suffix.lower() in _ANNOTATIONS and (content := archive.extractfile(member)) is not None:
                        annotations.setdefault(f"{folder}/{stem}", {})[suffix.lower()] = content.read()
                    elif is_image(name):
                        images[member.name] = _Member(member.offset_data, member.size)
    except (OSError, tarfile.TarError) as error:
        raise DataError(
            f"{path} can't be read as an uncompressed tar archive: {first_line(error)}. Unpack a compressed one, or "
            "write it without compression."
        ) from error
    return _Contents(images, annotations)


def _metadata(content: bytes, image: str) -> dict[str, Any]:
    try:
        metadata = json.loads(content)
    except ValueError as error:
        raise DataError(f"{image}: its .json can't be read: {error}") from error
    if not isinstance(metadata, dict):
        raise DataError(f"{image}: its .json holds a {type(metadata).__name__}; expected an object")
    return {
        name: value if isinstance(value, str | int | float | bool) else json.dumps(value)
        for name, value in metadata.items()
        if not is_missing(value)
    }
