"""Templates of pages: missing values are errors, and text is escaped."""

from functools import cache
from typing import TYPE_CHECKING

from raylight.installation import TRAIN

if TYPE_CHECKING:
    from jinja2 import Environment


@cache  # a sweep renders the same templates for each job: they are compiled once
def page_templates(room: str, *, escape: bool = True) -> "Environment":
    """Load the templates in a package's folder ``templates``.

    Args:
        room: the package, such as ``raylight.report``.
        escape: escape text for HTML; False for other formats.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader(room),
        autoescape=escape,  # noqa: S701 - only what isn't HTML goes without, and escapes by its own rules
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals["TRAIN"] = TRAIN
    return templates
