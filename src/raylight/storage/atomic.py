"""Files that appear whole under their name or not at all, and that survive a power failure once they are there."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from raylight.errors import ConfigError


@contextlib.contextmanager
def appearing_whole(path: Path, suffix: str = ".tmp") -> Iterator[Path]:
    """A temporary file beside ``path``, which takes its name when the context ends without an error.

    A reader or a kill never meets half of it; after an error nothing is left behind. What was there before is replaced.

    Args:
        path: the name; its folder must exist.
        suffix: ending of the temporary name, for writers that look at it.

    Raises:
        OSError: the disk is full or the folder can't be written.
    """
    temporary = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        sync(temporary)  # else a power failure may leave zeros under the name
        temporary.replace(path)
    except OSError as error:
        if error.filename is None or Path(os.fsdecode(error.filename)).parent == path.parent:
            error.filename, error.filename2 = os.fspath(path), None  # the name that the user knows
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> Path:
    """Write or replace a file, which appears whole or not at all.

    Returns:
        ``path``.

    Raises:
        OSError: the disk is full or the folder can't be written; nothing is left behind.
    """
    with appearing_whole(path) as temporary:
        temporary.write_bytes(content)
    return path


def check_output(option: str, path: Path, *, is_folder: bool, remedy: str = "name another place") -> None:
    """Whether an output can be written, asked before the work whose result it is to hold; nothing is made yet.

    Args:
        option: that names it, for the message.
        path: a file or folder, which needn't exist.
        is_folder: which of both it is to be.
        remedy: where it can't be written.

    Raises:
        ConfigError: it can't be written.
    """
    path = path.absolute()
    if path.exists() and path.is_dir() != is_folder:
        wanted, found = ("folder", "file") if is_folder else ("file", "folder")
        raise ConfigError([f"{option}: {path} is a {found}; name a {wanted}"])
    if path.exists() and not (path.is_dir() or path.is_file()):
        raise ConfigError([f"{option}: {path} is a device or a pipe, which would be replaced; name a file"])
    folder = path if is_folder else path.parent
    nearest = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not nearest.is_dir():
        raise ConfigError([f"{option}: {path} can't be made, because {nearest} isn't a folder; {remedy}"])
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError([f"{option}: {path} can't be written, because {nearest} is read-only here; {remedy}"])


def sync_all() -> None:
    """Makes all that was written survive a power failure, where the system can: for more files than are synced one by one."""
    if hasattr(os, "sync"):
        os.sync()


def sync(path: Path) -> None:
    """Makes a file's content, or a folder's list of names, survive a power failure.

    Windows syncs no folders, and files only where they are open for writing.
    """
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems sync no folders
            raise
    finally:
        os.close(descriptor)
