"""What survives a power failure: content and names that are on the disk, not only in the system's memory."""

import errno
import os
from pathlib import Path


def sync_all() -> None:
    """Makes all that was written survive a power failure, where the system can: for more files than are synced one by one."""
    if hasattr(os, "sync"):
        os.sync()


def sync(path: Path) -> None:
    """Makes a file's content, or a folder's list of names, survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems sync no folders
            raise
    finally:
        os.close(descriptor)
