"""ONNX Runtime Web, which runs a model in a browser: from a folder, from the cache, or from npm, checked against its hash.

It is a package of npm, of which two files of 14 MB are used, and no part of Raylight.
"""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from raylight.errors import ConfigError, RaylightError, first_line
from raylight.storage.atomic import write_atomically

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"

INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Hash of the package's archive, as npm states it (W3C Subresource Integrity)."""

SCRIPT, BINARY = "dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"
FILES = ("package.json", SCRIPT, BINARY)

MAX_SECONDS = 300
"""Longest time that npm may take."""


@dataclass(frozen=True, eq=False)
class WebRuntime:
    """ONNX Runtime Web.

    Attributes:
        version: of the package.
        script: the JavaScript module that is imported.
        binary: the WebAssembly that it runs.
    """

    version: str
    script: bytes
    binary: bytes


def web_runtime(folder: Path | None, cache: Path) -> WebRuntime:
    """Find the runtime, or download it once.

    Args:
        folder: an unpacked package of any version; ``None`` takes ``VERSION`` from the cache, else from npm.
        cache: folder in which the download is kept.

    Raises:
        ConfigError: the folder isn't such a package.
        RaylightError: npm isn't there, fails, or brings something else.
    """
    if folder is not None:
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise ConfigError(
                [
                    f"--runtime: {folder} lacks {', '.join(missing)}; name the folder of an unpacked package {PACKAGE} (npm)"
                ]
            )
        return _read(folder)
    kept = cache / f"{PACKAGE}-{VERSION}"
    if not all((kept / name).is_file() for name in FILES):
        _download(kept)
    return _read(kept)


def _read(folder: Path) -> WebRuntime:
    facts = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    return WebRuntime(str(facts["version"]), (folder / SCRIPT).read_bytes(), (folder / BINARY).read_bytes())


def _download(kept: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise RaylightError(f"There is no npm here to download {PACKAGE} with. {_ways_out(kept)}")
    with tempfile.TemporaryDirectory() as scratch:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", scratch]
        try:
            done = subprocess.run(
                command, cwd=scratch, capture_output=True, text=True, timeout=MAX_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RaylightError(f"npm could not download {PACKAGE} ({first_line(error)}). {_ways_out(kept)}") from error
        archives = list(Path(scratch).glob("*.tgz"))
        if done.returncode or not archives:
            said = next((line for line in done.stderr.splitlines() if "error" in line.lower()), "no reason given")
            raise RaylightError(f"npm could not download {PACKAGE} {VERSION} ({said}). {_ways_out(kept)}")
        content = archives[0].read_bytes()
        found = f"sha512-{base64.b64encode(hashlib.sha512(content).digest()).decode()}"
        if found != INTEGRITY:
            raise RaylightError(
                f"npm brought another file than the {PACKAGE} {VERSION} that Raylight was tested with: {found} instead of "
                f"{INTEGRITY}. It was not kept. {_ways_out(kept)}"
            )
        with tarfile.open(archives[0]) as archive:
            for name in reversed(FILES):  # package.json last: with it, the package is complete
                member = archive.extractfile(f"package/{name}")
                assert member is not None
                (kept / name).parent.mkdir(parents=True, exist_ok=True)
                write_atomically(kept / name, member.read())


def _ways_out(kept: Path) -> str:
    return (
        f"Install Node.js, which has npm, and connect; or fetch and unpack the package {PACKAGE} {VERSION} elsewhere and name "
        f"its folder: --runtime FOLDER; or copy {kept} from a machine that has it."
    )


def cache_folder() -> Path:
    """Where downloads are kept: ``RAYLIGHT_CACHE``, else ``~/.cache/raylight``."""
    return Path(os.environ.get("RAYLIGHT_CACHE") or Path.home() / ".cache" / "raylight")
