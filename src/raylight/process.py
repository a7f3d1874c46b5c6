"""What Raylight changes in its own process, beyond its own objects: here and nowhere else, as ``tests/test_house.py`` holds.

Undone where the context ends:

==================================  ==============================================================================
environment variables               ``environment``: for libraries that read their settings from nowhere else
folder for temporary files          ``temporary_folder``: ``TMPDIR`` and Python's own idea of it
threads of torch's operators        ``torch_threads``: process-wide for threads to come
denormal numbers as zero            ``flushed_denormals``: in this thread and those that it starts
time limit of connections           ``socket_timeout``: of those that name none themselves
random numbers                      ``random_numbers``: of Python's, NumPy's and torch's global generators
==================================  ==============================================================================

For good:

==================================  ==============================================================================
environment variables               ``set_variables``: for this process and those that it starts
``HOME``                            ``ensure_home``: where there is none that can be written
waiting of torch's threads          ``shorten_waits``: for this process and those that it starts
threads of torch's operators        ``use_one_thread``: in a thread of ours, which ends with its work
the end of the process              ``ending_at_once``: without taking apart what the system frees anyway
==================================  ==============================================================================

Leaves out signals (``runs.signals``), Python's garbage collection (``imports``), glibc's memory (``machine``), log messages
(``runs.console``), and what silences libraries for good: Pillow's warnings (``data.decode.image``), Lightning's
(``training.trainer``). Libraries add variables of their own: torch's compiler ``TORCHINDUCTOR_CACHE_DIR``, for example.
"""

import atexit
import contextlib
import logging
import os
import random
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def environment(**values: str | None) -> Iterator[None]:
    """Environment variables for as long as this context lasts; afterwards they are what they were.

    Args:
        values: content by name; None leaves the variable as it is, and only puts back what others make of it meanwhile.
    """
    before = {name: os.environ.get(name) for name in values}
    os.environ.update({name: value for name, value in values.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def set_variables(**values: str) -> None:
    """Environment variables from now on, or until an ``environment`` around this that names them ends."""
    os.environ.update(values)


@contextlib.contextmanager
def temporary_folder(folder: Path) -> Iterator[None]:
    """Temporary files and folders of this process, and of those that it starts, are made in ``folder``."""
    before = tempfile.tempdir
    with environment(TMPDIR=str(folder)):
        tempfile.tempdir = str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before


@contextlib.contextmanager
def torch_threads(count: int | None = None) -> Iterator[None]:
    """Threads of torch's operators in this thread and in those to come.

    Args:
        count: for as long as this context lasts; None leaves the number as it is until somebody sets it.
    """
    import torch

    before = torch.get_num_threads()
    try:
        if count is not None:
            use_torch_threads(count)
        yield
    finally:
        use_torch_threads(before)


def use_torch_threads(count: int) -> None:
    """Threads of torch's operators from now on, or until a ``torch_threads`` around this ends."""
    import torch

    torch.set_num_threads(count)


def use_one_thread() -> None:
    """Have torch's operators run on this thread alone, denormal numbers as zero; for threads that compute beside each other.

    torch keeps the number per thread and, for threads to come, per process: whoever starts such threads does it within
    ``torch_threads``, until all of them have called this.
    """
    import torch

    torch.get_num_threads()  # makes this thread take the process's number now instead of later
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


@contextlib.contextmanager
def flushed_denormals() -> Iterator[None]:
    """Denormal numbers count as zero in this thread and those that it starts: processors compute with them in microcode."""
    import torch

    before = float(torch.full((), 5e-324, dtype=torch.float64) * 1) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextlib.contextmanager
def socket_timeout(seconds: float) -> Iterator[None]:
    """A time limit for connections of libraries that set none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def random_numbers() -> Iterator[None]:
    """Whoever draws from Python's, NumPy's or torch's global generators afterwards goes on where they were before.

    Lightning's ``seed_everything`` seeds them, keeps the seed in two environment variables, and libraries draw from them while
    they are imported. Those of GPUs are put back where torch uses GPUs already; asking for them would start to use them.
    """
    import numpy as np
    import torch

    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    gpus = range(torch.cuda.device_count()) if used else ()
    python, numpy = random.getstate(), np.random.get_state()
    with environment(PL_GLOBAL_SEED=None, PL_SEED_WORKERS=None), torch.random.fork_rng(gpus):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """Have the process end right after its threads and ``atexit`` functions, with the code of the context's ``SystemExit``.

    Python would first collect garbage and take each module apart: of a process that has imported torch and Lightning 1.6 s,
    for memory that the system frees at once. Functions that were registered with ``atexit`` before aren't called, except
    logging's; so this is the first that a command does. An exception other than ``SystemExit`` ends the process as usual.
    """
    codes: list[int] = []

    def end() -> None:
        if not codes:
            return
        logging.shutdown()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:  # such as a closed pipe, of which Python tells when it ends as usual
            return
        os._exit(codes[0])

    atexit.register(end)  # the first that is registered is the last that is called
    try:
        yield
    except SystemExit as ending:
        if ending.code is None or isinstance(ending.code, int):  # else Python prints it
            codes.append(ending.code or 0)
        raise


def shorten_waits() -> None:
    """Let threads of torch's operators sleep soon when they wait for each other, unless the environment says otherwise.

    GNU's OpenMP lets them spin for milliseconds. Where another program keeps a core busy, the thread that is waited for isn't
    running, and spinning takes its time: small networks then train at a third of the speed (``experiments/speed/waiting.py``).
    Takes effect only before torch is imported. See ``GOMP_SPINCOUNT`` in libgomp's manual.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def ensure_home() -> None:
    """Point ``HOME`` to a folder that can be written: W&B, matplotlib and the default ``cache_dir`` need one.

    A container started for a user whom it doesn't know has none (``HOME`` unset), or ``/``. Then it is a private folder
    among the temporary files, the same for each command of that user.

    Raises:
        OSError: there is no place for it.
    """
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises where nobody knows the user
    if home != "~" and os.access(home, os.W_OK | os.X_OK):
        os.environ.setdefault("HOME", home)
        return
    if not hasattr(os, "getuid"):  # Windows, whose temporary folder is the user's own
        os.environ["HOME"] = tempfile.gettempdir()
        return
    folder = Path(tempfile.gettempdir(), f"raylight-home-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        folder = Path(tempfile.mkdtemp(prefix="raylight-home-"))  # somebody else made that one
    os.environ["HOME"] = str(folder)
