"""Python environments of their own for what a benchmark compares with, so that the project's isn't touched."""

import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Environment:
    """What one environment holds; it is made once, under a cache folder.

    Attributes:
        name: of its folder.
        packages: what is installed, as ``uv pip install`` takes it; nothing: the project's environment serves.
        on_project: packages are installed without their dependencies and see the project's behind their own.
        python: another interpreter than the project's, such as ``3.12``, for packages that ask for one.
    """

    name: str
    packages: tuple[str, ...] = ()
    on_project: bool = False
    python: str = sys.executable

    def interpreter(self, cache: Path) -> Path:
        """The environment's Python; what isn't there is installed first.

        Args:
            cache: folder of environments.

        Raises:
            subprocess.CalledProcessError: a package can't be installed; uv has printed why.
        """
        if not self.packages:
            return Path(sys.executable)
        folder = cache / self.name
        python, ready = folder / "bin" / "python", folder / "ready"
        if not ready.is_file():
            uv = Path(sys.executable).with_name("uv")
            subprocess.run([uv, "venv", "--quiet", "--clear", "--python", self.python, folder], check=True)
            # Compiled now, as the project's own are, so that no timing includes it.
            alone = ("--no-deps",) if self.on_project else ()
            options = ("--quiet", "--compile-bytecode", "--python", str(python), *alone)
            subprocess.run([uv, "pip", "install", *options, *self.packages], check=True)
            if self.on_project:
                packages = next(folder.glob("lib/python*/site-packages"))
                (packages / "project.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
            ready.touch()
        return python


def version_of(package: str, python: Path) -> str:
    """The version of an installed package.

    Args:
        package: as the index calls it.
        python: the environment's interpreter.
    """
    command = [str(python), "-c", f"from importlib.metadata import version; print(version({package!r}))"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
