"""What Raylight changes in its own process, beyond its own objects; each change is undone where its context ends.

==================================  ==============================================================================
environment variables               ``environment``: for libraries that read their settings from nowhere else
folder for temporary files          ``temporary_folder``: ``TMPDIR`` and Python's own idea of it
threads of torch's operators        ``torch_threads``: process-wide for threads to come
``HOME``                            ``ensure_home``: for good, where there is none that can be written
waiting of torch's threads          ``shorten_waits``: for good, in this process and those that it starts
==================================  ==============================================================================

Leaves out signals (``runs.signals``), Python's garbage collection (``imports``) and glibc's memory (``machine``).
"""

import contextlib
import os
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
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


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
    folder = Path(tempfile.gettempdir(), f"raylight-home-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        folder = Path(tempfile.mkdtemp(prefix="raylight-home-"))  # somebody else made that one
    os.environ["HOME"] = str(folder)
