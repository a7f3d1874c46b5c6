"""A real Ray cluster of two hosts on one machine: each has a network of its own, an address, and one core.

    python -m experiments.cluster.two_hosts --photos DIR [--repeat 3] [--table]

The hosts are network namespaces, joined by a virtual cable (``ip netns``, ``veth``; Linux, root, iproute2, two cores). Decodes
with one and with both, trains with both, kills the second host while it decodes and while it trains, and prints what
happened; ``--table`` keeps that in README.md. The first host is where Raylight runs.
"""

import argparse
import contextlib
import csv
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from experiments.memory.photos import repeated_photos
from experiments.reliability.tables import replace_table

ROOT = Path(__file__).resolve().parents[2]
PORT = 6379
STORE = 500_000_000
"""Bytes of each host's object store."""


@dataclass(frozen=True)
class Host:
    """A network namespace with one core.

    Attributes:
        name: of the namespace.
        address: in the cluster's network.
        core: the processor core that its processes are kept on.
        folder: Ray's files.
        environment: of its processes.
    """

    name: str
    address: str
    core: int
    folder: Path
    environment: dict[str, str]

    def command(self, *arguments: str) -> list[str]:
        """A command line that runs on this host."""
        return ["ip", "netns", "exec", self.name, "taskset", "-c", str(self.core), *arguments]

    def start_ray(self, head: "Host") -> None:
        """Start Ray's processes, as an operator does."""
        ray = [str(Path(sys.executable).parent / "ray"), "start", f"--node-ip-address={self.address}", "--num-cpus=1"]
        where = [f"--temp-dir={self.folder}"]
        if self is head:
            where += ["--head", f"--port={PORT}", "--include-dashboard=false"]
        else:
            where = [f"--address={head.address}:{PORT}"]
        run([*self.command(*ray), *where, f"--object-store-memory={STORE}"], self.environment)

    def kill(self) -> None:
        """Everything that runs on this host, at once, as when its power fails."""
        found = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True)
        for pid in found.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)


def run(command: list[str], environment: dict[str, str]) -> str:
    """A command that must succeed; what it printed."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts and the cable between them; nothing is left of them afterwards."""
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "GLOO_SOCKET_IFNAME": "eth0",  # both hosts have the same host name, which gloo would look up
        "WANDB_MODE": "offline",
    }
    folder = Path(tempfile.mkdtemp(prefix="rl-", dir="/tmp"))
    hosts = tuple(
        Host(f"raylight-{name}", f"10.77.0.{core + 1}", core, folder / name, environment)
        for core, name in enumerate(("first", "second"))
    )
    try:
        for host in hosts:
            run(["ip", "netns", "add", host.name], environment)
        ends = [["eth0", "netns", host.name] for host in hosts]
        run(["ip", "link", "add", *ends[0], "type", "veth", "peer", "name", *ends[1]], environment)
        for host in hosts:
            inside = ["ip", "-n", host.name]
            run([*inside, "addr", "add", f"{host.address}/24", "dev", "eth0"], environment)
            for device in ("lo", "eth0"):
                run([*inside, "link", "set", device, "up"], environment)
        yield hosts
    finally:
        for host in hosts:
            host.kill()
            subprocess.run(["ip", "netns", "del", host.name], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Build the cluster, use it, break it, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG files named cat.N.jpg and dog.N.jpg")
    parser.add_argument("--repeat", type=int, default=3, help="how often each photo is taken")
    parser.add_argument("--table", action="store_true", help="write what happened into README.md")
    parser.add_argument("--decode-at", help=argparse.SUPPRESS)  # this script again, on the first host
    arguments = parser.parse_args()
    if arguments.decode_at:
        decode(arguments.decode_at, arguments.photos)
        return
    told: list[str] = ["```text"]

    def tell(line: str) -> None:
        told.append(line)
        print(line, flush=True)

    with tempfile.TemporaryDirectory() as name, two_hosts() as (first, second):
        photos = Path(name) / "photos"
        count = len(repeated_photos(arguments.photos, photos, arguments.repeat))
        first.start_ray(first)
        tell(f"host {first.name}, {first.address}, 1 core: up")
        alone = decode_on(first, photos)
        tell(f"decoded by one host: {count:,} photos in {alone['seconds']:.1f} s")
        second.start_ray(first)
        tell(f"host {second.name}, {second.address}, 1 core: up")
        both = decode_on(first, photos)
        factor = alone["seconds"] / both["seconds"]
        tell(f"decoded by both: {both['seconds']:.1f} s, {factor:.2f} times as fast; {same(alone, both)}")
        short = decode_on(first, photos, after=0.4 * both["seconds"], then=second.kill)
        tell(f"decoded, the second host killed meanwhile: {short['seconds']:.1f} s; {same(alone, short)}")
        second.start_ray(first)
        tell("the second host is up again")
        whole = train_on(first, Path(name), "whole", tell)
        one = train_on(first, Path(name), "one", tell, "trainer=cpu")
        tell(
            f"losses of both hosts and of one process on the same batches differ by {difference(whole, one):.1g} at most"
        )
        broken = train_on(first, Path(name), "broken", tell, kill=second, again=lambda: second.start_ray(first))
        tell(f"losses of the whole and the broken training differ by {difference(whole, broken):.1g} at most")
    if arguments.table:
        replace_table(Path(__file__).with_name("README.md"), "two hosts", [*told, "```"])


def same(one: dict[str, str], other: dict[str, str]) -> str:
    """Whether two decodings gave the same images, each once."""
    return "the same images, each once" if one["content"] == other["content"] else "OTHER IMAGES"


def decode_on(
    host: Host, photos: Path, after: float = 0.0, then: Callable[[], None] | None = None
) -> dict[str, float | str]:
    """Decode on the cluster, from one of its hosts; something may happen so many seconds after the beginning."""
    command = [sys.executable, "-m", "experiments.cluster.two_hosts", "--photos", str(photos)]
    command += ["--decode-at", f"{host.address}:{PORT}"]
    process = subprocess.Popen(
        host.command(*command), env=host.environment, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    process.stdout.readline()  # it begins
    if then is not None:
        time.sleep(after)
        then()
    found: dict[str, float | str] = json.loads(process.communicate()[0].splitlines()[-1])
    return found


def decode(address: str, photos: Path) -> None:
    """Decode all photos into a cache, with workers that have imported everything; prints the seconds and the content's hash."""
    from raylight.config.schema import RayConfig
    from raylight.data.cache_files import PIXELS, SIDECAR, write_cache
    from raylight.data.decode.blocks import Engine
    from raylight.data.decode.engines import decode_files
    from raylight.data.decode.spec import DecodeSpec
    from raylight.runs.ray_session import ray_session

    spec, engine = DecodeSpec(224, "crop"), Engine("ray", ray=RayConfig(address=address))
    paths = sorted(photos.glob("*.jpg"))
    by_content = {sha256(path.read_bytes()).hexdigest(): [path] for path in paths}
    # In memory, since the one disk of this machine is no part of what two hosts share.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name, ray_session(engine.ray):
        for _ in decode_files(paths[:64], spec, engine):
            pass
        print("begins", flush=True)
        begin = time.perf_counter()
        write_cache(Path(name), by_content, spec, engine, lambda done, of: None)
        seconds = time.perf_counter() - begin
        content = sha256((Path(name) / PIXELS).read_bytes() + (Path(name) / SIDECAR).read_bytes()).hexdigest()
    print(json.dumps({"seconds": seconds, "content": content}))


def train_on(
    host: Host,
    folder: Path,
    name: str,
    tell: Callable[[str], None],
    *settings: str,
    kill: Host | None = None,
    again: Callable[[], None] | None = None,
) -> list[float]:
    """Train from a host; a host may be killed after the second epoch, and be there again 20 s later. The epochs' losses."""
    out = folder / name
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        "data=catsdogs",
        f"data.root={folder / 'photos'}",
        "data.limit=600",
        "data.group_duplicates=false",
        "trainer=ray",
        "trainer.num_workers=2",
        "model=cnn2",
        "model.dropout=0",
        "trainer.max_epochs=6",
        "trainer.precision=32",
        "trainer.progress=lines",
        "augment=none",
        f"ray.address={host.address}:{PORT}",
        f"cache_dir={folder / 'cache'}",
        f"hydra.run.dir={out}",
        "logger=none",
        "report.enabled=false",
    ]
    if settings:
        command = [text for text in command if not text.startswith(("trainer=", "trainer.num_workers"))] + [*settings]
    process = subprocess.Popen(
        host.command(*command),
        env=host.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    lines, begin = [], time.perf_counter()
    for line in process.stdout:
        lines.append(line.rstrip())
        if kill is not None and line.startswith(("Training", "epoch")):
            tell(f"  {line.split('  (')[0].rstrip()}")
        if kill is not None and again is not None and line.startswith("epoch 2/"):
            kill.kill()
            tell("  the second host is killed; 20 s later it is there again")
            threading.Timer(20.0, again).start()
            again = None
    process.wait()
    if process.returncode:
        sys.exit("\n".join(lines[-25:]))
    result = json.loads((out / "metrics.json").read_text())["test/accuracy"]["value"]
    with (out / "history.csv").open() as file:
        losses = [float(row[name]) for row in csv.DictReader(file) for name in ("train/loss", "val/loss")]
    seconds = time.perf_counter() - begin
    what = " ".join(settings) or "trainer=ray, 2 workers"
    tell(f"trained ({what}): {len(losses) // 2} epochs in {seconds:.0f} s, test accuracy {result:.4f}")
    return losses


def difference(one: list[float], other: list[float]) -> float:
    """The largest between two lists of as many losses."""
    return max(abs(first - second) for first, second in zip(one, other, strict=True))


if __name__ == "__main__":
    main()
