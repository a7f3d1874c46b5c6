"""Private temporary folders that are removed with their process, also after a kill.

Creating one first removes those of the same kind that killed processes left: only this user's, and only if no process locks
them; the kernel releases the lock however the owner ends.
"""

import contextlib
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

_IN_USE: Final = "in-use.lock"
_LONGEST_PARENT: Final = 30
"""Characters of the temporary folder: sockets below it must stay under the kernel's 107, macOS's 103."""


@contextlib.contextmanager
def scratch_folder(kind: str, settled: float) -> Iterator[Path]:
    """A folder that only this user can read, for as long as this context lasts.

    Args:
        kind: what it is for, as in ``/tmp/raylight-KIND-a1b2c3d4``.
        settled: seconds for which an owner's child processes may outlive it; more recently changed folders are kept.
    """
    chosen = tempfile.gettempdir()
    parent = Path(chosen if len(chosen) <= _LONGEST_PARENT else "/tmp")  # noqa: S108 - mkdtemp below it is private
    prefix = f"raylight-{kind}-"
    for old in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError, Timeout):  # another user's, or of somebody alive
            _remove_if_abandoned(old, settled)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        with FileLock(folder / _IN_USE, thread_local=False):  # another thread may end it
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_if_abandoned(folder: Path, settled: float) -> None:
    about = folder.lstat()
    ours = stat.S_ISDIR(about.st_mode) and (sys.platform == "win32" or about.st_uid == os.getuid())
    if ours and time.time() - about.st_mtime > settled:
        with FileLock(folder / _IN_USE, timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
