"""Tar archives with an image and its label side by side, as WebDataset writes them.

The members of a sample share a name up to its first dot: ``0001.jpg`` with ``0001.cls`` (a number or name), ``0001.json`` (with
a ``label``), or neither, in a folder of its class. Members are read where they lie; compressed archives have to be unpacked.
See https://github.com/webdataset/webdataset.
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

_NOTES = ("cls", "json", "txt")


class _Member(NamedTuple):
    """Where the bytes of an image lie."""

    file: Path
    offset: int
    size: int


class TarShards:
    """All tar archives in a folder, or a single one.

    Args:
        root: the folder or archive.
        classes: names of the classes by number, where ``.cls`` holds numbers; empty leaves the numbers.
        label: name in ``.json`` that holds the label.
        group: name in ``.json`` that holds the patient or object, if there is one.
    """

    def __init__(self, root: str, classes: Sequence[str] = (), label: str = "label", group: str | None = None) -> None:
        self.root = local(root)
        self.classes, self.label, self.group = tuple(classes), label, group

    def entries(self) -> pa.Table:
        """See ``ImageSource``; the key of an image is its archive and its name there."""
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
        return [sample for file in files for sample in self._of_archive(file)]

    def _of_archive(self, file: Path) -> Iterator[tuple[dict[str, Any], _Member]]:
        shown = file.relative_to(self.root).as_posix() if self.root.is_dir() else file.name
        images: list[tuple[str, _Member]] = []
        notes: dict[str, dict[str, bytes]] = {}
        try:
            with tarfile.open(file, "r:") as archive:
                for member in archive:
                    folder, _, name = member.name.rpartition("/")
                    stem, _, suffix = name.partition(".")
                    if not member.isfile() or name.startswith("."):
                        continue
                    if suffix.lower() in _NOTES and (content := archive.extractfile(member)) is not None:
                        notes.setdefault(f"{folder}/{stem}", {})[suffix.lower()] = content.read()
                    elif is_image(name):
                        images.append((member.name, _Member(file, member.offset_data, member.size)))
        except (OSError, tarfile.TarError) as error:
            raise DataError(
                f"{file} can't be read as an uncompressed tar archive: {first_line(error)}. Unpack a compressed one, or "
                "write it without compression."
            ) from error
        status = file.stat()
        for name, where in images:
            folder, _, base = name.rpartition("/")
            told = notes.get(f"{folder}/{base.partition('.')[0]}", {})
            further = self._further(told, f"{file}: {name}")
            yield (
                {
                    **{key: value for key, value in further.items() if key not in (self.label, self.group)},
                    "key": f"{shown}/{name}",
                    "label": self._label(told, further, folder, f"{file}: {name}"),
                    "group": None if self.group is None else str(further.get(self.group) or "") or None,
                    "split": split_of(shown),
                    "bytes": where.size,
                    "modified": status.st_mtime_ns,
                },
                where,
            )

    def _further(self, told: dict[str, bytes], where: str) -> dict[str, Any]:
        try:
            found = json.loads(told.get("json", b"{}"))
        except ValueError as error:
            raise DataError(f"{where}: its .json can't be read: {error}") from error
        if not isinstance(found, dict):
            raise DataError(f"{where}: its .json holds a {type(found).__name__}; expected names with values")
        return {
            name: value if isinstance(value, str | int | float | bool) else json.dumps(value)
            for name, value in found.items()
        }

    def _label(self, told: dict[str, bytes], further: dict[str, Any], folder: str, where: str) -> str:
        text = told["cls"].decode("utf-8", "replace").strip() if "cls" in told else str(further.get(self.label, ""))
        text = text or folder.rpartition("/")[2]
        if not text:
            raise DataError(
                f"{where}: no label; expected a .cls or a .json with {self.label!r} beside it, or a folder of its class"
            )
        if not self.classes or not text.isdigit():
            return text
        if int(text) >= len(self.classes):
            raise DataError(f"{where}: class {text}, but data.source.classes names {len(self.classes)}, counted from 0")
        return self.classes[int(text)]
