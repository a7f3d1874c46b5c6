"""Reading the files of a data set on the cores of a Ray cluster: facts, thumbnails and pixels in one pass, as threads do.

Workers that can reach the file of the pixels write to it directly. Not here: passing files through Ray Data
(``decode.with_ray``), reading one file (``scan.files``).
"""

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from raylight.data.cache_files import PixelFile
from raylight.data.decode.blocks import Destination, Engine
from raylight.data.decode.spec import DecodeSpec
from raylight.data.decode.with_ray import Output, RayWork, parts_of, through_ray
from raylight.data.scan.files import ScannedFile, scan_file
from raylight.machine import keep_freed_memory
from raylight.storage.remote import AnyPath, to_path

_NAMES = ("utf-8", "surrogatepass")
"""Encodes every name that Python gives a file, valid or not."""


def scan_with_ray(
    root: AnyPath, paths: Sequence[str], secret: bytes, pixels: PixelFile, engine: Engine
) -> Generator[list[ScannedFile]]:
    """Reads files with Ray Data and stores their pixels.

    Args:
        root: folder that paths are relative to, as the cluster's nodes see it.
        paths: of the files.
        secret: key of the patients' hashes.
        pixels: gets a row per file.
        engine: has the session, which is closed with the iterator, and the number of tasks at a time.

    Yields:
        What is known of the files, without pixels, in order.

    Raises:
        RaylightError: Ray can't start, its cluster isn't suitable, or reading in it failed.
        OSError: pixels can't be written.
    """
    if not paths:
        return
    positions = np.arange(len(paths))
    files = pa.table({"position": positions, "path": pa.array([path.encode(*_NAMES) for path in paths], pa.binary())})
    into = Destination(pixels.name, pixels.offset, positions)
    work = RayWork(_scanning(str(root), secret), str(root / paths[0]), pixels.spec, into, in_order=True)
    with contextlib.closing(through_ray(files, work, engine)) as batches:
        for batch in batches:
            read: list[ScannedFile] = list(batch["file"])
            pixels.written(int(batch["written"].sum()))
            yield [file.stored(row, pixels) for row, file in zip(batch["position"].tolist(), read, strict=True)]


def _scanning(root: str, secret: bytes) -> Callable[..., Iterator[dict[str, np.ndarray]]]:
    """The function for Ray's workers; it holds the secret, which Ray would show among a function's arguments."""

    def scan_batch(
        batch: dict[str, np.ndarray], spec: DecodeSpec, block: int, into: Output
    ) -> Iterator[dict[str, np.ndarray]]:
        keep_freed_memory()
        folder = to_path(root)

        def read(part: dict[str, np.ndarray]) -> Iterator[ScannedFile]:
            for path in part["path"]:
                yield scan_file(folder, path.decode(*_NAMES), secret, spec)

        with into.opened() as write:
            if write is not None:
                files = []
                for row, file in zip(batch["position"].tolist(), read(batch), strict=True):
                    if file.pixels is not None:
                        write(row, file.pixels)
                    files.append(replace(file, pixels=None))
                whole = _result(batch, files, True)
        if write is not None:
            yield whole
            return
        for part in parts_of(batch, spec, block):
            yield _result(part, list(read(part)), False)

    return scan_batch


def _result(batch: dict[str, np.ndarray], files: Sequence[ScannedFile], written: bool) -> dict[str, np.ndarray]:
    """What a worker sends back."""
    ok = [written and file.thumbnail is not None and file.refused is None for file in files]
    objects = np.empty(len(files), object)
    objects[:] = files
    return {"position": batch["position"], "written": np.array(ok), "file": objects}
