"""Importing large libraries faster: in a thread, with fewer garbage collections, and no more of them than is needed."""

import contextlib
import ctypes  # noqa: F401 - see imported_meanwhile
import gc
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any


@contextlib.contextmanager
def few_collections() -> Iterator[None]:
    """Makes Python's cyclic garbage collection a hundred times rarer within.

    Importing torch and what belongs to it creates half a million objects, which Python would otherwise traverse again and
    again to find hardly any garbage: an eighth of the time. See https://docs.python.org/3/library/gc.html#gc.set_threshold.
    """
    usual = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


@contextlib.contextmanager
def imported_meanwhile(*modules: str) -> Iterator[None]:
    """Imports modules in a thread beside what the caller does, and is done with them at the end.

    PyTorch Lightning, torchmetrics and torchvision take three seconds of one core, in which Ray's processes start just as
    well. The caller may fork: what children of Ray run before they become programs needs only ctypes, which is here already.

    Args:
        modules: by their full names, in order.

    Raises:
        ImportError: one of them can't be imported; also whatever else importing it raises.
    """
    filters = list(warnings.filters)
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="raylight-imports") as pool:
            importing = [pool.submit(importlib.import_module, module) for module in modules]
            yield
            for module in importing:
                module.result()
    finally:
        _restore_filters(filters)


def _restore_filters(before: Sequence[tuple[Any, ...]]) -> None:
    """Removes new filters for all warnings, and puts back what was removed.

    ``warnings.catch_warnings`` isn't safe in threads: modules of torch show all warnings for a moment while they are imported,
    and where another thread enters it in that moment and leaves it later, all warnings stay shown.
    See https://docs.python.org/3/library/warnings.html#warnings.catch_warnings.
    """
    new = [each for each in warnings.filters if each not in before and each[1:4] != (None, Warning, None)]
    warnings.filters = [*new, *before]
    with warnings.catch_warnings():
        pass  # entering and leaving it makes Python forget what it decided by other filters


@contextlib.contextmanager
def without_init(package: str) -> Iterator[None]:
    """Lets modules of a package be imported without running the package's own code, which may import much more.

    At the end everything imported of the package is forgotten, so that a later import gets all of it. Where the package is
    imported already, nothing changes.

    Args:
        package: its full name; the package it lies in is imported.
    """
    if package in sys.modules or (spec := importlib.util.find_spec(package)) is None:
        yield
        return
    sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
            del sys.modules[name]
