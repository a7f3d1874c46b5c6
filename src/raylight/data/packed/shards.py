"""Files that hold many images each, in a folder of this machine or behind a URI.

Not here: reading their contents (``parquet``, ``tar``).
"""

import stat
from pathlib import Path
from typing import NamedTuple

from raylight.config.uris import is_uri
from raylight.data.names import SPLITS
from raylight.errors import DataError, first_line
from raylight.storage.remote import AnyPath, to_path


class ShardFile(NamedTuple):
    """A file with many images.

    Attributes:
        path: path of the file.
        name: its path relative to the root, with ``/``; the keys of its images begin with it.
        modified: time of its last change, in nanoseconds since 1970; ``NO_TIME`` where the filesystem keeps none.
    """

    path: AnyPath
    name: str
    modified: int


class Shards:
    """All files with a suffix below a root, or the root itself if it is a file.

    Args:
        root: folder, file, or the URI of either.
        suffix: suffix of the files, with its dot.
        kind: name of the file format, for messages.

    Raises:
        DataError: no filesystem can open the URI.
    """

    def __init__(self, root: str, suffix: str, kind: str) -> None:
        self.root: AnyPath = to_path(root) if is_uri(root) else Path(root).expanduser()
        self.suffix, self.kind = suffix, kind
        self._is_folder: bool | None = None
        self._found: dict[str, ShardFile] = {}

    def found(self) -> dict[str, ShardFile]:
        """Lists the files, once.

        Returns:
            The files by name, sorted.

        Raises:
            DataError: there are none, or the root can't be listed.
        """
        if self._found:
            return self._found
        try:
            times = self._listed() if self._folder() else {self.root.name: self.root.stat().st_mtime_ns}
        except FileNotFoundError:
            times = {}
        except OSError as error:
            raise DataError(
                f"data.root={self.root} can't be listed: {error.strerror or first_line(error)}. Make it readable; the "
                "credentials for a URI come from the environment"
            ) from error
        if not times:
            raise DataError(
                f"data.root={self.root}: no {self.kind} is there; expected one, or a folder with *{self.suffix}"
            )
        self._found = {name: ShardFile(self.path(name), name, times[name]) for name in sorted(times)}
        return self._found

    def path(self, name: str) -> AnyPath:
        """The path of a file.

        Args:
            name: name of the file.

        Returns:
            Its path.
        """
        return self.root / name if self._folder() else self.root

    def split_key(self, key: str) -> tuple[str, str]:
        """Splits the key of an image.

        Args:
            key: begins with the name of a file, and a ``/``.

        Returns:
            The name of the file, and the rest of the key.

        Raises:
            KeyError: it begins with no file's name.
        """
        parts = key.split("/")
        for length in range(1, len(parts)):
            name = "/".join(parts[:length])
            if name in self.found():
                return name, key[len(name) + 1 :]
        raise KeyError(key)

    def _folder(self) -> bool:
        """Whether the root is a folder; looked up once, since for a URI that takes a request."""
        if self._is_folder is None:
            self._is_folder = self.root.is_dir()
        return self._is_folder

    def _listed(self) -> dict[str, int]:
        """The time of the last change by name, without hidden files and folders."""
        if isinstance(self.root, Path):
            files = (path for path in self.root.rglob(f"*{self.suffix}") if path.is_file())
            times = {path.relative_to(self.root).as_posix(): path.stat().st_mtime_ns for path in files}
        else:
            entries = self.root.entries(recursive=True).items()
            times = {name: status.st_mtime_ns for name, status in entries if stat.S_ISREG(status.st_mode)}
        return {
            name: time
            for name, time in times.items()
            if name.endswith(self.suffix) and not any(part.startswith(".") for part in name.split("/"))
        }


def split_of(name: str) -> str | None:
    """The split in the name of a shard, as in ``train-00000-of-00004.parquet`` or ``data/test/0.tar``.

    Args:
        name: path of the shard, relative to the root.

    Returns:
        train, val, test, or ``None`` where the name has none.

    Example:
        >>> split_of("data/validation-00000-of-00001.parquet"), split_of("val/3.tar"), split_of("shard-7.tar")
        ('val', 'val', None)
    """
    *folders, file = name.split("/")
    first = file.split(".")[0].split("-")[0]
    return next((SPLITS[part.casefold()] for part in (first, *reversed(folders)) if part.casefold() in SPLITS), None)
