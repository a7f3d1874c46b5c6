"""Files and folders of a data set's root that aren't used, and why: told by kind and class, so that none is lost unseen."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from raylight.data.names import same_name

_PICTURES = frozenset(
    (
        *(".heic", ".heif", ".jxl", ".psd", ".svg", ".tga", ".ico", ".exr", ".pdf", ".mp4", ".mov"),
        *(".dcm", ".dicom", ".nii", ".gz", ".npy", ".npz", ".mat", ".zip", ".tar"),
        *(".raw", ".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2"),
    )
)
"""Endings of what probably holds pictures, in a form that isn't read."""


@dataclass(frozen=True)
class PassedOver:
    """A file or folder that isn't used.

    Attributes:
        path: relative to the root; a folder's ends with ``/``.
        reason: why, in words that all of its kind share.
        label: the class that it would belong to, where its place says so.
        telling: whether there are probably pictures in it, or there should be.
    """

    path: str
    reason: str
    label: str | None = None
    telling: bool = False


@dataclass(frozen=True)
class Kind:
    """What is passed over of one class for one reason.

    Attributes:
        reason: why.
        label: the class, or None.
        paths: in their order.
        class_is_lost: whether nothing is left of that class.
        telling: see ``PassedOver``.
    """

    reason: str
    label: str | None
    paths: tuple[str, ...]
    class_is_lost: bool
    telling: bool

    @property
    def sentence(self) -> str:
        """What is passed over, how often and why; for people."""
        many = len(self.paths) > 1
        what = ("folder" if self.paths[0].endswith("/") else "file") + "s" * many
        of_class = f" of the class {self.label!r}" if self.label is not None and not self.class_is_lost else ""
        lost = f"There is no class {self.label!r}, since no image of it is left: " if self.class_is_lost else ""
        return f"{lost}{len(self.paths):,} {what}{of_class} passed over, such as {self.paths[0]!r}: {self.reason}."


def kinds_passed_over(items: Iterable[PassedOver], class_names: Sequence[str]) -> list[Kind]:
    """What is passed over, by reason and class; what may have been meant first.

    Args:
        items: files and folders.
        class_names: of the classes that have images.
    """
    kept = {same_name(name) for name in class_names}
    sets: dict[tuple[str, str | None], list[PassedOver]] = {}
    for item in items:
        sets.setdefault((item.reason, item.label), []).append(item)
    kinds = [
        Kind(
            reason,
            label,
            tuple(one.path for one in some),
            label is not None and same_name(label) not in kept,
            any(one.telling for one in some),
        )
        for (reason, label), some in sets.items()
    ]
    return sorted(kinds, key=lambda kind: (not kind.class_is_lost, not kind.telling))


def not_an_image(path: str, label: str | None = None) -> PassedOver:
    """A file that isn't taken for an image because of how its name ends."""
    suffix = PurePosixPath(path).suffix.lower()
    ending, query, _ = suffix.partition("?")
    if not suffix or suffix == ".":
        return PassedOver(path, "the name has no ending that says what is inside (.jpg, .png, ...)", label, True)
    if query:
        return PassedOver(
            path, f"the name doesn't end with {ending} but with what came after ? in an address", label, True
        )
    remedy = "; convert them to JPEG or PNG" if suffix in _PICTURES else ""
    return PassedOver(path, f"{suffix} isn't an image format that is read{remedy}", label, suffix in _PICTURES)
