"""Remote files: ``s3://``, ``gs://``, ``hdfs://``, ``file://`` and other URIs for which pyarrow has a filesystem.

They are listed and read, never written. pyarrow takes settings and credentials from the environment (``AWS_REGION``,
``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ...) or the query of the URI (``s3://bucket/photos?region=eu-west-1``).
See https://arrow.apache.org/docs/python/filesystems.html.
"""

import functools
import stat
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from raylight.config.uris import is_uri
from raylight.errors import DataError
from raylight.storage.packed import NO_TIME, SCHEME, FileStatus, SourcePath


@dataclass(frozen=True, order=True)
class RemotePath:
    """A remote file or folder, with the part of the interface of ``pathlib.Path`` that data sets need.

    Attributes:
        start: scheme and host (or bucket), such as ``s3://bucket``.
        path: below that, without a ``/`` at either end; not quoted.
        query: with its ``?``, or empty.
    """

    start: str
    path: str
    query: str = ""

    def __truediv__(self, name: str) -> "RemotePath":
        parts = [part for part in (self.path, *str(name).split("/")) if part not in ("", ".")]
        return RemotePath(self.start, "/".join(parts), self.query)

    def __str__(self) -> str:
        return f"{self.start}/{urllib.parse.quote(self.path)}{self.query}"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def stat(self) -> FileStatus:
        """Asks for mode, size and modification time.

        Returns:
            What the filesystem says.

        Raises:
            OSError: there is no such file, or the filesystem doesn't answer.
        """
        filesystem, name = self._opened()
        return self._status(filesystem.get_file_info(name))

    def is_dir(self) -> bool:
        """Whether this is a folder."""
        return self.exists() and stat.S_ISDIR(self.stat().st_mode)

    def is_file(self) -> bool:
        """Whether this is a file."""
        return self.exists() and stat.S_ISREG(self.stat().st_mode)

    def exists(self) -> bool:
        """Whether there is anything under this name."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def read_bytes(self) -> bytes:
        """Reads the file.

        Returns:
            Its content.

        Raises:
            OSError: it can't be read.
        """
        with self.open("rb") as file:
            return bytes(file.read())

    def open(self, mode: Literal["rb"]) -> Any:
        """Opens the file for reading.

        Args:
            mode: binary only.

        Returns:
            A file of pyarrow.

        Raises:
            OSError: it can't be opened.
        """
        filesystem, name = self._opened()
        return filesystem.open_input_file(name)

    def entries(self, recursive: bool = False) -> dict[str, FileStatus]:
        """Lists a folder.

        Args:
            recursive: whether to list the folders in it, too.

        Returns:
            The status of each file and folder, by its path relative to this one.

        Raises:
            OSError: it can't be listed.
        """
        from pyarrow.fs import FileSelector

        filesystem, name = self._opened()
        found = filesystem.get_file_info(FileSelector(name, recursive=recursive))
        return {info.path.removeprefix(name).lstrip("/"): self._status(info) for info in found}

    def _opened(self) -> tuple[Any, str]:
        filesystem, prefix = _filesystem(self.start, self.query)
        return filesystem, prefix + self.path

    def _status(self, info: Any) -> FileStatus:
        from pyarrow.fs import FileType

        if info.type == FileType.NotFound:
            raise FileNotFoundError(2, "No such file or directory", str(self))
        mode = {FileType.File: stat.S_IFREG, FileType.Directory: stat.S_IFDIR}.get(info.type, 0)
        return FileStatus(mode, info.size or 0, NO_TIME if info.mtime_ns is None else info.mtime_ns)


AnyPath = Path | RemotePath | SourcePath
"""A local or remote file or folder, or an image of a source."""


def to_path(text: str | Path) -> AnyPath:
    """Converts a path or URI to a path object.

    Args:
        text: a local path, a URI, or the text of a ``SourcePath``.

    Returns:
        The object of the fitting type.

    Raises:
        DataError: pyarrow has no filesystem for the URI, or can't open it with these settings.
    """
    if not is_uri(str(text)):
        return Path(text)
    if str(text).startswith(SCHEME):
        return SourcePath.parse(str(text))
    parts = urllib.parse.urlsplit(str(text), allow_fragments=False)
    query = f"?{parts.query}" if parts.query else ""
    found = RemotePath(f"{parts.scheme}://{parts.netloc}", urllib.parse.unquote(parts.path).strip("/"), query)
    _filesystem(found.start, found.query)
    return found


@functools.cache
def _filesystem(start: str, query: str) -> tuple[Any, str]:
    """The filesystem of a URI, and the prefix of paths in it: the bucket, or ``/``."""
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    try:
        filesystem, path = FileSystem.from_uri(f"{start}/-{query}")
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{start}{query}: pyarrow can't open this filesystem: {error}. Give a folder, or a URI such as "
            "s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or file:///FOLDER; credentials come from the environment"
        ) from error
    return filesystem, path.removesuffix("-")
