"""The environment that the README's own two commands make, without those packages that only development needs.

Its site-packages holds links to what this environment has of the distributions that ``.[export,labels,sweeper]`` requires, by
their metadata. Commands are forked as in ``tests.forked``, with this environment's paths in the place of development's.
"""

import csv
import importlib.metadata
import subprocess
import sys
import sysconfig
import venv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from tests.forked import ROOT, run_forked

INSTALLED = ("raylight[export,labels,sweeper]", "pip", "uv")
"""What ``make train`` installs."""


@dataclass(frozen=True)
class UserEnvironment:
    """A virtual environment.

    Attributes:
        python: its interpreter.
    """

    python: Path

    @classmethod
    def made(cls, folder: Path) -> "UserEnvironment":
        """In a folder that doesn't exist yet."""
        venv.create(folder, symlinks=True)
        python = folder / "bin" / "python"
        ours = Path(sysconfig.get_path("purelib"))
        names = required(INSTALLED)
        owners: dict[str, set[str]] = defaultdict(set)
        for distribution in importlib.metadata.distributions(path=[str(ours)]):
            name = canonical(distribution.metadata["Name"])
            for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
                place = row[0]
                while place and name not in owners[place]:
                    owners[place].add(name)
                    place = place.rpartition("/")[0]
        (theirs,) = (folder / "lib").glob("python*/site-packages")
        _link(ours, theirs, "", owners, names)
        (theirs / "checkout.pth").write_text(str(ROOT / "src"))
        script = python.with_name("raylight")
        script.write_text(f"#!{python}\nfrom raylight.cli import main\n\nmain()\n")
        script.chmod(0o755)
        return cls(python)

    def run(
        self, script: Path, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """``python SCRIPT ARGUMENTS`` in a forked process that sees this environment's packages alone."""
        return run_forked(script, arguments, cwd, environment, timeout=500, python=self.python)


def canonical(name: str) -> str:
    """A distribution's name, however it is written."""
    return name.lower().replace("_", "-").replace(".", "-")


def required(wanted: Sequence[str]) -> set[str]:
    """The distributions that some require, themselves and theirs included."""
    found, left = set(), [Requirement(text) for text in wanted]
    while left:
        one = left.pop()
        key = (canonical(one.name), *sorted(one.extras))
        if key in found:
            continue
        found.add(key)
        for text in importlib.metadata.requires(one.name) or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in one.extras or {""}):
                left.append(needed)
    return {name for name, *_ in found}


def _link(ours: Path, theirs: Path, place: str, owners: Mapping[str, set[str]], names: set[str]) -> None:
    """Link what belongs to these distributions alone; of folders that are shared with others, their part."""
    for path in (ours / place).iterdir():
        entry = f"{place}/{path.name}".lstrip("/")
        if not owners.get(entry, set()) & names or path.suffix == ".pth":
            continue
        if owners[entry] <= names or not path.is_dir():
            (theirs / entry).symlink_to(path)
        else:
            (theirs / entry).mkdir()
            _link(ours, theirs, entry, owners, names)


def use(python: Path) -> None:
    """Let this process see the packages of a virtual environment in the place of its own, and forget the other ones."""
    (theirs,) = (python.parents[1] / "lib").glob("python*/site-packages")
    ours = sysconfig.get_path("purelib")
    sys.path[:] = [str(theirs) if path == ours else path for path in sys.path]
    sys.path_importer_cache.clear()
    for name, module in list(sys.modules.items()):
        place = getattr(module, "__file__", None) or ""
        lacking = place.startswith(f"{ours}/") and not (theirs / Path(place).relative_to(ours)).exists()
        if lacking or name.partition(".")[0] == "raylight":  # which may have seen what is lacking
            del sys.modules[name]
    sys.executable, sys.prefix, sys.exec_prefix = str(python), str(python.parents[1]), str(python.parents[1])
