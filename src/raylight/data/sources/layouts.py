"""The layouts in which folders hold labelled images, and what each makes of a folder.

Looks at names only. What lies in none of a layout's places is set aside in ``Found.ignored``. Not here: tables
(``csv_table.py``), and what a data set's settings choose (``source.py``).
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from raylight.data.names import is_image, listed, same_name
from raylight.data.sources.listing import Folder, files_below
from raylight.data.sources.passed_over import PassedOver, not_an_image
from raylight.errors import DataError
from raylight.storage.remote import Place

LAYOUTS = ("split_folders", "class_folders", "flat", "csv")
DEEPEST_ROOT = 3
"""Levels below the root at which the data set may begin, through folders that hold nothing else."""

_FLAT_NAME = re.compile(r"(?P<label>[^.]*[^.\d][^.]*)\.\d+\.[^.]+")


@dataclass(frozen=True)
class SourceFile:
    """A file with its label.

    Attributes:
        path: relative to the root, with ``/``.
        label: name of its class.
        group: the patient (or object) it shows, where the data set says so.
        split: ``train``, ``val`` or ``test`` as the data set ships it.
    """

    path: str
    label: str
    group: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Found:
    """Files of one layout."""

    root: Place
    layout: str
    files: list[SourceFile]
    ignored: list[PassedOver]

    @property
    def labels(self) -> set[str]:
        """The names of the classes."""
        return {file.label for file in self.files}

    def is_data_set(self, known: Collection[str]) -> bool:
        """Whether there are two classes, or one that is known already.

        Args:
            known: names of classes, as ``same_name`` has them.
        """
        return len(self.labels) > 1 or any(same_name(label) in known for label in self.labels)


def search(root: Place, layouts: tuple[str, ...], levels: int, known: Collection[str] = ()) -> list[Found]:
    """Everything that fits a layout: in the root, else in the folders below it."""
    folder = Folder.read(root)
    found = [_read(folder, layout, alone=len(layouts) == 1) for layout in layouts]
    fitting = [one for one in found if one is not None and one.is_data_set(known)]
    if fitting or levels == 0:
        return fitting
    return [one for name in folder.folders for one in search(root / name, layouts, levels - 1, known)]


def _read(folder: Folder, layout: str, alone: bool) -> Found | None:
    if layout == "split_folders":
        return _read_split_folders(folder)
    return read_flat(folder) if layout == "flat" else read_class_folders(folder, every_folder=alone)


def _read_split_folders(folder: Folder) -> Found | None:
    names = folder.split_folders()
    if "train" not in names:
        return None
    files: list[SourceFile] = []
    ignored = _beside(folder, [name for name in folder.folders if name not in names.values()])
    for split, name in names.items():
        part = Folder.read(folder.path / name)
        strays: list[PassedOver] = []
        labelled = list(_labelled(folder.path, name, part.folders, strays))
        if labelled:
            files += [replace(file, split=split) for file in labelled]
            ignored += strays + [
                PassedOver(f"{name}/{stray}", _NO_CLASS, None, is_image(stray)) for stray in part.files
            ]
        else:
            ignored.append(_unlabelled(name, split))
    trained = {file.label for file in files if file.split == "train"}
    if len(trained) < 2:
        return None
    spelled = {same_name(label): label for label in trained}
    files = [replace(file, label=spelled.get(same_name(file.label), file.label)) for file in files]
    for file in files:
        if file.label not in trained:
            raise DataError(
                f"{folder.path}: the class {file.label!r} is in {names[file.split or '']}/ but not in {names['train']}/, "
                f"which has {listed(trained)}. Nothing could learn it: add it there, or remove it here."
            )
    return Found(folder.path, "split_folders", files, ignored)


def read_class_folders(folder: Folder, every_folder: bool = False) -> Found | None:
    """A folder for each class.

    Args:
        folder: their parent.
        every_folder: those named like a split are classes, too.
    """
    splits = {} if every_folder else folder.split_folders()
    classes = [name for name in folder.folders if name not in splits.values()]
    if any(Folder.read(folder.path / name).split_folders() for name in classes):
        return None  # a folder with train/ or test/ in it is a data set, not a class
    ignored = _beside(folder, []) + [_unlabelled(name, split) for split, name in splits.items()]
    files = list(_labelled(folder.path, "", classes, ignored))
    return Found(folder.path, "class_folders", files, ignored)


def _labelled(root: Place, parent: str, classes: Iterable[str], ignored: list[PassedOver]) -> Iterator[SourceFile]:
    """The images below class folders; adds what isn't an image to ``ignored``."""
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
            ignored.append(PassedOver(f"{prefix}/", "there is no file in it", label, True))


_NO_CLASS = "in no class's folder"


def _beside(folder: Folder, others: Iterable[str]) -> list[PassedOver]:
    """What stands beside the folders of classes or splits."""
    files = [PassedOver(name, _NO_CLASS, None, is_image(name)) for name in folder.files]
    return files + [PassedOver(f"{name}/", "beside the folders that are used") for name in others]


def _unlabelled(name: str, split: str) -> PassedOver:
    cut = "" if split == "train" else f"; {split} is cut from train instead"
    return PassedOver(f"{name}/", f"no labelled images are in it: no folder for each class{cut}", None, True)


def read_flat(folder: Folder) -> Found | None:
    """Files named ``cat.0.jpg``, in the folder itself or in those of its splits."""
    names = folder.split_folders()
    files: list[SourceFile] = []
    ignored: list[PassedOver] = []
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
            PassedOver(prefix + name, "the name tells no class as cat.0.jpg does", None, True)
            if is_image(name)
            else not_an_image(prefix + name)
            for name in entries
            if name not in taken
        ]
    ignored += _beside(replace(folder, files=[]), [name for name in folder.folders if name not in names.values()])
    if {file.split for file in files} <= {None, "train"}:
        # A lone train/ is where Kaggle puts all labelled photos; it says nothing of a split.
        files = [replace(file, split=None) for file in files]
    return Found(folder.path, "flat", files, ignored)


def _flat_name(name: str) -> re.Match[str] | None:
    return _FLAT_NAME.fullmatch(name) if is_image(name) else None
