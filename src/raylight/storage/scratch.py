"""Private temporary folders that are removed with their process, also after a kill.

Before one is created, those of the same kind that killed processes left are removed: only this user's, and only if no process
has locked them; the kernel releases the lock however the owner ends.
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
"""Maximum length of the parent's path: paths of sockets below it may have 107 characters on Linux, 103 on macOS."""


@contextlib.contextmanager
def scratch_folder(kind: str, min_age: float) -> Iterator[Path]:
    """Creates a folder that only this user can read, until this context ends.

    Args:
        kind: what it is for, as in ``/tmp/raylight-KIND-a1b2c3d4``.
        min_age: seconds since the last change after which an unlocked folder is removed; as long as the child processes of a
            killed owner may outlive it.

    Yields:
        Its path.
    """
    default = tempfile.gettempdir()
    parent = Path(default if len(default) <= _LONGEST_PARENT else "/tmp")  # noqa: S108 - mkdtemp below it is private
    prefix = f"raylight-{kind}-"
    for old in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError, Timeout):  # of another user, or in use
            _remove_if_abandoned(old, min_age)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        with FileLock(folder / _IN_USE, thread_local=False):  # another thread may release it
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_if_abandoned(folder: Path, min_age: float) -> None:
    status = folder.lstat()
    own = stat.S_ISDIR(status.st_mode) and (sys.platform == "win32" or status.st_uid == os.getuid())
    if own and time.time() - status.st_mtime > min_age:
        with FileLock(folder / _IN_USE, timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
