"""Importing what a later stage needs while this one waits for other processes or computes outside Python."""

import contextlib
import ctypes  # noqa: F401 - see imported_meanwhile
import importlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor


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
