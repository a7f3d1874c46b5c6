"""Tar archives with an image and its label side by side, as WebDataset writes them.

The members of a sample share a name up to its first dot: ``0001.jpg`` with ``0001.cls`` (a number or name), ``0001.json`` (with
a ``label``), or neither, in a folder of its class. Images are read by their offset in the archive, so compressed archives have
to be unpacked. See https://github.com/webdataset/webdataset.
"""

import json
import tarfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from raylight.data.names import is_image
from raylight.data.packed.protocol import local, split_of
from raylight.errors import DataError, first_line

_ANNOTATIONS = ("cls", "json", "txt")


class _Member(NamedTuple):
    """Where the bytes of an image are."""

    file: Path
    offset: int
    size: int


class TarShards:
    """All tar archives in a folder, or a single one.

    Args:
        root: the folder or archive.
        classes: names of the classes by number, where ``.cls`` holds numbers; empty keeps the numbers as names.
        label: key of the label in ``.json``.
        group: key of the patient or object in ``.json``, if there is one.
    """

    def __init__(self, root: str, classes: Sequence[str] = (), label: str = "label", group: str | None = None) -> None:
        self.root = local(root)
        self.classes, self.label, self.group = tuple(classes), label, group

    def entries(self) -> pa.Table:
        """See ``ImageSource``; the key of an image consists of its archive and its name in it."""
        rows = [row for row, _ in self._samples]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        return pa.table({name: [row.get(name) for row in rows] for name in columns})

    def read(self, key: str) -> bytes:
        """See ``ImageSource``."""
        member = self._members[key]
        with member.file.open("rb") as file:
            file.seek(member.offset)
            return file.read(member.size)

    @cached_property
    def _members(self) -> dict[str, _Member]:
        return {row["key"]: member for row, member in self._samples}

    @cached_property
    def _samples(self) -> list[tuple[dict[str, Any], _Member]]:
        files = sorted(self.root.rglob("*.tar")) if self.root.is_dir() else [self.root]
        if not files or not files[0].is_file():
            raise DataError(f"data.root={self.root}: no tar archive is there; expected one, or a folder with *.tar")
        return [sample for file in files for sample in self._samples_of(file)]

    def _samples_of(self, file: Path) -> Iterator[tuple[dict[str, Any], _Member]]:
        relative = file.relative_to(self.root).as_posix() if self.root.is_dir() else file.name
        images: list[tuple[str, _Member]] = []
        annotations: dict[str, dict[str, bytes]] = {}
        try:
            with tarfile.open(file, "r:") as archive:
                for member in archive:
                    folder, _, name = member.name.rpartition("/")
                    stem, _, suffix = name.partition(".")
                    if not member.isfile() or name.startswith("."):
                        continue
                    if suffix.lower() in _ANNOTATIONS and (content := archive.extractfile(member)) is not None:
                        annotations.setdefault(f"{folder}/{stem}", {})[suffix.lower()] = content.read()
                    elif is_image(name):
                        images.append((member.name, _Member(file, member.offset_data, member.size)))
        except (OSError, tarfile.TarError) as error:
            raise DataError(
                f"{file} can't be read as an uncompressed tar archive: {first_line(error)}. Unpack a compressed one, or "
                "write it without compression."
            ) from error
        status = file.stat()
        for name, location in images:
            folder, _, base = name.rpartition("/")
            beside = annotations.get(f"{folder}/{base.partition('.')[0]}", {})
            metadata = _metadata(beside.get("json", b"{}"), f"{file}: {name}")
            yield (
                {
                    **{key: value for key, value in metadata.items() if key not in (self.label, self.group)},
                    "key": f"{relative}/{name}",
                    "label": self._label(beside.get("cls"), metadata, folder, f"{file}: {name}"),
                    "group": None if self.group is None else str(metadata.get(self.group) or "") or None,
                    "split": split_of(relative),
                    "bytes": location.size,
                    "modified": status.st_mtime_ns,
                },
                location,
            )

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
    }
