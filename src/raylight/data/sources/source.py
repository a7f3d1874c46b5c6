"""Which files belong to a data set: its layout, its classes, the splits and patients that it names.

Looks at names only; no file is opened but a table (CSV) of labels. The root is a folder, or a URI such as
``s3://bucket/photos``. Layouts, from the root down:

    {train,val,test}/{class}/...      split_folders; also valid, validation, training, testing, ...
    {class}/...                       class_folders; PetImages is one
    cat.0.jpg, dog.0.jpg, ...         flat, as in Kaggle's "Dogs vs. Cats", in the root or in train/
    a table path,label[,group,split]  csv

A root that holds nothing but one folder with one of these layouts means that folder. Hidden entries and
``__MACOSX`` are passed over; a link to a folder that it lies in isn't followed; what has no label is set aside in
``Source.ignored``. A root that fits no layout, or two, is an error, never a guess.

Not here: whether the files can be used (``index.py``), fetching them (``download.py``).
"""

import csv
import io
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from raylight.config.schema import DataConfig
from raylight.config.uris import is_uri
from raylight.data.sources.demo import demo_root, draw_demo
from raylight.errors import DataError, nearest
from raylight.storage.remote import Place, RemotePath, place

IMAGE_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".gif",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".jp2",
        ".j2k",
        ".avif",
    ]
)

SPLIT_NAMES = {
    "train": ("train", "training", "train_set", "training_set"),
    "val": ("val", "valid", "validation", "dev", "val_set", "validation_set"),
    "test": ("test", "testing", "test_set", "testing_set"),
}
_SPLITS = {spelling: split for split, spellings in SPLIT_NAMES.items() for spelling in spellings}

LAYOUTS = ("split_folders", "class_folders", "flat", "csv")
DEEPEST_ROOT = 3
"""Levels below the root at which the data set may begin, through folders that hold nothing else."""

_FLAT_NAME = re.compile(r"(?P<label>[^.]*[^.\d][^.]*)\.\d+\.[^.]+")
_PASSED_OVER = frozenset({"__MACOSX", "$RECYCLE.BIN", "System Volume Information", "@eaDir"})

_TREES = """\
{root}/
├── train/                       {root}/                 {root}/
│   ├── NORMAL/     *.jpeg       ├── cat/    *.jpg       ├── cat.0.jpg
│   └── PNEUMONIA/  *.jpeg  or   └── dog/    *.jpg  or   ├── cat.1.jpg
└── test/                                                ├── dog.0.jpg
    ├── NORMAL/     *.jpeg                               └── ...
    └── PNEUMONIA/  *.jpeg"""


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
class Source:
    """The files of a data set.

    Attributes:
        root: folder that paths are relative to.
        layout: how the files were found, one of ``LAYOUTS``.
        class_names: in alphabetical order.
        positive_class: the class that recall, AUROC, ... speak of.
        files: in the order of their paths.
        ignored: what isn't an image or has no label; folders end with ``/``.
    """

    root: Place
    layout: str
    class_names: tuple[str, ...]
    positive_class: str
    files: tuple[SourceFile, ...]
    ignored: tuple[str, ...]


def find_images(data: DataConfig, cache_dir: Path) -> Source:
    """Finds the images of a data set; draws the demo, or fetches what is missing, where the config says so.

    Args:
        data: which data set, where, in which layout.
        cache_dir: where the demo is drawn.

    Raises:
        DataError: the folder is missing, empty or fits no layout or two, classes are too few or contradict each
            other, or a setting doesn't fit. The message says what was looked for, what was found, and what to do.
    """
    root = _root(data, cache_dir)
    if data.kind == "demo" and isinstance(root, Path):
        try:
            draw_demo(root)
        except OSError as error:
            raise DataError(
                f"The demo images can't be drawn in {root}: {error.strerror}. Choose another data.root."
            ) from error
    elif data.download and isinstance(root, Path) and not _holds_anything(root):
        from raylight.data.sources.download import download

        download(data, root)
    if not root.is_dir():
        problem = "is a file" if root.exists() else "doesn't exist"
        raise _nothing_found(data, root, f"the folder {root} {problem}.")
    found = _find(data, root)
    files = sorted(found.files, key=lambda file: os.fsencode(file.path))
    class_names = _class_names(data, found)
    group_of = _group_reader(data.group_pattern)
    return Source(
        root=found.root,
        layout=found.layout,
        class_names=class_names,
        positive_class=_positive_class(data, class_names),
        files=tuple(file if file.group else replace(file, group=group_of(file.path)) for file in files),
        ignored=tuple(sorted(found.ignored, key=os.fsencode)),
    )


def printable(name: str) -> str:
    r"""The name as it can be written down: bytes that aren't UTF-8 as ``\xe9``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def on_one_line(name: str | os.PathLike[str]) -> str:
    r"""The name as a log or a terminal shows it harmlessly: what isn't printable, such as a line's end, as ``\n``."""
    text = printable(os.fspath(name))
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


@dataclass(frozen=True)
class _Found:
    """Files of one layout."""

    root: Place
    layout: str
    files: list[SourceFile]
    ignored: list[str]

    @property
    def labels(self) -> set[str]:
        return {file.label for file in self.files}


@dataclass(frozen=True)
class _Folder:
    """The entries of one folder, sorted by name; hidden ones left out. Dead links count as files, to be found bad."""

    path: Place
    folders: list[str]
    files: list[str]

    @classmethod
    def read(cls, path: Place) -> "_Folder":
        folders: list[str] = []
        files: list[str] = []
        try:
            for name, is_folder in _entries(path):
                if not name.startswith(".") and name not in _PASSED_OVER:
                    (folders if is_folder else files).append(name)
        except OSError as error:
            raise DataError(
                f"The folder {path} can't be listed: {error.strerror or error}. Make it readable, or take it out of the data "
                "set."
            ) from error
        return cls(path, sorted(folders, key=os.fsencode), sorted(files, key=os.fsencode))

    def split_folders(self) -> dict[str, str]:
        """Folder names by split.

        Raises:
            DataError: two folders mean the same split.
        """
        names: dict[str, str] = {}
        for name in self.folders:
            split = _SPLITS.get(name.casefold())
            if split in names:
                raise DataError(f"{self.path} has two folders for {split}: {names[split]!r} and {name!r}. Keep one.")
            if split is not None:
                names[split] = name
        return names


def _entries(path: Place) -> Iterator[tuple[str, bool]]:
    """The names in a folder, and which of them are folders."""
    if isinstance(path, RemotePath):
        yield from ((name, stat.S_ISDIR(status.st_mode)) for name, status in path.entries().items())
        return
    with os.scandir(path) as entries:
        yield from ((entry.name, _is_folder(entry)) for entry in entries)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _root(data: DataConfig, cache_dir: Path) -> Place:
    if data.root is not None and is_uri(data.root):
        return place(data.root)
    if data.kind not in ("demo", "folder"):
        raise DataError(f"data.kind={data.kind}: expected demo or folder")
    if data.root is not None:
        return Path(os.path.abspath(Path(data.root).expanduser()))  # noqa: PTH100 - resolve() would follow links
    if data.kind == "demo":
        return demo_root(cache_dir)
    return Path.cwd() / "datasets" / data.name


def _holds_anything(root: Path) -> bool:
    return root.is_dir() and any(root.iterdir())


def _find(data: DataConfig, root: Place) -> _Found:
    if data.layout not in ("auto", *LAYOUTS):
        raise DataError(f"data.layout={data.layout}: expected auto, {', '.join(LAYOUTS)}")
    if data.layout == "csv" and data.csv is None:
        raise DataError(
            "data.layout=csv needs data.csv=TABLE with the columns path, label and optionally group, split."
        )
    if data.csv is not None:
        if data.layout not in ("auto", "csv"):
            raise DataError(f"data.csv={data.csv} contradicts data.layout={data.layout}: drop one of them.")
        return _read_csv(data.csv, root)
    wanted = LAYOUTS[:3] if data.layout == "auto" else (data.layout,)
    fitting = _search(root, wanted, DEEPEST_ROOT)
    if not fitting:
        raise _nothing_found(data, root, _what_is_there(root, wanted))
    if len(fitting) > 1:
        raise _several_found(root, fitting)
    return fitting[0]


def _search(root: Place, layouts: tuple[str, ...], levels: int) -> list[_Found]:
    """Everything that fits a layout: in the root, else in the folders below it."""
    folder = _Folder.read(root)
    found = [_read(folder, layout, alone=len(layouts) == 1) for layout in layouts]
    fitting = [one for one in found if one is not None and len(one.labels) > 1]
    if fitting or levels == 0:
        return fitting
    return [one for name in folder.folders for one in _search(root / name, layouts, levels - 1)]


def _read(folder: _Folder, layout: str, alone: bool) -> _Found | None:
    if layout == "split_folders":
        return _read_split_folders(folder)
    return _read_flat(folder) if layout == "flat" else _read_class_folders(folder, every_folder=alone)


def _read_split_folders(folder: _Folder) -> _Found | None:
    names = folder.split_folders()
    if "train" not in names:
        return None
    files: list[SourceFile] = []
    ignored = folder.files + [f"{name}/" for name in folder.folders if name not in names.values()]
    for split, name in names.items():
        part = _Folder.read(folder.path / name)
        labelled = list(_labelled(folder.path, name, part.folders, ignored))
        if labelled:
            files += [replace(file, split=split) for file in labelled]
            ignored += [f"{name}/{stray}" for stray in part.files]
        else:
            ignored.append(f"{name}/")
    trained = {file.label for file in files if file.split == "train"}
    if len(trained) < 2:
        return None
    for file in files:
        if file.label not in trained:
            raise DataError(
                f"{folder.path}: the class {file.label!r} is in {names[file.split or '']}/ but not in {names['train']}/, "
                f"which has {_listed(trained)}. Nothing could learn it: add it there, or remove it here."
            )
    return _Found(folder.path, "split_folders", files, ignored)


def _read_class_folders(folder: _Folder, every_folder: bool = False) -> _Found | None:
    splits = {} if every_folder else folder.split_folders()
    classes = [name for name in folder.folders if name not in splits.values()]
    if any(_Folder.read(folder.path / name).split_folders() for name in classes):
        return None  # a folder with train/ or test/ in it is a data set, not a class
    ignored = folder.files + [f"{name}/" for name in splits.values()]
    files = list(_labelled(folder.path, "", classes, ignored))
    return _Found(folder.path, "class_folders", files, ignored)


def _labelled(root: Place, parent: str, classes: Iterable[str], ignored: list[str]) -> Iterator[SourceFile]:
    """The images below class folders; adds what isn't an image to ``ignored``."""
    for label in classes:
        prefix = f"{parent}/{label}" if parent else label
        for path in _files_below(root, prefix):
            if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES:
                yield SourceFile(path, label)
            else:
                ignored.append(path)


def _files_below(root: Place, start: str) -> Iterator[str]:
    """All files, as paths relative to the root; links that lead back to where they lie aren't followed."""
    if isinstance(root, RemotePath):
        folder = _Folder.read(root / start)
        yield from (f"{start}/{name}" for name in folder.files)
        for name in folder.folders:
            yield from _files_below(root, f"{start}/{name}")
        return
    real_root = Path(os.path.realpath(root))
    inside = {os.path.realpath(root / parent) for parent in PurePosixPath(start).parents}
    waiting = [(start, frozenset(inside.union(map(str, real_root.parents))))]
    while waiting:
        relative, above = waiting.pop()
        real = os.path.realpath(root / relative)
        if real in above:
            continue
        folder = _Folder.read(root / relative)
        yield from (f"{relative}/{name}" for name in folder.files)
        waiting += [(f"{relative}/{name}", above | {real}) for name in folder.folders]


def _read_flat(folder: _Folder) -> _Found | None:
    names = folder.split_folders()
    files: list[SourceFile] = []
    ignored: list[str] = []
    places: list[tuple[str | None, str, list[str]]] = [(None, "", folder.files)]
    places += [(split, f"{name}/", _Folder.read(folder.path / name).files) for split, name in names.items()]
    for split, prefix, entries in places:
        labels = [(name, match["label"]) for name in entries if (match := _flat_name(name))]
        if prefix and not labels:
            ignored.append(prefix)
            continue
        files += [SourceFile(prefix + name, label, split=split) for name, label in labels]
        taken = {name for name, _ in labels}
        ignored += [prefix + name for name in entries if name not in taken]
    ignored += [f"{name}/" for name in folder.folders if name not in names.values()]
    if {file.split for file in files} <= {None, "train"}:
        # A lone train/ is where Kaggle puts all labelled photos; it says nothing of a split.
        files = [replace(file, split=None) for file in files]
    return _Found(folder.path, "flat", files, ignored)


def _flat_name(name: str) -> re.Match[str] | None:
    return _FLAT_NAME.fullmatch(name) if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES else None


def _read_csv(table: str, root: Place) -> _Found:
    places = (place(table) if is_uri(table) else Path(table).expanduser(), root / table)
    path = next((file for file in places if file.is_file()), None)
    if path is None:
        raise DataError(f"data.csv={table}: no such file, neither here nor in {root}.")
    files: list[SourceFile] = []
    seen: dict[str, int] = {}
    try:
        with io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="") as lines:
            rows = csv.DictReader(lines, skipinitialspace=True)
            rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or []]
            missing = [name for name in ("path", "label") if name not in rows.fieldnames]
            if missing:
                raise DataError(
                    f"{path}: no column {' and no column '.join(missing)}; its first line has {_listed(rows.fieldnames)}. "
                    "Expected path, label and optionally group, split, separated by commas."
                )
            for row in rows:
                file = _csv_file({key: (value or "").strip() for key, value in row.items() if key}, path, rows.line_num)
                if file.path in seen:
                    raise DataError(f"{path}: lines {seen[file.path]} and {rows.line_num} both name {file.path!r}.")
                seen[file.path] = rows.line_num
                files.append(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} can't be read as a table in UTF-8: {error}") from error
    found = _Found(root, "csv", files, [])
    if len(found.labels) < 2:
        raise DataError(f"{path} has {len(files):,} rows and {_classes(found.labels)}; two or more classes are needed.")
    return found


def _csv_file(row: dict[str, str], table: Place, line: int) -> SourceFile:
    name, label, split = row["path"], row["label"], row.get("split", "")
    if not name or not label:
        raise DataError(f"{table}: line {line} has no {'label' if name else 'path'}.")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataError(f"{table}: line {line}: {name!r} leads out of data.root; paths are relative to it.")
    if split and split.casefold() not in _SPLITS:
        raise DataError(f"{table}: line {line}: split={split!r}; expected train, val, test or nothing.")
    return SourceFile(str(path), label, row.get("group") or None, _SPLITS[split.casefold()] if split else None)


def _class_names(data: DataConfig, found: _Found) -> tuple[str, ...]:
    names = sorted(found.labels)
    alike: dict[str, str] = {}
    for name in names:
        if not _is_utf8(name):
            raise DataError(f"{found.root}: the class {os.fsencode(name)!r} isn't valid UTF-8; rename its folder.")
        if any(unicodedata.category(one) in ("Cc", "Zl", "Zp") for one in name):
            raise DataError(f"{found.root}: the class {name!r} holds control characters; rename its folder.")
        key = unicodedata.normalize("NFC", name).casefold()
        if key in alike:
            raise DataError(
                f"{found.root}: the classes {alike[key]!r} and {name!r} differ only in how they are spelled. Merge "
                "them, or rename one."
            )
        alike[key] = name
    return tuple(names)


def _positive_class(data: DataConfig, class_names: tuple[str, ...]) -> str:
    if data.positive_class is None:
        return class_names[-1]
    by_key = {name.casefold(): name for name in class_names}
    wanted = data.positive_class.casefold()
    if wanted in by_key:
        return by_key[wanted]
    near = nearest(wanted, by_key)
    hint = f" Did you mean {by_key[near]}?" if near else ""
    raise DataError(f"data.positive_class={data.positive_class}: the classes are {_listed(class_names)}.{hint}")


def _group_reader(pattern: str | None) -> Callable[[str], str | None]:
    if pattern is None:
        return lambda path: None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"data.group_pattern={pattern!r} isn't a regular expression: {error}") from error
    if not compiled.groups:
        raise DataError(
            f"data.group_pattern={pattern!r} has no group: put parentheses round what names the patient, or "
            "(?P<group>...)."
        )
    part = "group" if "group" in compiled.groupindex else 1

    def group_of(path: str) -> str | None:
        match = compiled.search(PurePosixPath(path).name)
        return printable(match[part]) if match and match[part] else None

    return group_of


def _what_is_there(root: Place, wanted: Iterable[str]) -> str:
    folder = _Folder.read(root)
    if not folder.folders and not folder.files:
        return f"the folder {root} is empty."
    suffixes: Counter[str] = Counter()
    for path in _files_below(root, "."):
        suffixes[PurePosixPath(path).suffix.lower() or "no suffix"] += 1
    kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in suffixes.most_common(4)) or "no files"
    parts = [f"{root} holds {_some([f'{name}/' for name in folder.folders] + folder.files)} ({kinds} in all)"]
    one_class = [one.labels for one in (_read_flat(folder), _read_class_folders(folder)) if one and one.labels]
    if one_class and len(one_class[0]) == 1:
        parts.append(f"with images of one class only, {_listed(one_class[0])}")
    elif splits := folder.split_folders():
        parts.append(
            f"where {_listed(splits.values())} is taken for a split, for a class only with data.layout=class_folders"
        )
    return f"{', '.join(parts)}, which fits no layout: looked for {', '.join(wanted)} with two or more classes."


def _nothing_found(data: DataConfig, root: Place, problem: str) -> DataError:
    lines = [f"No images for data={data.name}: {problem}", "", "Place them like this:", ""]
    lines += [f"  {line}" for line in _TREES.format(root=_short(root)).splitlines()]
    lines += ["", f"where {_short(root)} is {root}, or any folder given as data.root=PATH."]
    if data.homepage:
        lines.append(f"Get them from {data.homepage}")
    if data.archive_url or data.kaggle:
        source = data.archive_url or f"Kaggle's {data.kaggle} (needs an account and `pip install raylight[download]`)"
        lines.append(f"or let data.download=true fetch {source}")
    target = (
        f"data={data.name} data.root={root}"
        if data.homepage or data.kind == "demo"
        else f"data=folder data.root={root}"
    )
    lines.append(f"Check what you have with: python train.py {target} trainer=debug")
    return DataError("\n".join(lines))


def _several_found(root: Place, fitting: list[_Found]) -> DataError:
    lines = [f"{root} can be read in {len(fitting)} ways:"]
    lines += [
        f"  data.root={one.root} data.layout={one.layout}: {len(one.files):,} images, {_classes(one.labels)}"
        for one in fitting
    ]
    return DataError("\n".join([*lines, "Say which is meant by giving data.root and data.layout."]))


def _short(root: Place) -> str:
    if isinstance(root, RemotePath):
        return str(root)
    try:
        return root.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return root.name


def _classes(labels: Iterable[str]) -> str:
    labels = sorted(labels)
    return f"{len(labels)} class{'es' if len(labels) != 1 else ''} ({_some(labels)})" if labels else "no classes"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))


def _some(names: list[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return f"{shown}, ... ({len(names):,} in all)" if len(names) > most else shown


def _is_utf8(name: str) -> bool:
    return printable(name) == name
