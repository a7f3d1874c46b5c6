"""One Ray session per process: started when it is needed, silent, and stopped afterwards.

Covers a local session with an object store of known size, and joining a running cluster. Leaves out what runs in the
session.
"""

import contextlib
import functools
import logging
import os
import secrets
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from raylight.config.schema import RayConfig
from raylight.errors import RaylightError, first_line
from raylight.machine import usable_cpus
from raylight.process import environment, set_variables
from raylight.runs.preflight import check_versions
from raylight.storage.scratch import scratch_folder

SMALLEST_STORE: Final = 80_000_000
"""Bytes below which Ray refuses to make an object store (75 MiB, rounded up)."""

_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where Ray keeps its objects on Linux
_SETTLED: Final = 90.0
"""Seconds within which the processes of a session end whose owner was killed."""

_PATIENCE: Final = 5.0
"""Seconds to wait for a cluster's address to answer."""

_ITS_VARIABLES: Final = dict.fromkeys(("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "PYTHONBREAKPOINT"))
"""Environment variables that starting a session sets; they are restored at its end."""

_QUIET: Final[dict[str, Any]] = {"log_to_driver": False, "logging_level": logging.ERROR}


@contextlib.contextmanager
def ray_session(config: RayConfig, cpus: int | None = None, *, ends_later: bool = False) -> Iterator[None]:
    """Opens a Ray session, or joins the one that this process already has.

    With an address (``ray.address``, else the environment's ``RAY_ADDRESS``) a running cluster is joined, and
    left at the end. Without one, or with ``local``, a session is started on this machine and stopped at the
    end; its processes and its folder go with it. Usage statistics and the dashboard are off; what workers
    print stays in Ray's logs.

    Args:
        config: address and size of the object store.
        cpus: tasks at a time in a local session; ``None`` takes every processor that this process may use.
        ends_later: the session ends in a thread while the caller goes on, which saves a second; the next session waits for it.

    Raises:
        RaylightError: no cluster answers at the address, it or one of its nodes runs other versions, or the store has
            no room.
    """
    set_variables(RAY_USAGE_STATS_ENABLED="0")
    import ray

    _wait_for_the_last()
    if ray.is_initialized():
        yield
        return
    address = config.place
    with environment(**_ITS_VARIABLES), contextlib.ExitStack() as stack:
        # Ray's own default, /tmp/ray, keeps the logs of every session and tells other programs of this one.
        folder = stack.enter_context(scratch_folder("ray", _SETTLED)) if address == "local" else None
        stack.callback(ray.shutdown)
        if folder is not None:
            _start(config, cpus or usable_cpus(), folder)
        else:
            _join(address)
            check_versions()
        yield
        if ends_later:
            _end_in_a_thread(stack.pop_all())


_ending: list[threading.Thread] = []
"""The thread that ends a session; the interpreter doesn't end before it has."""


def _end_in_a_thread(session: contextlib.ExitStack) -> None:
    _ending.append(threading.Thread(target=session.close, name="raylight-ray-ends"))
    _ending[-1].start()


def _wait_for_the_last() -> None:
    while _ending:
        _ending.pop().join()


def store_bytes(config: RayConfig) -> int:
    """Size of a local session's object store in bytes, once it is known to fit into shared memory.

    Raises:
        RaylightError: it is smaller than Ray allows, or larger than the shared memory that is free, in which
            case Ray would be slow at best and hang at worst.
    """
    size = int(config.object_store_gb * 1e9)
    if size < SMALLEST_STORE:
        raise RaylightError(
            f"ray.object_store_gb={config.object_store_gb:g} is too small: Ray needs at least "
            f"{SMALLEST_STORE / 1e9:g} GB. Raise it, or decode without Ray: decode=threads"
        )
    if _SHARED_MEMORY.is_dir() and (free := shutil.disk_usage(_SHARED_MEMORY).free) < size:
        raise RaylightError(
            f"ray.object_store_gb={config.object_store_gb:g} does not fit into {_SHARED_MEMORY}, which has "
            f"{free / 1e9:.2f} GB free. Give the container more (docker run --shm-size=1g), lower "
            f"ray.object_store_gb (at least {SMALLEST_STORE / 1e9:g}), or decode without Ray: decode=threads"
        )
    return size


def _start(config: RayConfig, cpus: int, folder: Path) -> None:
    import ray

    if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        set_variables(RAY_AUTH_TOKEN=_token())
    with _signals_left_alone():
        ray.init(
            address="local",
            num_cpus=cpus,
            num_gpus=0,
            object_store_memory=store_bytes(config),
            include_dashboard=False,
            _temp_dir=str(folder),
            # Ray would run its workers at low priority; they are to have what this process's threads would have.
            _system_config={"worker_niceness": 0},
            **_QUIET,
        )


@functools.cache
def _token() -> str:
    """Secret that lets only this process and its children into its sessions; Ray remembers the first it sees.

    Ray itself would keep one in the user's home for all sessions, where it must be able to write.
    """
    return secrets.token_hex(32)


def _join(address: str) -> None:
    import ray

    try:
        _knock(address)
        with _signals_left_alone():
            ray.init(address=address, **_QUIET)
    except (OSError, ValueError, RuntimeError) as error:
        text = str(error)
        # Of this message, the lines after the first hold the versions.
        reason = " ".join(text.split()) if text.startswith("Version mismatch") else first_line(error)
        raise RaylightError(
            f"Can't join the Ray cluster at {address!r}: {reason}. Check ray.address, RAY_ADDRESS and `ray status`, "
            "or start a session of its own with ray.address=local"
        ) from error


def _knock(address: str) -> None:
    """Raises ``OSError`` if nothing listens at host:port; Ray itself would retry for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()


@contextlib.contextmanager
def _signals_left_alone() -> Iterator[None]:
    """Keeps the process's own handler of SIGTERM, which Ray replaces with one that exits without saving."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
