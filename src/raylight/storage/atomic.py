"""Atomic writes: a file is complete under its name or absent, and survives a power failure once it is there."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from raylight.errors import ConfigError


@contextlib.contextmanager
def atomic_file(path: Path, suffix: str = ".tmp") -> Iterator[Path]:
    """Makes a temporary file beside ``path``, which replaces it when the context ends without an error.

    Nobody sees an incomplete file, not even after a kill; after an error, nothing is left behind.

    Args:
        path: the final name; its folder must exist.
        suffix: of the temporary name, for writers that choose a format by it.

    Yields:
        The path of the temporary file.

    Raises:
        OSError: the disk is full or the folder can't be written; the error has the final name.
    """
    temporary = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        sync(temporary)  # otherwise a power failure may leave zeros under the name
        temporary.replace(path)
    except OSError as error:
        if error.filename is None or Path(os.fsdecode(error.filename)).parent == path.parent:
            error.filename, error.filename2 = os.fspath(path), None
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> Path:
    """Writes or replaces a file atomically.

    Args:
        path: of the file; its folder must exist.
        content: of the file.

    Returns:
        ``path``.

    Raises:
        OSError: the disk is full or the folder can't be written; nothing is left behind.
    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)
    return path


def check_output(option: str, path: Path, *, is_folder: bool, remedy: str = "name another place") -> None:
    """Checks that an output can be written, before the work for it begins; nothing is created.

    Args:
        option: the option that names the output, for messages.
        path: a file or folder, which needn't exist.
        is_folder: whether it is a folder.
        remedy: what to do if it can't be written.

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
    existing = next(parent for parent in (folder, *folder.parents) if os.path.lexists(parent))
    if not existing.is_dir():
        raise ConfigError([f"{option}: {path} can't be made, because {existing} isn't a folder; {remedy}"])
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError([f"{option}: {path} can't be written, because {existing} is read-only here; {remedy}"])


def sync_all() -> None:
    """Makes everything written so far survive a power failure, where the system can; faster than syncing many files."""
    if hasattr(os, "sync"):
        os.sync()


def sync(path: Path) -> None:
    """Makes the content of a file, or the names in a folder, survive a power failure.

    Windows can't sync folders, and files only if they are open for writing.
    """
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems can't sync folders
            raise
    finally:
        os.close(descriptor)
