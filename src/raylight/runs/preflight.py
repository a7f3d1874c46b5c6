"""Checks of a Ray cluster before any work, which would otherwise hang or give wrong results.

Finds nodes without this program or with another version of it, nodes that don't see the files, clusters without a CPU, and
object stores too small for a decoded image. Leaves out the shared memory of a local session
(:mod:`raylight.runs.ray_session`) and resources for training processes (``training.distributed``).
"""

import platform
from collections.abc import Callable
from typing import Any, Final

from raylight.errors import RaylightError

TIMEOUT: Final = 60.0
"""Seconds that a node may take to start a worker and answer."""

BLOCKS_PER_CPU: Final = 4
"""Blocks that an object store must hold per CPU of its node: one being decoded, one waiting, two in reserve."""

CHECKED_PACKAGES: Final = (
    *("raylight", "ray", "numpy", "pillow", "pyarrow", "simplejpeg", "cykooz-resizer"),
    *("pillow-heif", "pydicom", "python-gdcm", "pylibjpeg-openjpeg"),
)
"""Packages whose versions determine whether a node can run a task, and which pixels it gives."""


def check_versions() -> None:
    """Refuses a cluster with nodes that lack this program, or would decode to different pixels.

    Raises:
        RaylightError: names the node, its versions, those of this process, and the remedy.
    """
    import importlib.metadata

    own = {name: _installed(importlib.metadata, name) for name in CHECKED_PACKAGES}
    python = platform.python_version()

    def versions(names: tuple[str, ...]) -> dict[str, str | None]:
        # Pickled by value, so it runs on a node whatever that lacks.
        import importlib.metadata as there

        found: dict[str, str | None] = {}
        for name in names:
            try:
                found[name] = there.version(name)
            except there.PackageNotFoundError:
                found[name] = None
        return found

    for node, theirs in _ask_nodes(lambda: versions(CHECKED_PACKAGES), python):
        different = [
            f"{name} {theirs[name] or 'missing'} (here {own[name] or 'missing'})"
            for name in CHECKED_PACKAGES
            if theirs[name] != own[name]
        ]
        if different:
            raise RaylightError(
                f"Node {node} of the Ray cluster has {', '.join(different)}. All nodes need the same versions, or images would "
                "be decoded differently or not at all: install those of this machine there (pip install -c constraints.txt "
                "raylight) and start the node again with `ray start`, or decode on this machine with ray.address=local"
            )


def check_nodes_see(path: str) -> None:
    """Refuses a cluster with nodes that can't read a file that this process can.

    Args:
        path: of one of the files; a URI isn't checked.

    Raises:
        RaylightError: names the node and the remedy.
    """
    import os

    from raylight.config.uris import is_uri

    if len(_alive()) < 2 or is_uri(path) or not os.access(path, os.R_OK):
        return
    for node, sees in _ask_nodes(lambda: os.access(path, os.R_OK), platform.python_version()):
        if not sees:
            raise RaylightError(
                f"Node {node} of the Ray cluster doesn't see {path}. The nodes read the images themselves: mount the folder "
                "on each under the same path (NFS), or keep the images where all can reach them, such as "
                "data.root=s3://BUCKET/FOLDER; decode=threads decodes on this machine alone"
            )


def largest_block(image_bytes: int, wanted: int) -> int:
    """Computes how large blocks of decoded images in the object stores of a cluster may be.

    Args:
        image_bytes: size of a decoded image, in bytes.
        wanted: the best size of a block, in bytes.

    Returns:
        ``wanted``, or less if an object store is too small for that, in bytes.

    Raises:
        RaylightError: no node has a CPU, or a node's store is too small for images of this size.
    """
    nodes = [node for node in _alive() if node["Resources"].get("CPU", 0) >= 1]
    if not nodes:
        raise RaylightError("no node of the Ray cluster has a CPU for tasks, so nothing would ever be decoded")
    block = wanted
    for node in nodes:
        cpus, store = int(node["Resources"]["CPU"]), int(node["Resources"].get("object_store_memory", 0))
        fitting = store // (BLOCKS_PER_CPU * cpus)
        if fitting < image_bytes:
            raise RaylightError(
                f"The object store of node {node['NodeManagerAddress']} has {store / 1e9:.2f} GB, but {BLOCKS_PER_CPU} decoded "
                f"images of {image_bytes / 1e6:.1f} MB for each of its {cpus} CPUs need "
                f"{BLOCKS_PER_CPU * cpus * image_bytes / 1e9:.2f} GB. "
                "Raise ray.object_store_gb (on a cluster: ray start --object-store-memory=BYTES), lower decode.workers or "
                "model.image_size, or decode without Ray: decode=threads"
            )
        block = min(block, fitting)
    return block


def _installed(metadata: Any, name: str) -> str | None:
    try:
        version: str = metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
    return version


def _alive() -> list[dict[str, Any]]:
    import ray

    session: Any = ray
    return [node for node in session.nodes() if node["Alive"]]


def _ask_nodes(question: Callable[[], Any], python: str) -> list[tuple[str, Any]]:
    """Runs a function on each node of the cluster.

    Returns:
        The address of each node, and its result.

    Raises:
        RaylightError: a node doesn't answer, or can't run the code of this program.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    session: Any = ray
    addresses = {}
    for node in _alive():
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = session.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(question)
        addresses[task.remote()] = node["NodeManagerAddress"]
    ready, pending = session.wait(list(addresses), num_returns=len(addresses), timeout=TIMEOUT)
    if pending:
        raise RaylightError(
            f"Node {addresses[pending[0]]} of the Ray cluster hasn't answered within {TIMEOUT:g} s. Check it with "
            "`ray status`, or stop it with `ray stop` on that machine; decode=threads works without Ray"
        )
    answers = []
    for task in ready:
        try:
            answers.append((addresses[task], session.get(task)))
        except (session.exceptions.TaskUnschedulableError, session.exceptions.NodeDiedError):
            continue  # the node has left the cluster meanwhile and gets no tasks
        except session.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise RaylightError(
                f"Node {addresses[task]} of the Ray cluster can't run the code of this program ({reason}). It needs Python "
                f"{python} and the packages of this machine: install them there and start the node again with `ray start`"
            ) from error
    return answers
