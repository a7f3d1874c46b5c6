"""The checks of a data set's files that need no statistics, as findings of an audit.

Covers unusable and odd files, copies, label conflicts, patients on both sides of a split, and class balance. All of
it comes from the index, which has decoded every file once, strictly; nothing is decoded again. Leaves out how well metadata
predicts the label (``metadata``, ``metadata_baseline``) and the page (``page``).
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Bool, Int64

from raylight.auditing.findings import Finding, class_counts
from raylight.data.index import Index
from raylight.data.sources.ignored import group_ignored
from raylight.data.splits.duplicates import duplicate_groups
from raylight.data.splits.leakage import PATIENT_PATTERN, patients_in_names

SETS_LISTED = 200
"""Maximum number of sets of files that a finding lists; ``count`` is the number of all."""

TINY = 32
"""Pixels. An image with a shorter side is mostly an icon or a thumbnail."""

HUGE = 50_000_000
"""Pixels. More than cameras and scanners make; decoding one takes half a second."""

IMBALANCE = 10
"""How many times larger the largest class may be than the smallest before accuracy alone misleads."""

FEW = 5
"""Test images of a class below which its recall is too uncertain."""

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k"),
    "AVIF": (".avif",),
}
"""File extensions of each format."""

_FORMAT_OF = {suffix: name for name, suffixes in SUFFIXES.items() for suffix in suffixes}
_WIDE_GREY = (
    "warning",
    "16 bits per pixel; scaled from each image's own range of values to 8 bits, so its absolute brightness is lost",
)
_HANDLING = {
    "CMYK": ("warning", "CMYK (for print); turned into RGB without a colour profile, so colours may differ"),
    "I": _WIDE_GREY,
    "I;16": _WIDE_GREY,
    "I;16B": _WIDE_GREY,
    "RGBA": ("note", "partly transparent; laid on white"),
    "LA": ("note", "partly transparent; laid on white"),
    "PA": ("note", "partly transparent; laid on white"),
    "1": ("note", "black and white without grey; read as grey"),
}


def audit_files(index: Index) -> tuple[Finding, ...]:
    """Run all checks on an index.

    Args:
        index: all files, with thumbnails; ``split`` as shipped or as cut.
    """
    return (
        *_conflicts_and_copies(index),
        *_patients(index),
        *_balance(index),
        *_odd_files(index),
        *_ignored_files(index),
    )


def _sets(members: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(part) for part in members[:SETS_LISTED])


def _each(paths: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    return _sets([(path,) for path in paths])


def _files(count: int) -> str:
    return f"{count:,} file{'s' if count != 1 else ''}"


def _odd_files(index: Index) -> Iterator[Finding]:
    paths, good = index.column("path"), index.column("status") == "ok"
    size, kind, digest = index.column("bytes"), index.column("format"), index.column("sha256")
    unread = np.array([sha is None for sha in digest], dtype=bool)
    empty = ~good & ~unread & (size == 0)
    no_image = ~good & ~unread & ~empty & np.array([name is None for name in kind], dtype=bool)
    for name, which, title, words in (
        ("unreadable", ~good & unread, "Files that can't be read", "that can't be opened (permissions, links, names)"),
        ("empty", empty, "Empty files", "of 0 bytes"),
        ("not_an_image", no_image, "Not images", "named like an image but of no accepted format"),
        (
            "damaged",
            ~good & ~unread & ~empty & ~no_image,
            "Damaged images",
            "cut off or damaged, or of a kind that can't be used",
        ),
    ):
        if which.any():
            them = "it" if which.sum() == 1 else "them"
            sentence = f"{_files(int(which.sum()))} {words}. Left out of training and test; repair or remove {them}."
            yield Finding(name, "warning", title, sentence, int(which.sum()), _each(paths[which]))
    yield from _odd_pictures(index, good)
    noted: dict[str, list[str]] = {}
    for path, words in index.notes():
        noted.setdefault(words, []).append(path)
    for words, some in noted.items():
        yield Finding("odd", "warning", "Odd files", f"{_files(len(some))}: {words}.", len(some), _each(some))


def _ignored_files(index: Index) -> Iterator[Finding]:
    for kind in group_ignored(index.ignored, index.class_names):
        severity = (
            "problem" if kind.class_is_empty and kind.likely_images else "warning" if kind.likely_images else "note"
        )
        title = "A class without images" if kind.class_is_empty else "Files that aren't used"
        yield Finding("ignored", severity, title, kind.sentence, len(kind.paths), _each(kind.paths))


def _odd_pictures(index: Index, good: Bool[np.ndarray, " file"]) -> Iterator[Finding]:
    paths = index.column("path")
    expected = [_FORMAT_OF.get(PurePosixPath(path).suffix.lower()) for path in paths]
    kinds = index.column("format")
    wrong = good & np.array(
        [want is not None and want != kind for want, kind in zip(expected, kinds, strict=True)], dtype=bool
    )
    if wrong.any():
        pairs = {(PurePosixPath(p).suffix, kind) for p, kind in zip(paths[wrong], kinds[wrong], strict=True)}
        found = ", ".join(f"{suffix} with {kind}" for suffix, kind in sorted(pairs))
        yield Finding(
            "wrong_extension",
            "warning",
            "Extensions that don't match the content",
            f"{_files(int(wrong.sum()))} of another format than their extension ({found}). Raylight goes by the "
            "content; other programs may not.",
            int(wrong.sum()),
            _each(paths[wrong]),
        )
    modes = index.column("mode")
    for mode, (severity, words) in _HANDLING.items():
        which = good & (modes == mode)
        if which.any():
            title, count = f"Pixel format {mode}", int(which.sum())
            yield Finding("odd_mode", severity, title, f"{_files(count)}: {words}.", count, _each(paths[which]))
    shorter = np.minimum(_numbers(index, "width"), _numbers(index, "height"))
    area = _numbers(index, "width") * _numbers(index, "height")
    blank = good & (index.grey_levels[1] < 1) if len(index.thumbnails) else good & False
    for name, which, title, words in (
        ("tiny", good & (shorter < TINY), "Tiny images", f"with a side shorter than {TINY} pixels"),
        ("huge", good & (area > HUGE), "Huge images", f"of more than {HUGE / 1e6:.0f} megapixels, slow to decode"),
        ("blank", blank, "Blank pictures", "of a single colour, from which nothing can be learnt"),
    ):
        if which.any():
            sentence = f"{_files(int(which.sum()))} {words}. Do they belong here?"
            yield Finding(name, "warning", title, sentence, int(which.sum()), _each(paths[which]))


def _numbers(index: Index, name: str) -> Int64[np.ndarray, " file"]:
    return np.array([value or 0 for value in index.table.column(name).to_pylist()], dtype=np.int64)


def _conflicts_and_copies(index: Index) -> Iterator[Finding]:
    usable = index.usable()
    if not len(usable):
        return
    paths, digests = usable.column("path"), usable.column("sha256")
    labels, splits = usable.column("label"), usable.column("split")
    alike = _members(duplicate_groups(usable))

    def named(sets: Sequence[Sequence[int]]) -> tuple[tuple[str, ...], ...]:
        return _sets([[str(paths[i]) for i in part] for part in sets])

    conflicts = [part for part in alike if len({labels[i] for i in part}) > 1]
    if conflicts:
        yield Finding(
            "label_conflicts",
            "problem",
            "The same picture under different labels",
            f"{len(conflicts)} picture{'s' * (len(conflicts) > 1)} {'is' if len(conflicts) == 1 else 'are'} in more than one "
            "class. At least one of the labels is wrong; decide which, and remove the others.",
            len(conflicts),
            named(conflicts),
        )
    crossing = [part for part in alike if len({splits[i] for i in part} - {None}) > 1]
    if crossing:
        yield Finding(
            "duplicates_across_splits",
            "problem",
            "The same picture on both sides of a split",
            f"{len(crossing)} picture{'s' * (len(crossing) > 1)} {'is' if len(crossing) == 1 else 'are'} in more than one of "
            f"{_splits(splits)}. A network that has memorised such a picture gets it right in the test; metrics "
            "without them are reported, too (test_unshared).",
            len(crossing),
            named(crossing),
        )
    within = [part for part in alike if part not in conflicts and part not in crossing]
    exact = [part for part in within if len({digests[i] for i in part}) == 1]
    near = [part for part in within if part not in exact]
    for name, sets, title, words in (
        ("duplicates", exact, "Identical files", "the same bytes"),
        ("near_duplicates", near, "Nearly the same picture", "the same picture, re-encoded, resized or republished"),
    ):
        if sets:
            files = sum(map(len, sets))
            yield Finding(
                name,
                "warning",
                title,
                f"{files} files are {len(sets)} picture{'s' * (len(sets) > 1)}: {words}. Splits made by Raylight keep "
                "them on one side; they still count more than once.",
                len(sets),
                named(sets),
            )


def _members(numbers: Int64[np.ndarray, " file"]) -> list[list[int]]:
    """Positions that share a number, in sets of two or more."""
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    return sorted(part.tolist() for part in np.split(order, starts[1:]) if len(part) > 1)


def _splits(splits: Iterable[str | None]) -> str:
    present = set(splits)
    named = [name for name in ("train", "val", "test") if name in present]
    return f"{', '.join(named[:-1])} and {named[-1]}" if len(named) > 1 else "".join(named)


def _patients(index: Index) -> Iterator[Finding]:
    usable = index.usable()
    paths, splits = list(usable.column("path")), list(usable.column("split"))
    groups: list[str | None] = list(usable.column("group"))
    known = any(group is not None for group in groups)
    if not known:
        groups = patients_in_names(paths)
    sets: dict[str, list[int]] = {}
    for position, group in enumerate(groups):
        if group is not None:
            sets.setdefault(str(group), []).append(position)
    several = [part for part in sets.values() if len(part) > 1]
    if not several:
        return

    def named(parts: Sequence[Sequence[int]]) -> tuple[tuple[str, ...], ...]:
        return _sets([[str(paths[i]) for i in part] for part in parts])

    crossing = [part for part in several if len({splits[i] for i in part} - {None}) > 1]
    remedy = "" if known else f" Their names suggest it; if that is right, set data.group_pattern={PATIENT_PATTERN!r}."
    if crossing:
        subject = f"{len(crossing)} patients (or objects) are" if len(crossing) > 1 else "1 patient (or object) is"
        title = "the same patient on both sides of a split"
        yield Finding(
            "groups_across_splits",
            "problem" if known else "warning",
            title.capitalize() if known else f"Possibly {title}",
            f"{subject} in more than one of {_splits(splits)}. A network can recognise the patient instead of the disease; "
            f"metrics without them are reported, too (test_unshared).{remedy}",
            len(crossing),
            named(crossing),
        )
    tested = [part for part in ([i for i in part if splits[i] == "test"] for part in several) if len(part) > 1]
    of_test = (
        f" {sum(map(len, tested))} of the test images show {len(tested)} of them, and carry less information than as many "
        "independent images."
        if tested
        else ""
    )
    yield Finding(
        "series",
        "note" if known else "warning",
        "Several images of one patient" if known else "Possibly several images of one patient",
        f"{sum(map(len, several))} images show only {'1 patient' if len(several) == 1 else f'{len(several)} patients'} (or "
        f"objects), up to {max(map(len, several))} images each.{of_test}"
        + (" Splits made by Raylight keep them on one side." if known else remedy),
        len(several),
        named(several),
    )


def _balance(index: Index) -> Iterator[Finding]:
    counts = class_counts(index)
    totals = {name: sum(row.values()) for name, row in counts.items()}
    least, most = min(totals, key=lambda name: totals[name]), max(totals, key=lambda name: totals[name])
    if totals[most] > IMBALANCE * max(totals[least], 1):
        yield Finding(
            "imbalance",
            "warning",
            "Classes of very different size",
            f"{most} has {totals[most]:,} images, {least} {totals[least]:,}. Accuracy is misleading here: use balanced "
            "accuracy, and consider loss=balanced.",
        )
    tested = {name: row["test"] for name, row in counts.items() if "test" in row}
    few = [f"{name} ({count})" for name, count in tested.items() if count < FEW]
    if few:
        yield Finding(
            "few_test_images",
            "note",
            "Few test images of a class",
            f"Fewer than {FEW} test images of {', '.join(few[:6])}{', ...' if len(few) > 6 else ''}: metrics "
            "of so few images are very uncertain.",
            len(few),
        )
    yield from _shift_of_balance(counts)


def _shift_of_balance(counts: dict[str, dict[str, int]]) -> Iterator[Finding]:
    """Test whether train and test have different class proportions, beyond chance (chi-squared)."""
    from scipy.stats import chi2_contingency

    table = np.array([[row.get("train", 0), row.get("test", 0)] for row in counts.values()])
    table = table[table.sum(axis=1) > 0]
    if len(table) < 2 or not table.sum(axis=0).all() or chi2_contingency(table).pvalue >= 0.001:
        return
    shares = table / table.sum(axis=0)
    names = [name for name, row in counts.items() if row.get("train", 0) + row.get("test", 0)]
    widest = int(np.abs(shares[:, 0] - shares[:, 1]).argmax())
    yield Finding(
        "balance_shift",
        "warning",
        "Train and test have different class proportions",
        f"{names[widest]} is {shares[widest, 0]:.0%} of train and {shares[widest, 1]:.0%} of test, more than chance would "
        "explain: they were sampled differently, and accuracy, precision and probabilities don't transfer.",
    )
