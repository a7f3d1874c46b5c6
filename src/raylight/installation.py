"""Whether Raylight is a checkout or an installed package, and its commands in either case."""

import importlib.util
import shlex
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parents[1] if (PACKAGE.parents[1] / "train.py").is_file() else None
"""The folder with ``pyproject.toml`` and ``train.py``; None where Raylight was installed from a wheel."""
OPTION_FILES = CHECKOUT / "conf" if CHECKOUT else PACKAGE / "conf"
"""The folder with ``train.yaml``; a wheel has it inside the package."""
TRAIN = "python train.py" if CHECKOUT else "raylight train"
"""The command that trains."""


def project_options() -> Path | None:
    """The folder ``conf/`` of the project that the working directory is; None where it has none, or is our checkout."""
    folder = Path.cwd() / "conf"
    return folder if folder.is_dir() and folder.resolve() != OPTION_FILES.resolve() else None


def join_project() -> None:
    """Make the packages of a project importable where the working directory is one, as ``python -m`` would.

    They come last: none takes the place of an installed package.
    """
    if project_options() and (folder := str(Path.cwd())) not in sys.path:
        sys.path.append(folder)


def install_command(extra: str) -> str:
    """The command that brings one of the optional parts into the environment that this process runs in.

    Args:
        extra: a name of ``[project.optional-dependencies]`` in ``pyproject.toml``.
    """
    if CHECKOUT is None:
        return f"pip install 'raylight[{extra}]'"
    python = shlex.quote(sys.executable)
    installer = f"{python} -m pip install" if importlib.util.find_spec("pip") else f"uv pip install --python {python}"
    return f"{installer} -c {shlex.quote(str(CHECKOUT / 'constraints.txt'))} -e {shlex.quote(f'{CHECKOUT}[{extra}]')}"
