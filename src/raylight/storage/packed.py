"""Paths of the images in a source: rows of a table, members of an archive, or whatever a user's class reads.

A source is any object with ``entries()`` and ``read(key)`` (``raylight.data.packed.protocol``). A path contains the
``_target_`` node that builds the source, so its text is all that another process needs: it builds the source itself, once, if
it trusts the package, too.
"""

import functools
import importlib
import io
import json
import stat
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from raylight.config.rules.targets import ALLOWING, is_source, is_trusted
from raylight.errors import DataError, first_line

SCHEME = "source://"

NO_TIME = -1
"""Modification time of a file that has none: it never counts as unchanged."""
NO_SIZE = -2
"""Size of an image whose source doesn't know it: only the modification time tells whether it is unchanged."""


class FileStatus(NamedTuple):
    """The part of the result of ``Path.stat`` that is used: mode, size in bytes, modification time in nanoseconds."""

    st_mode: int
    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True, order=True)
class SourcePath:
    """An image of a source, or the source itself, with the part of the interface of ``pathlib.Path`` that data sets need.

    Attributes:
        node: the ``_target_`` node of the source, as JSON.
        key: of the image; empty for the source itself.
    """

    node: str
    key: str = ""

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> "SourcePath":
        """The source that a ``_target_`` node builds."""
        return cls(json.dumps(dict(node), sort_keys=True))

    @classmethod
    def parse(cls, text: str) -> "SourcePath":
        """The path that ``str`` has turned into text."""
        node, _, key = text.removeprefix(SCHEME).partition("/")
        return cls(urllib.parse.unquote(node), urllib.parse.unquote(key))

    def __str__(self) -> str:
        return f"{SCHEME}{urllib.parse.quote(self.node, safe='')}/{urllib.parse.quote(self.key)}"

    def __truediv__(self, name: str) -> "SourcePath":
        return SourcePath(self.node, f"{self.key}/{name}" if self.key else str(name))

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    def source(self) -> Any:
        """Builds the source, on first use in this process.

        Returns:
            The object with ``entries()`` and ``read(key)``.

        Raises:
            DataError: its package isn't trusted, or it can't be built.
        """
        return _built(self.node)

    def remember(self, table: Any) -> None:
        """Takes sizes and times from a table of the source, so that it needn't be read again.

        Args:
            table: the result of ``entries()``.
        """
        _LISTED.pop(self.node, None)
        while len(_LISTED) >= MAX_LISTED:
            del _LISTED[next(iter(_LISTED))]
        _LISTED[self.node] = _statuses(table)

    def stat(self) -> FileStatus:
        """Asks for mode, size and modification time.

        Returns:
            What the table of the source says.

        Raises:
            FileNotFoundError: the source has no such image.
        """
        if not self.key:
            return FileStatus(stat.S_IFDIR, 0, NO_TIME)
        status = _listed(self.node).get(self.key)
        if status is None:
            raise FileNotFoundError(2, "No such image", self.key)
        return status

    def is_dir(self) -> bool:
        """Whether this is the source, not an image of it."""
        return not self.key

    def is_file(self) -> bool:
        """Whether this is an image of the source."""
        return bool(self.key) and self.exists()

    def exists(self) -> bool:
        """Whether this is the source or an image of it."""
        return not self.key or self.key in _listed(self.node)

    def read_bytes(self) -> bytes:
        """Reads the encoded image.

        Returns:
            The content of an image file.

        Raises:
            OSError: the source can't read it.
        """
        source = self.source()
        try:
            return bytes(source.read(self.key))
        except OSError:
            raise
        except Exception as error:  # a user's code may fail in any way; then the image is quarantined
            raise OSError(0, f"{type(source).__name__}.read: {type(error).__name__}: {first_line(error)}") from error

    def open(self, mode: Literal["rb"]) -> Any:
        """The encoded image as a binary file."""
        return io.BytesIO(self.read_bytes())

    def entries(self, recursive: bool = False) -> dict[str, FileStatus]:
        """All images by key."""
        return _listed(self.node)


@functools.lru_cache(maxsize=16)
def _built(node: str) -> Any:
    settings = json.loads(node)
    target = str(settings.get("_target_"))
    if not is_trusted(target):
        package = target.split(".")[0]
        raise DataError(
            f"The images come from a source of the package {package!r} ({target}), whose code would have to be run; if you "
            f"trust it, set {ALLOWING}={package}"
        )
    module, _, name = target.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise DataError(f"The images come from {target}, which can't be imported: {first_line(error)}") from error
    if not is_source(kind):
        raise DataError(
            f"data.source: {target} isn't a source: expected a class with the methods entries() and read(key)"
        )
    arguments = {key: value for key, value in settings.items() if not key.startswith("_")}
    try:
        return kind(**arguments)
    except DataError:
        raise
    except Exception as error:  # a user's constructor may fail in any way
        raise DataError(f"data.source: {target}: {type(error).__name__}: {first_line(error)}") from error


MAX_LISTED = 4
"""Number of sources whose lists of images a process keeps."""
_LISTED: dict[str, dict[str, FileStatus]] = {}


def _listed(node: str) -> dict[str, FileStatus]:
    if node not in _LISTED:
        SourcePath(node).remember(_built(node).entries())
    return _LISTED[node]


def _statuses(table: Any) -> dict[str, FileStatus]:
    """Size and modification time of each image, if the table has the columns ``bytes`` and ``modified``."""
    columns = [
        table.column(name).to_pylist() if name in table.column_names else [default] * table.num_rows
        for name, default in (("bytes", NO_SIZE), ("modified", NO_TIME))
    ]
    keys = table.column("key").to_pylist()
    return {str(key): FileStatus(stat.S_IFREG, size, time) for key, size, time in zip(keys, *columns, strict=True)}
