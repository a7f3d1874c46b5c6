"""Making the paths of a config absolute, so that a run can be resumed or repeated from any folder."""

import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from raylight.config.quoting import escaped
from raylight.config.uris import is_uri

_PLAIN_PATHS = ("data.root", "model.weights", "cache_dir", "finetune.cache_dir")


def with_absolute_paths(config: DictConfig, start: Path) -> DictConfig:
    """Makes all paths of a config absolute; URIs stay as they are.

    Args:
        config: composed by Hydra.
        start: the folder that paths are relative to: the working folder of the command, before ``hydra.job.chdir``.

    Returns:
        A changed copy. Values that can't be resolved are left to the check.
    """
    found = {key: _text_at(config, key) for key in (*_PLAIN_PATHS, "data.csv", "data.kind", "data.name")}
    if found["model.weights"] == "DEFAULT":
        found["model.weights"] = None
    if found["data.root"] is None and found["data.kind"] == "folder" and found["data.name"]:
        found["data.root"] = default_root(found["data.name"])
    absolute = {
        key: str(absolute_path(text, start)) for key in _PLAIN_PATHS if (text := found[key]) and not is_uri(text)
    }
    if (table := found["data.csv"]) and not is_uri(table):
        here = absolute_path(table, start)
        root = absolute.get("data.root")
        beside = absolute_path(table, Path(root)) if root else None
        if here.is_file() or beside is not None:
            absolute["data.csv"] = str(
                beside if beside is not None and not here.is_file() and beside.is_file() else here
            )
    changed = config.copy()
    for key, path in absolute.items():
        OmegaConf.update(changed, key, escaped(path))
    return changed


def absolute_path(text: str, start: Path) -> Path:
    """Makes a path absolute without resolving links.

    Args:
        text: the path; may begin with ``~``.
        start: the folder that it is relative to.

    Returns:
        The absolute path.

    Example:
        >>> absolute_path("../films", Path("/data/photos"))
        PosixPath('/data/films')
    """
    return Path(os.path.abspath(start / Path(text).expanduser()))  # noqa: PTH100 - resolve() would follow links


def default_root(name: str) -> str:
    """The folder of a data set if ``data.root`` isn't set."""
    return f"datasets/{name}"


def _text_at(config: DictConfig, key: str) -> str | None:
    value = OmegaConf.select(config, key, throw_on_resolution_failure=False)
    return None if value is None else str(value)
