"""Listing a local or remote folder, without hidden entries and system folders.

Not here: which of its files belong to a data set (``layouts``).
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from raylight.data.names import SPLITS, normalized_name
from raylight.errors import DataError
from raylight.storage.remote import AnyPath

_SYSTEM_FOLDERS = frozenset({"__MACOSX", "$RECYCLE.BIN", "System Volume Information", "@eaDir"})


@dataclass(frozen=True)
class Folder:
    """The entries of a folder, without hidden ones and system folders.

    Attributes:
        path: of the folder.
        folders: names of the folders in it, sorted.
        files: names of the files in it, sorted; dead links are among them, and rejected by the scan.
    """

    path: AnyPath
    folders: list[str]
    files: list[str]

    @classmethod
    def read(cls, path: AnyPath) -> "Folder":
        """Lists a folder.

        Args:
            path: of the folder.

        Returns:
            Its entries.

        Raises:
            DataError: it can't be listed.
        """
        folders: list[str] = []
        files: list[str] = []
        try:
            for name, is_folder in _entries(path):
                if not name.startswith(".") and name not in _SYSTEM_FOLDERS:
                    (folders if is_folder else files).append(name)
        except OSError as error:
            raise DataError(
                f"The folder {path} can't be listed: {error.strerror or error}. Make it readable, or remove it from the "
                "data set."
            ) from error
        return cls(path, sorted(folders, key=os.fsencode), sorted(files, key=os.fsencode))

    def split_folders(self) -> dict[str, str]:
        """Finds the folders that are named like a split.

        Returns:
            Their names, by split.

        Raises:
            DataError: there are two folders for the same split.
        """
        names: dict[str, str] = {}
        for name in self.folders:
            split = SPLITS.get(normalized_name(name))
            if split in names:
                raise DataError(f"{self.path} has two folders for {split}: {names[split]!r} and {name!r}. Keep one.")
            if split is not None:
                names[split] = name
        return names


def _entries(path: AnyPath) -> Iterator[tuple[str, bool]]:
    """Yields the name of each entry of a folder, and whether it is a folder."""
    if not isinstance(path, Path):
        yield from ((name, stat.S_ISDIR(status.st_mode)) for name, status in path.entries().items())
        return
    with os.scandir(path) as entries:
        yield from ((entry.name, _is_folder(entry)) for entry in entries)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def files_below(root: AnyPath, start: str) -> Iterator[str]:
    """Lists all files below a folder, without following circular links.

    Args:
        root: of the data set.
        start: the folder, relative to the root.

    Yields:
        Paths relative to the root.

    Raises:
        DataError: a folder can't be listed.
    """
    if not isinstance(root, Path):
        folder = Folder.read(root / start)
        yield from (f"{start}/{name}" for name in folder.files)
        for name in folder.folders:
            yield from files_below(root, f"{start}/{name}")
        return
    real_root = Path(os.path.realpath(root))
    inside = {os.path.realpath(root / parent) for parent in PurePosixPath(start).parents}
    pending = [(start, frozenset(inside.union(map(str, real_root.parents))))]
    while pending:
        relative, above = pending.pop()
        real = os.path.realpath(root / relative)
        if real in above:
            continue
        folder = Folder.read(root / relative)
        yield from (f"{relative}/{name}" for name in folder.files)
        pending += [(f"{relative}/{name}", above | {real}) for name in folder.folders]
