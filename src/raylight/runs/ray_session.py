"""One Ray session per process: started when it is needed, silent, and stopped afterwards.

Starts a local session with an object store of known size, or joins a running cluster.
"""

import contextlib
import functools
import gc
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
_MIN_AGE: Final = 90.0
"""Seconds within which the processes of a session end after its owner was killed."""

_TIMEOUT: Final = 5.0
"""Seconds to wait for the address of a cluster to answer."""

_SET_BY_RAY: Final = dict.fromkeys(("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "PYTHONBREAKPOINT"))
"""Environment variables that starting a session sets; they are restored at its end."""

_QUIET: Final[dict[str, Any]] = {"log_to_driver": False, "logging_level": logging.ERROR}


@contextlib.contextmanager
def ray_session(config: RayConfig, cpus: int | None = None, *, close_in_background: bool = False) -> Iterator[bool]:
    """Opens a Ray session, or uses the one that this process already has.

    With an address (``ray.address``, else ``RAY_ADDRESS`` in the environment), a running cluster is joined, and left at the
    end. Without one, or with ``local``, a session is started on this machine, and stopped at the end, with its processes and
    its folder. Usage statistics and the dashboard are off; the output of workers stays in Ray's logs.

    Args:
        config: address of the cluster, and size of the object store.
        cpus: number of tasks at a time in a local session; ``None`` takes every processor that this process may use.
        close_in_background: close the session in a thread, which saves the caller a second; the next session waits for it.

    Yields:
        Whether the session was started or joined here.

    Raises:
        RaylightError: no cluster answers at the address, it or one of its nodes has other versions, or the object store
            doesn't fit into the shared memory.
    """
    set_variables(RAY_USAGE_STATS_ENABLED="0")
    import ray

    _wait_until_closed()
    if ray.is_initialized():
        yield False
        return
    address = config.cluster
    with environment(**_SET_BY_RAY), contextlib.ExitStack() as stack:
        # Ray's default, /tmp/ray, keeps the logs of all sessions, and other programs would find this session there.
        folder = stack.enter_context(scratch_folder("ray", _MIN_AGE)) if address == "local" else None
        stack.callback(ray.shutdown)
        if folder is not None:
            _start(config, cpus or usable_cpus(), folder)
        else:
            _join(address)
            check_versions()
        try:
            yield True
        finally:
            # Ray ends the process if one of its references is released after its session, as garbage collection would do.
            gc.collect()
        if close_in_background:
            _close_in_thread(stack.pop_all())


_closing: list[threading.Thread] = []
"""The thread that closes a session; the interpreter waits for it before it exits."""


def _close_in_thread(session: contextlib.ExitStack) -> None:
    _closing.append(threading.Thread(target=session.close, name="raylight-ray-close"))
    _closing[-1].start()


def _wait_until_closed() -> None:
    while _closing:
        _closing.pop().join()


def store_bytes(config: RayConfig) -> int:
    """Checks that the object store of a local session fits into shared memory.

    Args:
        config: has its size, ``object_store_gb``.

    Returns:
        Its size in bytes.

    Raises:
        RaylightError: it is smaller than Ray allows, or larger than the free shared memory, with which Ray would be slow at
            best and hang at worst.
    """
    size = int(config.object_store_gb * 1e9)
    if size < SMALLEST_STORE:
        raise RaylightError(
            f"ray.object_store_gb={config.object_store_gb:g} is too small: Ray needs at least "
            f"{SMALLEST_STORE / 1e9:g} GB. Raise it, or decode without Ray: decode=threads"
        )
    if _SHARED_MEMORY.is_dir() and (free := shutil.disk_usage(_SHARED_MEMORY).free) < size:
        raise RaylightError(
            f"ray.object_store_gb={config.object_store_gb:g} doesn't fit into {_SHARED_MEMORY}, which has "
            f"{free / 1e9:.2f} GB free. Give the container more (docker run --shm-size=1g), lower "
            f"ray.object_store_gb (at least {SMALLEST_STORE / 1e9:g}), or decode without Ray: decode=threads"
        )
    return size


def _start(config: RayConfig, cpus: int, folder: Path) -> None:
    import ray

    if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        set_variables(RAY_AUTH_TOKEN=_token())
    with _keep_signal_handler():
        ray.init(
            address="local",
            num_cpus=cpus,
            num_gpus=0,
            object_store_memory=store_bytes(config),
            include_dashboard=False,
            _temp_dir=str(folder),
            # By default, Ray runs its workers at low priority; here they have the priority of this process.
            _system_config={"worker_niceness": 0},
            **_QUIET,
        )


@functools.cache
def _token() -> str:
    """A secret with which only this process and its children can join its sessions; Ray keeps the first one that it gets."""
    # Ray itself would store a token in the user's home for all sessions, and would need write access there.
    return secrets.token_hex(32)


def _join(address: str) -> None:
    import ray

    try:
        _check_reachable(address)
        with _keep_signal_handler():
            ray.init(address=address, **_QUIET)
    except (OSError, ValueError, RuntimeError) as error:
        text = str(error)
        # The versions are in the lines after the first.
        reason = " ".join(text.split()) if text.startswith("Version mismatch") else first_line(error)
        raise RaylightError(
            f"Can't join the Ray cluster at {address!r}: {reason}. Check ray.address, RAY_ADDRESS and `ray status`, "
            "or start a local session with ray.address=local"
        ) from error


def _check_reachable(address: str) -> None:
    """Raises ``OSError`` if nothing listens at host:port; Ray itself would retry for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT).close()


@contextlib.contextmanager
def _keep_signal_handler() -> Iterator[None]:
    """Keeps the handler of SIGTERM, which Ray replaces by one that exits without saving."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
