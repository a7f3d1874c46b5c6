"""Error messages for a folder with no data set, or several: what was searched for, what is there, what can be done."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from raylight.config.command_line import shell_setting
from raylight.config.schema import DataConfig
from raylight.data.names import describe_classes, quoted, shortened
from raylight.data.sources.layouts import LayoutMatch, read_class_folders, read_flat
from raylight.data.sources.listing import Folder, files_below
from raylight.installation import TRAIN, install_command
from raylight.storage.remote import AnyPath

_TREES = """\
{root}/
├── train/                       {root}/                 {root}/
│   ├── NORMAL/     *.jpeg       ├── cat/    *.jpg       ├── cat.0.jpg
│   └── PNEUMONIA/  *.jpeg  or   └── dog/    *.jpg  or   ├── cat.1.jpg
└── test/                                                ├── dog.0.jpg
    ├── NORMAL/     *.jpeg                               └── ...
    └── PNEUMONIA/  *.jpeg"""


_PACKED = (".parquet", ".tar")
"""Files with many images each, which have a kind of source named after them."""


def describe_contents(root: AnyPath, wanted: Iterable[str]) -> str:
    """Describes the contents of a folder that fits none of the layouts.

    Args:
        root: the folder.
        wanted: layouts that were tried.

    Returns:
        A sentence.
    """
    folder = Folder.read(root)
    if not folder.folders and not folder.files:
        return f"the folder {root} is empty."
    suffixes: Counter[str] = Counter()
    for path in files_below(root, "."):
        suffixes[PurePosixPath(path).suffix.lower() or "no suffix"] += 1
    kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in suffixes.most_common(4)) or "no files"
    parts = [f"{root} holds {shortened([f'{name}/' for name in folder.folders] + folder.files)} ({kinds} in all)"]
    labels = [match.labels for match in (read_flat(folder), read_class_folders(folder)) if match and match.labels]
    if labels and len(labels[0]) == 1:
        parts.append(f"with images of one class only, {quoted(labels[0])}")
    elif splits := folder.split_folders():
        parts.append(
            f"where {quoted(splits.values())} counts as a split, and as a class only with data.layout=class_folders"
        )
    packed = [f" Files named *{suffix} are read with data={suffix[1:]}." for suffix in _PACKED if suffix in suffixes]
    return (
        f"{', '.join(parts)}, which fits no layout: looked for {', '.join(wanted)} with two or more classes."
        f"{''.join(packed)}"
    )


def not_found_message(data: DataConfig, root: AnyPath, problem: str) -> str:
    """Explains where to put a missing data set.

    Args:
        data: the settings of the data set.
        root: the folder where it should be.
        problem: what is wrong with that folder, a sentence.

    Returns:
        A text of several lines.
    """
    lines = [f"No images for data={data.name}: {problem}", "", "Arrange them like this:", ""]
    lines += [f"  {line}" for line in _TREES.format(root=_short(root)).splitlines()]
    lines += ["", f"where {_short(root)} is {root}, or any folder given as data.root=PATH."]
    if data.homepage:
        lines.append(f"Get them from {data.homepage}")
    if data.archive_url or data.kaggle:
        source = (
            data.archive_url
            or f"Kaggle's {data.kaggle} (needs an account and kagglehub: {install_command('download')})"
        )
        lines.append(f"or let data.download=true fetch {source}")
    setting = shell_setting("data.root", str(root))
    target = f"data={data.name} {setting}" if data.homepage or data.kind == "demo" else f"data=folder {setting}"
    lines.append(f"Check what you have with: {TRAIN} {target} trainer=debug")
    return "\n".join(lines)


def ambiguous_root_message(root: AnyPath, matches: list[LayoutMatch]) -> str:
    """Names the settings that choose one of several layouts.

    Args:
        root: the folder.
        matches: layouts that fit it, or folders below it.

    Returns:
        A text with a line per layout.
    """
    lines = [f"{root} can be read in {len(matches)} ways:"]
    lines += [
        f"  {shell_setting('data.root', str(match.root))} data.layout={match.layout}: {len(match.files):,} images, "
        f"{describe_classes(match.labels)}"
        for match in matches
    ]
    return "\n".join([*lines, "Choose one by giving data.root and data.layout."])


def _short(root: AnyPath) -> str:
    if not isinstance(root, Path):
        return root.name or str(root)
    try:
        return root.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return root.name
