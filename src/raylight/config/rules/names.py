"""Names of folders, and of W&B's projects, tags and artifacts, each with its own restrictions.

A name that the user chose and that can't be used is an error; one that is composed of several is adapted.
"""

import hashlib
import os
import re
from collections.abc import Iterator

from raylight.config.schema import RunConfig

_LONGEST_TAG = 64
_LONGEST_NAME = 128
_NOT_IN_PROJECTS = "/\\#?%:"
_MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")
"""W&B's own limits: ``wandb_settings.Settings``, ``artifacts/_validators.py``."""


def folder_name(name: str, limit: int = 100) -> str:
    """Adapts a name to be a single part of a path.

    Args:
        name: any text.
        limit: maximum number of characters.

    Returns:
        The name without characters that have a meaning in paths.

    Example:
        >>> folder_name("../../x"), folder_name("hf-hub:timm/vit")
        ('.._.._x', 'hf-hub_timm_vit')
    """
    return re.sub(r'[/\\:*?"<>|\x00-\x1f]', "_", name)[:limit] or "_"


def fitting_tag(name: str) -> str:
    """Adapts a name to be a W&B tag, of 1 to 64 characters."""
    return name if 0 < len(name) <= _LONGEST_TAG else f"{name[: _LONGEST_TAG - 7]}-{_digest(name)}"


def artifact_name(name: str) -> str:
    """Adapts a name to be that of a W&B artifact: at most 128 letters, digits, dashes, underscores and dots.

    Args:
        name: any text.

    Returns:
        The name; if it had to be changed, with a digest of the original, so that different names stay different.

    Example:
        >>> artifact_name("split-demo"), artifact_name("split-my cats")
        ('split-demo', 'split-my-cats-e16e33')
    """
    fitting = re.sub(r"[^a-zA-Z0-9_.-]+", "-", name)
    if fitting == name and len(name) <= _LONGEST_NAME:
        return name
    return f"{fitting[: _LONGEST_NAME - 7].strip('-')}-{_digest(name)}"


def name_problems(run: RunConfig) -> Iterator[str]:
    """Yields the problems of the names in a config."""
    if not run.data.name.strip():
        yield "data.name: empty; it names the run folder, tables and dashboards"
    if set(run.data.name) & {"/", "\\", "\0"}:
        yield (
            f"data.name: {run.data.name!r} looks like a path; it is a name, and data.root is the folder (data.source.name the "
            "data set of the Hugging Face Hub)"
        )
    if run.logger.name != "wandb":
        return
    project, tags = run.logger.project, run.logger.tags
    if not 0 < len(project) <= _LONGEST_NAME or set(project) & set(_NOT_IN_PROJECTS):
        yield (
            f"logger.project: W&B refuses {project!r}; a project's name has 1 to {_LONGEST_NAME} characters and none of "
            f"{' '.join(_NOT_IN_PROJECTS)}"
        )
    for tag in tags:
        if not 0 < len(str(tag)) <= _LONGEST_TAG:
            yield f"logger.tags: W&B refuses {tag!r}; a tag has 1 to {_LONGEST_TAG} characters, this one {len(str(tag))}"
    for name, value in (("logger.group", run.logger.group), ("logger.entity", run.logger.entity)):
        if value is not None and not 0 < len(value) <= _LONGEST_NAME:
            yield f"{name}: W&B refuses {value!r}; it has 1 to {_LONGEST_NAME} characters"
    mode = os.environ.get("WANDB_MODE") or run.logger.mode
    if mode not in _MODES:
        yield f"WANDB_MODE: {mode!r} in the environment is not one of {', '.join(_MODES[:3])}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:6]
