"""Which files there are, and what their places say of them: class, group, shipped split.

Nothing is opened here. Layouts: ``root/{train,val,test}/{class}/``, ``root/{class}/`` (PetImages too), Kaggle's flat
``cat.0.jpg``, and a CSV table.
"""

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from raylight.config.schema import DataConfig
from raylight.errors import DataError

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .bmp .gif .tif .tiff .webp .ppm .pgm .pbm .pnm .avif .jp2 .tga .ico".split()
)
"""Endings of files that are taken for images, lower case; what they really are is seen when they are read."""

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""Folder names that are a split, lower case."""

_FLAT = re.compile(r"^(?P<label>[A-Za-z][\w-]*?)[._-]\d+\.\w+$")


@dataclass(frozen=True)
class SourceFile:
    """An image file and what is known of it unopened.

    Attributes:
        path: relative to the root, with forward slashes.
        label: its class.
        group: the patient (or object) that it shows; None when nobody says.
        split: ``train``, ``val`` or ``test`` where the data set ships a split.
    """

    path: str
    label: str
    group: str | None
    split: str | None


@dataclass(frozen=True)
class Source:
    """A data set, unopened.

    Attributes:
        root: its folder.
        layout: which layout was recognised.
        class_names: in alphabetical order.
        positive_class: the class that recall, AUROC and so on speak of.
        files: in the order of their paths.
        ignored: files that aren't images by their names, like ``Thumbs.db``.
    """

    root: Path
    layout: str
    class_names: tuple[str, ...]
    positive_class: str
    files: tuple[SourceFile, ...]
    ignored: tuple[str, ...]


def find_images(data: DataConfig, cache_dir: Path) -> Source:
    """Find a data set's files, drawing or downloading it first where the config says so.

    Args:
        data: where and what.
        cache_dir: where the demo data is drawn.

    Raises:
        DataError: there is no such folder, no known layout, or fewer than two classes.
    """
    root = _root(data, cache_dir)
    images, ignored = _walk(root)
    readers = {"csv": _from_csv, "split_folders": _from_split_folders, "class_folders": _from_class_folders, "flat": _flat}
    layout = data.layout if data.layout != "auto" else _recognise(data, images)
    files = [] if layout is None else list(readers[layout](data, root, images))
    class_names = tuple(sorted({file.label for file in files}))
    if layout is None or len(class_names) < 2:
        raise DataError(_unrecognised(data, root, images, class_names))
    _refuse_twins(class_names, root)
    return Source(
        root, layout, class_names, _positive_class(data, class_names), tuple(sorted(files, key=lambda f: f.path)), ignored
    )


def dataset_root(data: DataConfig, cache_dir: Path) -> Path:
    """The folder that a config means, whether or not it is there."""
    if data.root is not None:
        return Path(data.root).expanduser()
    if data.kind == "demo":
        from raylight.data.demo import demo_root

        return demo_root(cache_dir)
    return Path("datasets") / data.name


def missing_data(data: DataConfig, root: Path) -> str:
    """What to do when a data set isn't there."""
    lines = [f"There are no images of data={data.name}: {root} is not a folder."]
    if data.homepage:
        lines.append(f"Get them from {data.homepage}")
    if data.archive_url or data.kaggle:
        lines.append("or let Raylight fetch them with data.download=true,")
    lines += [
        "place them as one folder a class, with or without a folder a split above:",
        f"  {root}/train/CLASS/*.jpg, {root}/test/CLASS/*.jpg      or      {root}/CLASS/*.jpg",
        f"and check them with: raylight audit data={data.name} data.root={root}",
    ]
    return "\n".join(lines)


def _root(data: DataConfig, cache_dir: Path) -> Path:
    root = dataset_root(data, cache_dir)
    if root.is_dir():
        return root.resolve()
    if data.kind == "demo":
        from raylight.data.demo import draw_demo

        draw_demo(root)
        return root.resolve()
    if data.download:
        from raylight.data.download import download

        download(data, root)
        return root.resolve()
    raise DataError(missing_data(data, root))


def _walk(root: Path) -> tuple[list[PurePosixPath], tuple[str, ...]]:
    """All files below a folder; links to folders above them are not followed a second time."""
    images: list[PurePosixPath] = []
    ignored: list[str] = []

    def visit(folder: Path, ancestors: frozenset[Path]) -> None:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"The folder {folder} can't be read ({error.strerror}).") from error
        for entry in entries:
            if entry.is_dir():
                real = Path(entry.path).resolve()
                if real not in ancestors and not entry.name.startswith("."):
                    visit(Path(entry.path), ancestors | {real})
                continue
            relative = Path(entry.path).relative_to(root).as_posix()
            if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith("."):
                images.append(PurePosixPath(relative))
            else:
                ignored.append(relative)

    visit(root, frozenset({root.resolve()}))
    return images, tuple(ignored)


def _recognise(data: DataConfig, images: list[PurePosixPath]) -> str | None:
    if data.csv is not None:
        return "csv"
    nested = [path for path in images if len(path.parts) > 1]
    splits = [path for path in nested if path.parts[0].lower() in SPLIT_NAMES and len(path.parts) > 2]
    if splits and len(splits) == len(nested):
        return "split_folders"
    flat = [path for path in images if _FLAT.match(path.name)]
    outside = [path for path in nested if path.parts[0].lower() in SPLIT_NAMES and len(path.parts) == 2]
    if flat and len(outside) == len(nested) and (len({_FLAT.match(p.name)["label"] for p in flat}) > 1):  # type: ignore[index]
        return "flat"
    if nested and not splits:
        return "class_folders"
    return None


def _from_split_folders(data: DataConfig, root: Path, images: list[PurePosixPath]) -> Iterator[SourceFile]:
    for path in images:
        if len(path.parts) > 2 and path.parts[0].lower() in SPLIT_NAMES:
            yield _file(data, path, path.parts[1], SPLIT_NAMES[path.parts[0].lower()])


def _from_class_folders(data: DataConfig, root: Path, images: list[PurePosixPath]) -> Iterator[SourceFile]:
    tops = {path.parts[0] for path in images if len(path.parts) > 1}
    # An archive like PetImages has one folder around the classes.
    depth = 1 if len(tops) == 1 and all(len(path.parts) > 2 for path in images if len(path.parts) > 1) else 0
    for path in images:
        if len(path.parts) > depth + 1:
            yield _file(data, path, path.parts[depth], None)


def _flat(data: DataConfig, root: Path, images: list[PurePosixPath]) -> Iterator[SourceFile]:
    """Kaggle's ``train/cat.0.jpg``; its ``test1/1.jpg`` says no class and is left aside."""
    for path in images:
        match = _FLAT.match(path.name)
        if match:
            yield _file(data, path, match["label"], None)


def _from_csv(data: DataConfig, root: Path, images: list[PurePosixPath]) -> Iterator[SourceFile]:
    assert data.csv is not None
    with Path(data.csv).expanduser().open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = {"path", "label"} - set(reader.fieldnames or ())
        if missing:
            raise DataError(
                f"{data.csv} has no column {' and no column '.join(sorted(missing))}; it needs path and label, "
                f"and may have group and split. It has: {', '.join(reader.fieldnames or ())}."
            )
        for number, row in enumerate(reader, start=2):
            split = (row.get("split") or "").lower()
            if split and split not in SPLIT_NAMES:
                raise DataError(f"{data.csv}, line {number}: split {row['split']!r} is not train, val or test.")
            path = PurePosixPath(row["path"])
            if path.is_absolute() or ".." in path.parts:
                raise DataError(f"{data.csv}, line {number}: {row['path']!r} leads out of data.root={root}.")
            group = row.get("group") or _group(data, path.name)
            yield SourceFile(str(path), row["label"], group, SPLIT_NAMES.get(split))


def _file(data: DataConfig, path: PurePosixPath, label: str, split: str | None) -> SourceFile:
    return SourceFile(str(path), label, _group(data, path.name), split)


def _group(data: DataConfig, name: str) -> str | None:
    if data.group_pattern is None:
        return None
    match = re.search(data.group_pattern, name)
    if match is None:
        return None
    named = match.groupdict().get("group")
    return named or next((part for part in match.groups() if part), match[0])


def _positive_class(data: DataConfig, class_names: tuple[str, ...]) -> str:
    if data.positive_class is None:
        return class_names[-1]
    for name in class_names:
        if name.lower() == data.positive_class.lower():
            return name
    raise DataError(
        f"data.positive_class: there is no class {data.positive_class!r}; the classes are {', '.join(class_names)}."
    )


def _refuse_twins(class_names: tuple[str, ...], root: Path) -> None:
    lower: dict[str, str] = {}
    for name in class_names:
        twin = lower.setdefault(name.lower(), name)
        if twin != name:
            raise DataError(f"The classes {twin!r} and {name!r} in {root} differ in case alone; rename one of them.")


def _unrecognised(data: DataConfig, root: Path, images: list[PurePosixPath], class_names: tuple[str, ...]) -> str:
    found = f"{len(images)} image files" + (f" of the class {class_names[0]!r} alone" if class_names else "")
    examples = f", for example {', '.join(str(path) for path in images[:3])}" if images else ""
    return (
        f"{root} is not laid out as two or more classes: it has {found}{examples}.\n"
        "Expected one of: ROOT/CLASS/*.jpg; ROOT/{train,val,test}/CLASS/*.jpg; ROOT/CLASS.NUMBER.jpg; or a table "
        "(data.csv=FILE with the columns path and label).\n"
        f"Check it with: raylight audit {root}"
    )
