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
        metadata: further columns of the data set, as a JSON object.
    """

    path: str
    label: str
    group: str | None = None
    split: str | None = None
    metadata: str | None = None


@dataclass(frozen=True)
class LayoutMatch:
    """The files of a folder according to one layout.

    Attributes:
        root: folder that paths are relative to.
        layout: one of ``LAYOUTS``, or ``source``.
        files: with their labels.
        ignored: files and folders that don't fit the layout.
    """

    root: AnyPath
    layout: str
    files: list[SourceFile]
    ignored: list[IgnoredEntry]

    @property
    def labels(self) -> set[str]:
        """The names of the classes."""
        return {file.label for file in self.files}

    def is_data_set(self, known: Collection[str]) -> bool:
        """Whether there are two or more classes, or one that a trained model knows, by its normalised name."""
        return len(self.labels) > 1 or any(normalized_name(label) in known for label in self.labels)


def find_layouts(
    root: AnyPath, layouts: tuple[str, ...], levels: int, known: Collection[str] = ()
) -> list[LayoutMatch]:
    """Finds the layouts that fit the root, else those that fit the folders below it.

    Args:
        root: of the data set.
        layouts: the ones to try, of ``LAYOUTS``.
        levels: how many levels below the root to search.
        known: normalised names of the classes of a trained model; one of them is enough, else two classes are needed.

    Returns:
        All that fit on the first level where one does.

    Raises:
        DataError: a folder can't be listed, or a class is missing in train.
    """
    folder = Folder.read(root)
    matches = [_read(folder, layout, alone=len(layouts) == 1) for layout in layouts]
    fitting = [match for match in matches if match is not None and match.is_data_set(known)]
    if fitting or levels == 0:
        return fitting
    return [match for name in folder.folders for match in find_layouts(root / name, layouts, levels - 1, known)]


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
        not_images: list[IgnoredEntry] = []
        labelled = list(_labelled(folder.path, name, part.folders, not_images))
        if labelled:
            files += [replace(file, split=split) for file in labelled]
            ignored += not_images + [
                IgnoredEntry(f"{name}/{file}", _NO_CLASS, None, is_image(file)) for file in part.files
            ]
        else:
            ignored.append(_unlabelled(name, split))
    train_labels = {file.label for file in files if file.split == "train"}
    if len(train_labels) < 2:
        return None
    spelling = {normalized_name(label): label for label in train_labels}
    files = [replace(file, label=spelling.get(normalized_name(file.label), file.label)) for file in files]
    for file in files:
        if file.label not in train_labels:
            raise DataError(
                f"{folder.path}: the class {file.label!r} is in {names[file.split or '']}/ but not in {names['train']}/, "
                f"which has {quoted(train_labels)}. It can't be learnt: add it to {names['train']}/, or remove it."
            )
    return LayoutMatch(folder.path, "split_folders", files, ignored)


def read_class_folders(folder: Folder, every_folder: bool = False) -> LayoutMatch | None:
    """Reads images from a folder per class.

    Args:
        folder: the parent of the class folders.
        every_folder: whether folders named like a split are classes, too.

    Returns:
        The match, with any number of classes; ``None`` if a folder is a data set of its own.
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
    """Reads images from files named ``cat.0.jpg``, in the folder itself or in its split folders."""
    names = folder.split_folders()
    files: list[SourceFile] = []
    ignored: list[IgnoredEntry] = []
    folders: list[tuple[str | None, str, list[str]]] = [(None, "", folder.files)]
    folders += [(split, f"{name}/", Folder.read(folder.path / name).files) for split, name in names.items()]
    for split, prefix, entries in folders:
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
        # Kaggle puts all labelled photos into train/; alone, that isn't a split.
        files = [replace(file, split=None) for file in files]
    return LayoutMatch(folder.path, "flat", files, ignored)


def _flat_name(name: str) -> re.Match[str] | None:
    return _FLAT_NAME.fullmatch(name) if is_image(name) else None
