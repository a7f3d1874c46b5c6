"""Finding labelled images in folders: the supported layouts.

Looks at names only. Files that don't fit the layout are listed in ``LayoutMatch.ignored``. Not here: tables
(``csv_table``), the settings of a data set (``source``).
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from raylight.data.names import is_image, normalized_name, quoted
from raylight.data.sources.ignored import IgnoredEntry, not_an_image
from raylight.data.sources.listing import Folder, files_below
from raylight.errors import DataError
from raylight.storage.remote import AnyPath

LAYOUTS = ("split_folders", "class_folders", "flat", "csv")
DEEPEST_ROOT = 3
"""Maximum number of levels below the root at which the data set may begin."""

_FLAT_NAME = re.compile(r"(?P<label>[^.]*[^.\d][^.]*)\.\d+\.[^.]+")


@dataclass(frozen=True)
class SourceFile:
    """A file with its label.

    Attributes:
        path: relative to the root, with ``/``.
        label: name of its class.
        group: the patient or object, where the data set names it.
        split: ``train``, ``val`` or ``test``, where the data set ships splits.
    """

    path: str
    label: str
    group: str | None = None
    split: str | None = None
    metadata: str | None = None
    """What else the data set says of the file, as a JSON object."""


@dataclass(frozen=True)
class LayoutMatch:
    """The files of a folder, as read by one layout."""

    root: AnyPath
    layout: str
    files: list[SourceFile]
    ignored: list[IgnoredEntry]

    @property
    def labels(self) -> set[str]:
        """The names of the classes."""
        return {file.label for file in self.files}

    def is_data_set(self, known: Collection[str]) -> bool:
        """Whether there are two or more classes, or one that a model knows.

        Args:
            known: normalized names of the classes a model knows.
        """
        return len(self.labels) > 1 or any(normalized_name(label) in known for label in self.labels)


def search(root: AnyPath, layouts: tuple[str, ...], levels: int, known: Collection[str] = ()) -> list[LayoutMatch]:
    """All layouts that fit the root, else those that fit the folders below it.

    Args:
        root: of the data set.
        layouts: to try.
        levels: how many levels below the root to search.
        known: normalized names of the classes a model knows; one of them is enough, else two classes are needed.
    """
    folder = Folder.read(root)
    found = [_read(folder, layout, alone=len(layouts) == 1) for layout in layouts]
    fitting = [one for one in found if one is not None and one.is_data_set(known)]
    if fitting or levels == 0:
        return fitting
    return [one for name in folder.folders for one in search(root / name, layouts, levels - 1, known)]


def _read(folder: Folder, layout: str, alone: bool) -> LayoutMatch | None:
    if layout == "split_folders":
        return _read_split_folders(folder)
    return read_flat(folder) if layout == "flat" else read_class_folders(folder, every_folder=alone)


def _read_split_folders(folder: Folder) -> LayoutMatch | None:
    names = folder.split_folders()
    if "train" not in names:
        return None
    files: list[SourceFile] = []
    ignored = _beside(folder, [name for name in folder.folders if name not in names.values()])
    for split, name in names.items():
        part = Folder.read(folder.path / name)
        strays: list[IgnoredEntry] = []
        labelled = list(_labelled(folder.path, name, part.folders, strays))
        if labelled:
            files += [replace(file, split=split) for file in labelled]
            ignored += strays + [
                IgnoredEntry(f"{name}/{stray}", _NO_CLASS, None, is_image(stray)) for stray in part.files
            ]
        else:
            ignored.append(_unlabelled(name, split))
    trained = {file.label for file in files if file.split == "train"}
    if len(trained) < 2:
        return None
    spelled = {normalized_name(label): label for label in trained}
    files = [replace(file, label=spelled.get(normalized_name(file.label), file.label)) for file in files]
    for file in files:
        if file.label not in trained:
            raise DataError(
                f"{folder.path}: the class {file.label!r} is in {names[file.split or '']}/ but not in {names['train']}/, "
                f"which has {quoted(trained)}. It can't be learnt: add it there, or remove it here."
            )
    return LayoutMatch(folder.path, "split_folders", files, ignored)


def read_class_folders(folder: Folder, every_folder: bool = False) -> LayoutMatch | None:
    """Reads a folder per class.

    Args:
        folder: their parent.
        every_folder: whether folders named like a split are classes, too.

    Returns:
        ``None`` if a folder is a data set of its own.
    """
    splits = {} if every_folder else folder.split_folders()
    classes = [name for name in folder.folders if name not in splits.values()]
    if any(Folder.read(folder.path / name).split_folders() for name in classes):
        return None  # a folder with train/ or test/ in it is a data set, not a class
    ignored = _beside(folder, []) + [_unlabelled(name, split) for split, name in splits.items()]
    files = list(_labelled(folder.path, "", classes, ignored))
    return LayoutMatch(folder.path, "class_folders", files, ignored)


def _labelled(root: AnyPath, parent: str, classes: Iterable[str], ignored: list[IgnoredEntry]) -> Iterator[SourceFile]:
    """Yields the images below class folders; adds other files to ``ignored``."""
    for label in classes:
        prefix = f"{parent}/{label}" if parent else label
        empty = True
        for path in files_below(root, prefix):
            empty = False
            if is_image(path):
                yield SourceFile(path, label)
            else:
                ignored.append(not_an_image(path, label))
        if empty:
            ignored.append(IgnoredEntry(f"{prefix}/", "it has no files", label, True))


_NO_CLASS = "not in the folder of a class"


def _beside(folder: Folder, others: Iterable[str]) -> list[IgnoredEntry]:
    """Files and folders beside those of classes or splits."""
    files = [IgnoredEntry(name, _NO_CLASS, None, is_image(name)) for name in folder.files]
    return files + [IgnoredEntry(f"{name}/", "beside the folders of the data set") for name in others]


def _unlabelled(name: str, split: str) -> IgnoredEntry:
    cut = "" if split == "train" else f"; {split} is cut from train instead"
    return IgnoredEntry(f"{name}/", f"it has no labelled images: no folder per class{cut}", None, True)


def read_flat(folder: Folder) -> LayoutMatch | None:
    """Reads files named ``cat.0.jpg``, in the folder itself or in its split folders."""
    names = folder.split_folders()
    files: list[SourceFile] = []
    ignored: list[IgnoredEntry] = []
    places: list[tuple[str | None, str, list[str]]] = [(None, "", folder.files)]
    places += [(split, f"{name}/", Folder.read(folder.path / name).files) for split, name in names.items()]
    for split, prefix, entries in places:
        labels = [(name, match["label"]) for name in entries if (match := _flat_name(name))]
        if prefix and not labels:
            ignored.append(_unlabelled(prefix.rstrip("/"), str(split)))
            continue
        files += [SourceFile(prefix + name, label, split=split) for name, label in labels]
        taken = {name for name, _ in labels}
        ignored += [
            IgnoredEntry(prefix + name, "the name has no class, as in cat.0.jpg", None, True)
            if is_image(name)
            else not_an_image(prefix + name)
            for name in entries
            if name not in taken
        ]
    ignored += _beside(replace(folder, files=[]), [name for name in folder.folders if name not in names.values()])
    if {file.split for file in files} <= {None, "train"}:
        # Kaggle puts all labelled photos into train/; by itself it isn't a split.
        files = [replace(file, split=None) for file in files]
    return LayoutMatch(folder.path, "flat", files, ignored)


def _flat_name(name: str) -> re.Match[str] | None:
    return _FLAT_NAME.fullmatch(name) if is_image(name) else None
