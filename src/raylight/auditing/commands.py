"""``raylight audit``: what is wrong with a data set, or what a run's network relies on.

The target is a folder of images, an option of ``conf/data`` (``data=xray``), or a run folder. Leaves out the checks
themselves (``dataset``, ``shortcuts``).
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from raylight.config.quoting import quoted
from raylight.config.schema import DataConfig, RunConfig
from raylight.errors import ConfigError
from raylight.machine import usable_cpus
from raylight.runs.run_dir import STATUS_FILE

if TYPE_CHECKING:
    from raylight.auditing.dataset import Audit

CLEAN, FINDINGS, UNUSABLE = 0, 1, 2

WITHOUT_TRAINING = ("augment=none",)
"""Settings that a config of data alone leaves out, since checking them would import all of torchvision."""


def audit_target(target: str, overrides: Sequence[str], out: Path | None) -> int:
    """Audit a data set or a run, whichever the user named.

    Args:
        target: a folder of images, ``data=NAME``, or a run folder.
        overrides: settings of the data, such as ``data.root=PATH``.
        out: folder for ``audit.json`` and ``audit.html``; for a run, its own folder is taken.

    Returns:
        0 clean, 1 findings, 2 too many files are unusable.

    Raises:
        RaylightError: there is nothing to audit, or a setting is wrong.
    """
    if (Path(target) / STATUS_FILE).is_file():
        if overrides:
            raise ConfigError([f"{overrides[0]}: a run is audited as it was trained; it takes no settings"])
        from raylight.auditing.run import audit_run

        return audit_run(Path(target), out)
    config = settings(target, overrides)
    return audit_data(config.data, Path(config.cache_dir).expanduser(), out)


def audit_data(data: DataConfig, cache_dir: Path, out: Path | None) -> int:
    """Audit a data set: index new files, print the findings, write the page.

    Args:
        data: which images.
        cache_dir: where indexes and audits are cached.
        out: folder for ``audit.json`` and ``audit.html``; None prints only.

    Returns:
        0 clean, 1 findings, 2 more than ``data.max_bad_fraction`` of the files are unusable.

    Raises:
        DataError: there are no images.
    """
    from raylight.auditing.dataset import audit_index, audit_lines
    from raylight.auditing.page import write_audit
    from raylight.data.index import build_index, check_bad_fraction
    from raylight.data.sources.source import describe_groups, find_images
    from raylight.errors import DataError
    from raylight.runs.console import progress_bar

    source = find_images(data, cache_dir)
    done = 0
    with progress_bar("reading", "auto") as on_progress:

        def more(files: int) -> None:
            nonlocal done
            done += files
            on_progress(done, len(source.files))

        index = build_index(source, cache_dir, usable_cpus(), more)
    if (line := describe_groups(index.column("group"), data)) is not None:
        sys.stdout.write(f"{line}\n")
    audit = audit_index(index, data.name, cache_dir, workers=usable_cpus())
    for line in audit_lines(audit):
        sys.stdout.write(f"{line}\n")
    if out is not None:
        for path in write_audit(audit, index, out).values():
            sys.stdout.write(f"{path}\n")
    try:
        check_bad_fraction(index, data)
    except DataError as error:
        sys.stderr.write(f"{error}\n")
        return UNUSABLE
    return CLEAN if audit.clean else FINDINGS


def audit_of(target: str, overrides: Sequence[str]) -> "Audit":
    """Audit a data set without printing.

    Args:
        target: a folder of images, or ``data=NAME``.
        overrides: settings of the data, such as ``data.root=PATH``.

    Raises:
        RaylightError: there are no images, or a setting is wrong.
    """
    from raylight.auditing.dataset import audit_index
    from raylight.data.index import build_index
    from raylight.data.sources.source import find_images

    config = settings(target, overrides)
    cache_dir = Path(config.cache_dir).expanduser()
    index = build_index(find_images(config.data, cache_dir), cache_dir, usable_cpus())
    return audit_index(index, config.data.name, cache_dir, workers=usable_cpus())


def audit_labels(target: str, overrides: Sequence[str], out: Path | None) -> int:
    """List the labels of a data set that are probably wrong.

    Args:
        target: the folder of a cross-validation's sweep, a folder of images, or ``data=NAME``.
        overrides: settings of the data, such as ``data.root=PATH``.
        out: folder for ``label_errors.csv`` and ``label_errors.html``; None prints only.

    Returns:
        0 if none is suspect, 1 otherwise.

    Raises:
        RaylightError: there are no images, too few of a class, or no out-of-fold predictions.
    """
    from raylight.auditing.labels import labels_of_data, labels_of_sweep, report_labels
    from raylight.runs.sweep_dir import run_folders

    if Path(target).is_dir() and run_folders(Path(target)):
        return report_labels(labels_of_sweep([Path(target)]), out)
    from raylight.data.index import build_index
    from raylight.data.sources.ignored import group_ignored
    from raylight.data.sources.source import find_images

    config = settings(target, overrides)
    cache_dir = Path(config.cache_dir).expanduser()
    index = build_index(find_images(config.data, cache_dir), cache_dir, usable_cpus())
    for kind in group_ignored(index.ignored, index.class_names):
        sys.stderr.write(f"{kind.sentence}\n")
    return report_labels(labels_of_data(index, config.data.name), out)


def settings(target: str, overrides: Sequence[str]) -> RunConfig:
    """Compose the settings of a run on the data that the user named.

    Raises:
        ConfigError: there is no such folder, option or setting; all mistakes are listed.
    """
    from raylight.config.check import load_config
    from raylight.config.launch import composed

    name, is_option, _ = target.partition("=")
    if Path(target).expanduser().is_dir():
        is_option = ""
    if not is_option and not Path(target).expanduser().is_dir():
        raise ConfigError(
            [f"{target}: there is no such folder; expected a folder of images, a run folder, or data=NAME"]
        )
    if is_option and name != "data":
        raise ConfigError([f"{target}: expected data=NAME, a folder of images, or a run folder"])
    foreign = [text for text in overrides if not text.startswith(("data.", "cache_dir="))]
    if foreign:
        raise ConfigError([f"{text}: an audit takes settings of the data only (data.NAME=VALUE)" for text in foreign])
    folder = Path(target).expanduser()
    chosen = [target] if is_option else ["data=folder", f"data.root={quoted(str(folder.resolve()))}"]
    config = load_config(composed([*chosen, *overrides, *WITHOUT_TRAINING])[0])
    if not is_option and config.data.name == "folder":
        return replace(config, data=replace(config.data, name=folder.resolve().name))
    return config
