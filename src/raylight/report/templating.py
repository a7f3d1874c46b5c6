"""Where pages come from: a room's templates, in which a missing fact is an error and text is escaped."""

from typing import TYPE_CHECKING

from raylight.installation import TRAIN

if TYPE_CHECKING:
    from jinja2 import Environment


def page_templates(room: str, *, escape: bool = True) -> "Environment":
    """The templates in a room's folder ``templates``.

    Args:
        room: package that holds them, such as ``raylight.report``.
        escape: turn characters that mean something in HTML into text; False for what isn't HTML.
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
