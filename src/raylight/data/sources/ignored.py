"""Files and folders of a data set's root that aren't used, and why; grouped by reason and class for reports."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from raylight.data.names import normalized_name

_UNSUPPORTED = frozenset(
    (
        *(".jxl", ".psd", ".svg", ".tga", ".ico", ".exr", ".pdf", ".mp4", ".mov"),
        *(".nii", ".gz", ".npy", ".npz", ".mat", ".zip", ".tar"),
        *(".raw", ".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2"),
    )
)
"""Suffixes of files that probably hold images, in a format that isn't supported."""


@dataclass(frozen=True)
class IgnoredEntry:
    """A file or folder that isn't used.

    Attributes:
        path: relative to the root; ends with ``/`` for a folder.
        reason: why; entries ignored for the same reason have the same text.
        label: the class that it would belong to, by its path, or ``None``.
        likely_images: whether it probably holds images, or should.
    """

    path: str
    reason: str
    label: str | None = None
    likely_images: bool = False


@dataclass(frozen=True)
class IgnoredGroup:
    """Entries of one class that are ignored for the same reason.

    Attributes:
        reason: why.
        label: the class, or ``None``.
        paths: of the entries.
        class_is_empty: whether no image of the class is left.
        likely_images: whether one of them probably holds images.
    """

    reason: str
    label: str | None
    paths: tuple[str, ...]
    class_is_empty: bool
    likely_images: bool

    @property
    def sentence(self) -> str:
        """What is ignored, how many of it, and why, for reports."""
        many = len(self.paths) > 1
        what = ("folder" if self.paths[0].endswith("/") else "file") + "s" * many
        of_class = f" of the class {self.label!r}" if self.label is not None and not self.class_is_empty else ""
        lost = f"There is no class {self.label!r}, since no image of it is left: " if self.class_is_empty else ""
        return f"{lost}{len(self.paths):,} {what}{of_class} ignored, such as {self.paths[0]!r}: {self.reason}."


def group_ignored(items: Iterable[IgnoredEntry], class_names: Sequence[str]) -> list[IgnoredGroup]:
    """Groups ignored entries by reason and class.

    Args:
        items: files and folders.
        class_names: of the classes that have images.

    Returns:
        Groups; first those that leave a class empty, then those that probably hold images.
    """
    kept = {normalized_name(name) for name in class_names}
    sets: dict[tuple[str, str | None], list[IgnoredEntry]] = {}
    for item in items:
        sets.setdefault((item.reason, item.label), []).append(item)
    kinds = [
        IgnoredGroup(
            reason,
            label,
            tuple(one.path for one in some),
            label is not None and normalized_name(label) not in kept,
            any(one.likely_images for one in some),
        )
        for (reason, label), some in sets.items()
    ]
    return sorted(kinds, key=lambda kind: (not kind.class_is_empty, not kind.likely_images))


def not_an_image(path: str, label: str | None = None) -> IgnoredEntry:
    """The entry of a file that isn't read as an image because of its suffix.

    Args:
        path: relative to the root.
        label: the class that it would belong to, or ``None``.

    Returns:
        The entry, with a reason that names the suffix.

    Example:
        >>> not_an_image("cat/photo.psd").reason
        ".psd isn't a supported image format; convert them to JPEG or PNG"
    """
    suffix = PurePosixPath(path).suffix.lower()
    ending, query, _ = suffix.partition("?")
    if not suffix or suffix == ".":
        return IgnoredEntry(path, "the name has no suffix (.jpg, .png, ...)", label, True)
    if query:
        return IgnoredEntry(path, f"the name ends with the query of a URL, not with {ending}", label, True)
    remedy = "; convert them to JPEG or PNG" if suffix in _UNSUPPORTED else ""
    return IgnoredEntry(path, f"{suffix} isn't a supported image format{remedy}", label, suffix in _UNSUPPORTED)
