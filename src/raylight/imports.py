"""Importing large libraries faster: in a thread, and with fewer garbage collections."""

import contextlib
import ctypes  # noqa: F401 - see imported_meanwhile
import gc
import importlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor


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
    with ThreadPoolExecutor(1, thread_name_prefix="raylight-imports") as pool:
        importing = [pool.submit(importlib.import_module, module) for module in modules]
        yield
        for module in importing:
            module.result()
