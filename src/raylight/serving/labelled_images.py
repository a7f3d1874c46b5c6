"""Labelled images to evaluate a run on: its own test images, or any folder, table or URI with its classes.

Images of the run's training and validation are left out, by content and, while the run's own images are still there, also
as other files of the same picture.
"""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from raylight.config.schema import DataConfig
from raylight.config.uris import is_uri
from raylight.data.names import normalized_name, single_line
from raylight.data.scan.memory import Files, Reading, scan_files
from raylight.data.sources.ignored import group_ignored
from raylight.data.sources.layouts import SourceFile
from raylight.data.sources.source import find_images
from raylight.data.splits.duplicates import near_duplicates
from raylight.errors import ConfigError, DataError, nearest
from raylight.machine import usable_cpus
from raylight.serving.predictor import Predictor, UnusableRunError, read_index
from raylight.storage.remote import AnyPath

COPIES = 5
"""Maximum number of copies of training images that are listed."""


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Labelled files to evaluate a run on.

    Attributes:
        root: folder that paths are relative to.
        paths: the files.
        labels: position of each file's class in the run's ``class_names``.
        groups: patient of each file; ``None`` if unknown.
        digests: SHA-256 that each file should have; ``None`` takes whatever is there.
        notes: what was selected and left out, a sentence each.
        metadata: further columns of the data for each file, as JSON.
    """

    root: AnyPath
    paths: tuple[str, ...]
    labels: Int64[np.ndarray, " file"]
    groups: tuple[str | None, ...]
    digests: tuple[str, ...] | None
    notes: tuple[str, ...]
    metadata: tuple[str | None, ...]


def own_test_images(predictor: Predictor) -> LabelledImages:
    """The run's own test images, in their folder at training.

    Raises:
        UnusableRunError: the run has no test images.
        DataError: their folder is missing.
    """
    index = predictor.test_images()
    if not len(index):
        raise UnusableRunError(f"{predictor.run.path} has no test images of its own; name some with --data FOLDER.")
    if not index.root.is_dir():
        raise DataError(
            f"The run's test images are no longer in {index.root}. If they have moved, name their new folder with "
            "--data FOLDER; images that the run trained on are then left out by their content."
        )
    return LabelledImages(
        root=index.root,
        paths=tuple(index.column("path")),
        labels=index.targets(),
        groups=tuple(index.column("group")),
        digests=tuple(index.column("sha256")),
        notes=(),
        metadata=tuple(index.column("metadata")),
    )


def foreign_images(predictor: Predictor, data: str, classes: Mapping[str, str]) -> LabelledImages:
    """The images of a folder, table or URI with the run's classes, without the run's training and validation images.

    Args:
        predictor: of the run.
        data: a folder in any layout that training knows, a CSV with the columns path and label, or a URI of either.
        classes: the run's class by the name that the data uses.

    Raises:
        ConfigError: ``classes`` names a class that the run doesn't have.
        DataError: no such data, other classes, or no new images.
    """
    for name in classes.values():
        if normalized_name(name) not in {normalized_name(own) for own in predictor.class_names}:
            raise ConfigError([f"--classes: the run has no class {name!r}; it has {', '.join(predictor.class_names)}"])
    root, _, table = data.rpartition("/") if data.lower().endswith(".csv") else (data, "", "")
    if not is_uri(data):
        root = str(Path(root or ("." if table else data)).expanduser().resolve())
        if not Path(root, table).exists():
            raise DataError(
                f"--data: there is no folder or table {data}. Expected a folder with one folder per class, a CSV with the "
                "columns path and label, or the URI of either (s3://bucket/photos)."
            )
    config = DataConfig(
        name="folder",
        root=root,
        csv=table or None,
        group_pattern=predictor.config.data.group_pattern,
        kind="folder",
    )
    known = (*predictor.class_names, *classes)
    try:
        source = find_images(config, Path(predictor.config.cache_dir), groups_needed=False, known_classes=known)
    except DataError as error:
        raise DataError(f"--data: {_without_settings(error)}") from error
    position = _class_positions(predictor.class_names, source.class_names, data, classes)
    shipped = [file for file in source.files if file.split == "test"]
    files: Sequence[SourceFile] = shipped or source.files
    notes = [
        f"It ships a test split: only its {len(files)} images are used."
        if shipped
        else f"It ships no test split: all {len(files)} images are used."
    ]
    if len(absent := _absent(predictor.class_names, {position[file.label] for file in files})):
        notes.append(
            f"There are no images of {', '.join(absent)}: metrics that need all classes aren't defined, and accuracy is "
            "that on the other classes."
        )
    notes += [kind.sentence for kind in group_ignored(source.ignored, source.class_names)]
    learnt = _learnt_from(predictor, [source.root / file.path for file in files])
    if learnt.all():
        raise DataError(
            f"All {len(files)} images in {data} are training or validation images of the run; none is left to evaluate on."
        )
    if learnt.any():
        notes.append(f"{learnt.sum()} of them are left out as training or validation images of the run.")
        files = [file for file, known in zip(files, learnt, strict=True) if not known]
    files, note = _without_copies(predictor, source.root, files)
    notes += [note] if note else []
    if not files:
        raise DataError(
            f"All images in {data} are copies of training or validation images of the run; none is left to evaluate on."
        )
    return LabelledImages(
        root=source.root,
        paths=tuple(file.path for file in files),
        labels=np.array([position[file.label] for file in files], dtype=np.int64),
        groups=tuple(file.group for file in files),
        digests=None,
        notes=tuple(notes),
        metadata=tuple(file.metadata for file in files),
    )


def parse_classes(text: str) -> dict[str, str]:
    """Parse ``--classes cats=cat,dogs=dog``: the run's class for each of the data's.

    Raises:
        ConfigError: the text has another form.
    """
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not pairs or any(not theirs.strip() or not own.strip() for theirs, _, own in pairs):
        raise ConfigError([f"--classes: {text!r} isn't THEIRS=OWN,..., such as cats=cat,dogs=dog"])
    return {theirs.strip(): own.strip() for theirs, _, own in pairs}


def _class_positions(
    own: Sequence[str], others: Sequence[str], data: str, classes: Mapping[str, str]
) -> dict[str, int]:
    """The run's class number of each of the data's classes, by name, ignoring case and Unicode form."""
    positions = {normalized_name(name): position for position, name in enumerate(own)}
    mapped = {normalized_name(theirs): normalized_name(ours) for theirs, ours in classes.items()}
    found = {name: mapped.get(normalized_name(name), normalized_name(name)) for name in others}
    extra = [name for name in others if found[name] not in positions]
    if not extra:
        return {name: positions[found[name]] for name in others}
    missing = [name for name in own if normalized_name(name) not in found.values()]
    proposed = {name: near for name in extra if (near := _alike(name, missing or own))}
    remedy = (
        f"If {' and '.join(f'{theirs} is {ours}' for theirs, ours in proposed.items())}: "
        f"--classes {','.join(f'{theirs}={ours}' for theirs, ours in proposed.items())}."
        if proposed
        else f"Say which is which with --classes {extra[0]}={(missing or own)[0]}, or remove the other images."
    )
    raise DataError(
        f"--data: {data} has {', '.join(extra)}, which the run doesn't have"
        + (f", and no {', '.join(missing)}" if missing else "")
        + f"; the run's classes are {', '.join(own)}. {remedy}"
    )


def _alike(name: str, candidates: Sequence[str]) -> str | None:
    """The class that a name probably means: another number, spacing, punctuation or spelling."""

    def core(text: str) -> str:
        letters = "".join(one for one in normalized_name(text) if one.isalnum())
        return (
            letters.removesuffix("es")
            if letters.endswith(("ses", "xes", "ches", "shes"))
            else letters.removesuffix("s")
        )

    by_core = {core(candidate): candidate for candidate in candidates}
    near = core(name) if core(name) in by_core else nearest(core(name), by_core)
    return by_core[near] if near else None


def _absent(own: Sequence[str], present: set[int]) -> list[str]:
    return [name for position, name in enumerate(own) if position not in present]


def _without_settings(error: DataError) -> str:
    """The first paragraph of training's message, whose advice on settings doesn't apply here."""
    return str(error).partition("\n\n")[0].removeprefix("No images for data=folder: ")


def _without_copies(
    predictor: Predictor, root: AnyPath, files: Sequence[SourceFile]
) -> tuple[list[SourceFile], str | None]:
    """Leave out copies of the run's training and validation images; returns the other files and a note."""
    index = read_index(predictor.run)
    learnt = index.select(np.isin(index.column("split"), ("train", "val")) & (index.column("status") == "ok"))
    if not index.root.is_dir():
        return list(files), (
            f"The run's own images are no longer in {index.root}: other copies of its training images "
            "aren't looked for."
        )
    own, new = [str(path) for path in learnt.column("path")], [file.path for file in files]
    with tempfile.TemporaryDirectory() as folder:
        parts = [
            scan_files(Files(where, kind, paths), Path(folder), Reading(usable_cpus())).thumbnails.copy()
            for where, kind, paths in ((index.root, "own", own), (root, "new", new))
        ]
    copies: dict[int, str] = {}
    for pair in near_duplicates(np.concatenate(parts)):  # a copy of a copy comes after it
        original = own[pair.first] if pair.first < len(own) else copies.get(pair.first - len(own))
        if original is not None and pair.second >= len(own):
            copies[pair.second - len(own)] = original
    if not copies:
        return list(files), None
    shown = [f"{single_line(new[at])} (as {single_line(original)})" for at, original in sorted(copies.items())[:COPIES]]
    more = f" and {len(copies) - COPIES} more" if len(copies) > COPIES else ""
    kept = [file for at, file in enumerate(files) if at not in copies]
    return (
        kept,
        f"{len(copies)} are left out as copies of its training or validation images: {', '.join(shown)}{more}.",
    )


def _learnt_from(predictor: Predictor, paths: Sequence[AnyPath]) -> Bool[np.ndarray, " file"]:
    """Which files have the content of a training or validation image of the run.

    Files are read only if their size is that of such an image.
    """
    index = read_index(predictor.run)
    seen = [index.in_split(split) for split in ("train", "val")]
    sizes = {int(size) for part in seen for size in part.column("bytes")}
    digests = {str(digest) for part in seen for digest in part.column("sha256")}

    def known(path: AnyPath) -> bool:
        try:
            return path.stat().st_size in sizes and hashlib.sha256(path.read_bytes()).hexdigest() in digests
        except OSError:
            return False  # the decoder reports why it can't be read

    with ThreadPoolExecutor(usable_cpus()) as pool:
        return np.fromiter(pool.map(known, paths), dtype=bool, count=len(paths))
