"""A data set of the Hugging Face Hub, through its library ``datasets`` (extra ``hub``).

Its splits are kept, and the names of its labels become the classes. Images are read as encoded bytes; the library never decodes
them. Downloads are kept where ``HF_HOME`` says, for all programs that use the library; with ``HF_HUB_OFFLINE=1``, or without a
connection, they are used as they are. Private data sets need ``HF_TOKEN`` in the environment. See
https://huggingface.co/docs/datasets/loading.
"""

import contextlib
import logging
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from raylight.data.names import SPLITS
from raylight.data.packed.rows import ColumnNames, Columns, Part, entries_of, locate
from raylight.errors import DataError, did_you_mean, first_line
from raylight.installation import install_command

_NAME = re.compile(r"[^\W_][\w.-]*(/[^\W_][\w.-]*)?", re.ASCII)
_LOCK = threading.Lock()

log = logging.getLogger("raylight")


@dataclass
class Hub:
    """The images of a data set of the Hub.

    Attributes:
        name: ``USER/NAME``, as on its page.
        config: name of its configuration, if it has several.
        revision: branch, tag or commit; ``None`` takes the newest.
        image: name of the column with images; ``None`` takes the only one.
        label: name of the column with labels; ``None`` takes ``label``, ``labels``, ``class`` or ``target``, else the only one
            whose numbers have names.
        group: name of the column with patients or objects, if there is one.
        splits: names of the splits to use, or a mapping from their names to train, val and test; ``None`` takes all.
    """

    name: str | None = None
    config: str | None = None
    revision: str | None = None
    image: str | None = None
    label: str | None = None
    group: str | None = None
    splits: Sequence[str] | Mapping[str, str] | None = None
    _datasets: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def entries(self) -> pa.Table:
        """See ``ImageSource``; the key of an image consists of its split, its row, and its original name."""
        datasets = self._loaded()
        uses = self._uses(list(datasets))
        tables = []
        for name, use in uses.items():
            location = f"{self._location}, split {name}"
            columns = self._columns(datasets[name], location)
            others = [other for other in uses if other != name]
            remedy = (
                f"leave this split out with data.source.splits=[{','.join(others)}]" if others else "labels are needed"
            )
            part = Part(name, use, _modified(datasets[name]), location, remedy)
            tables.append(entries_of(datasets[name].data.table, columns, part))
        return pa.concat_tables(tables, promote_options="permissive")

    def read(self, key: str) -> bytes:
        """See ``ImageSource``."""
        name, row = locate(key)
        dataset = self._loaded()[name]
        cell = dataset.data.column(self._columns(dataset, self._location).image)[row].as_py()
        content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        if content is not None:
            return bytes(content)
        if path is None:
            raise OSError(0, "the row has no image")
        return _downloaded(Path(path))

    @property
    def _location(self) -> str:
        return f"data.source.name={self.name}"

    def _columns(self, dataset: Any, location: str) -> Columns:
        return ColumnNames(self.image, self.label, self.group).find(dataset.features.arrow_schema, location)

    def _uses(self, names: Sequence[str]) -> dict[str, str | None]:
        """The use of each wanted split: train, val, test, or ``None`` if the names don't tell; then Raylight splits."""
        wanted = names if self.splits is None else self.splits
        for name in wanted:
            if name not in names:
                hint = did_you_mean(name, names)
                raise DataError(f"{self._location}: there is no split {name!r}{hint}; its splits: {', '.join(names)}")
        given = wanted if isinstance(wanted, Mapping) else {name: name for name in wanted}
        uses = {name: SPLITS.get(str(use).casefold()) for name, use in given.items()}
        unknown = [name for name, use in uses.items() if use is None]
        if unknown and (len(unknown) < len(uses) or isinstance(wanted, Mapping)):
            example = ",".join(f"{name}:{use or 'train'}" for name, use in uses.items())
            raise DataError(
                f"{self._location}: it isn't clear whether the split {unknown[0]!r} is for train, val or test. Give the use "
                f"of each split that you want, such as 'data.source.splits={{{example}}}'"
            )
        return uses

    def _loaded(self) -> dict[str, Any]:
        """The data set's splits by name; loaded once per process."""
        with _LOCK:
            if not self._datasets:
                self._datasets = self._load()
            return self._datasets

    def _load(self) -> dict[str, Any]:
        if self.name is None or not _NAME.fullmatch(self.name):
            problem = "not set" if self.name is None else f"{self.name!r} is no name of a data set"
            raise DataError(
                f"data.source.name: {problem}; expected USER/NAME, as on the data set's page on the Hugging Face Hub. For "
                "files of this machine use data=parquet data.root=FOLDER or data=folder data.root=FOLDER"
            )
        try:
            import datasets
        except ImportError as error:
            raise DataError(
                f"{self._location}: the library datasets, which reads from the Hugging Face Hub, can't be imported "
                f"({first_line(error)}). Install it with: {install_command('hub')}"
            ) from error
        try:
            with _without_hidden_bars(datasets):
                # With the scheme, a local folder of the same name isn't taken for the data set.
                path = f"hf://datasets/{self.name}"
                builder = datasets.load_dataset_builder(path, name=self.config, revision=self.revision)
                self._check_revision(builder)
                builder.download_and_prepare()
                loaded = builder.as_dataset()
        except DataError:
            raise
        except Exception as error:  # the library, the network and the disk can fail in many ways
            raise DataError(f"{self._location}: {_explained(error)}") from error
        if self.revision is None:
            log.info("%s: revision %s (pin it with data.source.revision=%s)", self.name, builder.hash, builder.hash)
        return dict(loaded)

    def _check_revision(self, builder: Any) -> None:
        """Refuses another revision than the wanted one: without a connection, the library takes the newest download."""
        from_cache = type(builder).__module__.endswith(".cache.cache")
        if from_cache and self.revision not in (None, builder.hash):
            raise DataError(
                f"{self._location}: data.source.revision={self.revision} can't be looked up, since the Hub can't be reached. "
                f"Downloaded is {builder.hash}: use data.source.revision={builder.hash}, or connect"
            )


def _explained(error: Exception) -> str:
    """The library's message, and a remedy."""
    said = first_line(error).rstrip(".")
    if isinstance(error, ConnectionError):
        return (
            f"{said}, and it hasn't been downloaded before. Check the name and the connection; or load it on a machine with "
            "one, and copy the folder of its downloads (HF_HOME, by default ~/.cache/huggingface) to this one"
        )
    if isinstance(error, ValueError) and "config" in str(error).casefold():
        said = " ".join(re.split(r"Example of usage|Please specify", str(error))[0].split()).rstrip(".")
        return f"{said}. Choose one with data.source.config=NAME"
    if type(error).__name__ == "DatasetNotFoundError":
        return f"{said}. https://huggingface.co/datasets lists the names; private data sets need HF_TOKEN in the environment"
    return f"{type(error).__name__}: {said}"


def _modified(dataset: Any) -> int:
    """Time of the last change of a data set's files, in nanoseconds since 1970."""
    return max((Path(file["filename"]).stat().st_mtime_ns for file in dataset.cache_files), default=0)


def _downloaded(path: Path) -> bytes:
    """The content of a downloaded file. Data sets can contain any path, so files elsewhere on this machine are refused."""
    from datasets.config import HF_DATASETS_CACHE
    from huggingface_hub.constants import HF_HUB_CACHE

    resolved = path.resolve()
    folders = [Path(folder).expanduser().resolve() for folder in (HF_DATASETS_CACHE, HF_HUB_CACHE)]
    if not any(resolved.is_relative_to(folder) for folder in folders):
        raise OSError(0, f"the data set refers to a file that isn't part of it, {path}")
    return resolved.read_bytes()


@contextlib.contextmanager
def _without_hidden_bars(datasets: Any) -> Iterator[None]:
    """Turns the library's progress bars off where there is no terminal to show them."""
    off = not sys.stderr.isatty() and not datasets.are_progress_bars_disabled()
    if off:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if off:
            datasets.enable_progress_bars()
