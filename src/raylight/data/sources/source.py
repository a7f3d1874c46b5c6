"""Finding the files of a data set: layout, classes, shipped splits and groups.

Looks at names only; no file is opened except a CSV table of labels. The root is a folder, or a URI such as
``s3://bucket/photos``. Layouts, from the root down:

    {train,val,test}/{class}/...      split_folders; also valid, validation, training, testing, ...
    {class}/...                       class_folders; PetImages is one
    cat.0.jpg, dog.0.jpg, ...         flat, as in Kaggle's "Dogs vs. Cats", in the root or in train/
    a table path,label[,group,split]  csv

If only one folder below the root fits a layout, that folder is the root. Hidden entries and ``__MACOSX`` are skipped; circular
links aren't followed; files without a label are listed in ``Source.ignored``. A root that fits no layout, or several, is an
error.

Not here: whether the files can be used (``index``), downloading them (``download``).
"""

import json
import os
import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from omegaconf import OmegaConf

from raylight.config.schema import DataConfig
from raylight.config.uris import is_uri
from raylight.data.names import describe_classes, is_missing, is_utf8, normalized_name, printable, quoted
from raylight.data.packed.protocol import COLUMNS, checked_rows
from raylight.data.sources.csv_table import read_csv
from raylight.data.sources.demo import demo_root, draw_demo
from raylight.data.sources.ignored import IgnoredEntry
from raylight.data.sources.layouts import DEEPEST_ROOT, LAYOUTS, LayoutMatch, SourceFile, find_layouts
from raylight.data.sources.not_found import ambiguous_root_message, describe_contents, not_found_message
from raylight.errors import DataError, first_line, nearest
from raylight.storage.packed import SourcePath
from raylight.storage.remote import AnyPath, to_path


@dataclass(frozen=True)
class Source:
    """The files of a data set.

    Attributes:
        root: folder that paths are relative to.
        layout: how the files were found: one of ``LAYOUTS``, or ``source``.
        class_names: in alphabetical order.
        positive_class: the class that recall, AUROC and others refer to.
        files: sorted by path.
        ignored: files and folders that aren't images or have no label.
    """

    root: AnyPath
    layout: str
    class_names: tuple[str, ...]
    positive_class: str
    files: tuple[SourceFile, ...]
    ignored: tuple[IgnoredEntry, ...]


def find_images(
    data: DataConfig, cache_dir: Path, *, groups_needed: bool = True, known_classes: Collection[str] = ()
) -> Source:
    """Finds the images of a data set; draws the demo, or downloads a missing data set if the config says so.

    Args:
        data: data set, root and layout.
        cache_dir: where the demo is drawn.
        groups_needed: whether a ``data.group_pattern`` that matches no file is an error.
        known_classes: names of the classes of a trained model; one of them is enough, else two classes are needed.

    Returns:
        The files, with their labels, groups and splits.

    Raises:
        DataError: the folder is missing or empty, or fits no layout or several; there are too few classes, or their names
            differ only in spelling; or a setting is invalid. The message says what was searched for, what was found, and
            what to do.
    """
    if data.source is not None:
        return _completed(_from_source(data, {normalized_name(name) for name in known_classes}), data, groups_needed)
    root = _root(data, cache_dir)
    if data.kind == "demo" and isinstance(root, Path):
        try:
            draw_demo(root)
        except OSError as error:
            raise DataError(
                f"The demo images can't be drawn in {root}: {error.strerror}. Choose another data.root."
            ) from error
    elif data.download and isinstance(root, Path) and not (root.is_dir() and any(root.iterdir())):
        from raylight.data.sources.download import download

        download(data, root)
    if not root.is_dir():
        problem = "is a file" if root.exists() else "doesn't exist"
        raise DataError(not_found_message(data, root, f"the folder {root} {problem}."))
    return _completed(_find(data, root, {normalized_name(name) for name in known_classes}), data, groups_needed)


def _from_source(data: DataConfig, known: Collection[str]) -> LayoutMatch:
    """The images of an ``ImageSource``, which the config names in ``data.source``."""
    node: Any = OmegaConf.to_container(data.source) if OmegaConf.is_config(data.source) else data.source
    root, target = SourcePath.of(node), str(node["_target_"])
    source = root.source()
    try:
        table = source.entries()
    except DataError:
        raise
    except Exception as error:  # a user's code may fail in any way
        raise DataError(f"data.source: {target}.entries(): {type(error).__name__}: {first_line(error)}") from error
    files = []
    for row in checked_rows(table, target):
        metadata = {name: value for name, value in row.items() if name not in COLUMNS and not is_missing(value)}
        group = None if is_missing(row.get("group")) else printable(str(row["group"]))
        text = json.dumps(metadata, default=str) if metadata else None
        files.append(SourceFile(row["key"], row["label"], group, row["split"], text))
    root.remember(table)
    match = LayoutMatch(root, "source", files, [])
    if not match.is_data_set(known):
        raise DataError(
            f"{target} has {len(files):,} images and {describe_classes(match.labels)}; two or more are needed."
        )
    return match


def _completed(match: LayoutMatch, data: DataConfig, groups_needed: bool) -> Source:
    files = sorted(match.files, key=lambda file: os.fsencode(file.path))
    class_names = _class_names(match)
    if data.group_pattern is not None:
        files = _grouped(files, data.group_pattern, groups_needed)
    return Source(
        root=match.root,
        layout=match.layout,
        class_names=class_names,
        positive_class=_positive_class(data, class_names),
        files=tuple(files),
        ignored=tuple(sorted(match.ignored, key=lambda entry: os.fsencode(entry.path))),
    )


def _root(data: DataConfig, cache_dir: Path) -> AnyPath:
    if data.root is not None and is_uri(data.root):
        return to_path(data.root)
    if data.kind not in ("demo", "folder"):
        raise DataError(f"data.kind={data.kind}: expected demo or folder")
    if data.root is not None:
        return Path(os.path.abspath(Path(data.root).expanduser()))  # noqa: PTH100 - resolve() would follow links
    if data.kind == "demo":
        return demo_root(cache_dir)
    return Path.cwd() / "datasets" / data.name


def _find(data: DataConfig, root: AnyPath, known: Collection[str]) -> LayoutMatch:
    if data.layout not in ("auto", *LAYOUTS):
        raise DataError(f"data.layout={data.layout}: expected auto, {', '.join(LAYOUTS)}")
    if data.layout == "csv" and data.csv is None:
        raise DataError(
            "data.layout=csv needs data.csv=TABLE with the columns path, label and optionally group, split."
        )
    if data.csv is not None:
        if data.layout not in ("auto", "csv"):
            raise DataError(f"data.csv={data.csv} contradicts data.layout={data.layout}: drop one of them.")
        return read_csv(data.csv, root, known)
    wanted = LAYOUTS[:3] if data.layout == "auto" else (data.layout,)
    matches = find_layouts(root, wanted, DEEPEST_ROOT, known)
    if not matches:
        raise DataError(not_found_message(data, root, describe_contents(root, wanted)))
    if len(matches) > 1:
        raise DataError(ambiguous_root_message(root, matches))
    return matches[0]


def _class_names(match: LayoutMatch) -> tuple[str, ...]:
    names = sorted(match.labels)
    by_key: dict[str, str] = {}
    for name in names:
        if not is_utf8(name):
            raise DataError(f"{match.root}: the class {os.fsencode(name)!r} isn't valid UTF-8; rename its folder.")
        if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name):
            raise DataError(f"{match.root}: the class {name!r} holds control characters; rename its folder.")
        key = normalized_name(name)
        if key in by_key:
            raise DataError(
                f"{match.root}: the classes {by_key[key]!r} and {name!r} differ only in spelling. Merge them, or rename one."
            )
        by_key[key] = name
    return tuple(names)


def _positive_class(data: DataConfig, class_names: tuple[str, ...]) -> str:
    if data.positive_class is None:
        return class_names[-1]
    by_key = {normalized_name(name): name for name in class_names}
    wanted = normalized_name(data.positive_class)
    if wanted in by_key:
        return by_key[wanted]
    near = nearest(wanted, by_key)
    hint = f" Did you mean {by_key[near]}?" if near else ""
    raise DataError(f"data.positive_class={data.positive_class}: the classes are {quoted(class_names)}.{hint}")


def _grouped(files: list[SourceFile], pattern: str, needed: bool) -> list[SourceFile]:
    """Sets the group of each file from its name; from its path if the pattern matches no file's name."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"data.group_pattern={pattern!r} isn't a regular expression: {error}") from error
    if not compiled.groups:
        raise DataError(
            f"data.group_pattern={pattern!r} has no group: put parentheses around the patient's name, or "
            "(?P<group>...)."
        )
    part = "group" if "group" in compiled.groupindex else 1

    def groups(texts: Iterable[str]) -> list[str | None]:
        matches = map(compiled.search, texts)
        return [printable(match[part]) if match and match[part] else None for match in matches]

    found = groups(PurePosixPath(file.path).name for file in files)
    if not any(found):
        found = groups(file.path for file in files)
    if needed and not any(found):
        raise DataError(
            f"data.group_pattern={pattern!r} matches none of the {len(files):,} files, neither by name nor by path, such as "
            f"{files[0].path!r}. Images of one patient could be in both train and test: correct the pattern, or, if each "
            "image is of a different patient, leave it out with data.group_pattern=null."
        )
    return [file if file.group else replace(file, group=group) for file, group in zip(files, found, strict=True)]


def describe_groups(groups: Collection[str | None], data: DataConfig) -> str | None:
    """Describes how many files have a patient, and how many patients there are.

    Args:
        groups: of each file; ``None`` where it has none.
        data: the settings that may have given them.

    Returns:
        A sentence without a full stop; ``None`` if the data set has no groups.
    """
    named = [group for group in groups if group is not None]
    if data.group_pattern is None and not named:
        return None
    given = (data.group_pattern, "data.group_pattern"), (data.csv, "the table"), (data.source, "the source")
    by = next((name for setting, name in given if setting is not None), "the metadata of DICOM files")
    rest = len(groups) - len(named)
    others = f"; each of the other {rest:,} counts as a patient of its own" if rest else ""
    return (
        f"{by} names the patient (or object) of {len(named):,} of {len(groups):,} files: "
        f"{len(set(named)):,} patients{others}"
    )
