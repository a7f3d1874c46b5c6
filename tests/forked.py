"""Commands run in processes forked from one that has imported the heavy libraries already.

A user waits for these imports once a command; a suite of some forty commands would wait for them forty times. What runs is
the same: a process of its own, with its own arguments, folder, environment, output files and exit code. Tests of start-up,
of signals and of the first whole run start Python anew.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Not wandb: its temporary folder would be the same for all, and the first process to end would remove it.
PRELOADED = [
    "hydra.main",
    "jinja2",
    "matplotlib.pyplot",
    "optuna",
    "pandas.io.formats.style",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "pytorch_lightning",
    "raylight.auditing.dataset",
    "raylight.pipeline.command",
    "raylight.pipeline.job",
    "raylight.pipeline.judge",
    "raylight.pipeline.learner",
    "raylight.training.distributed.launch",
    "requests",
    "safetensors.torch",
    "scipy.stats",
    "sklearn.ensemble",
    "sklearn.metrics",
    "statsmodels.nonparametric.smoothers_lowess",
    "torchvision.transforms.v2",
]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(PRELOADED)


def run_forked(
    script: Path,
    arguments: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    timeout: float,
    python: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``python SCRIPT ARGUMENTS`` and wait for its end; where a Python is given, with its environment's packages."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [str(Path(folder) / name) for name in ("stdout", "stderr")]
        process = _context.Process(
            target=_as_command, args=(script, [*arguments], str(cwd), dict(environment), outputs, python)
        )
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired([str(script), *arguments], timeout)
        assert process.exitcode is not None
        return subprocess.CompletedProcess(
            [sys.executable, str(script), *arguments],
            process.exitcode,
            *(Path(output).read_text(errors="surrogateescape") for output in outputs),
        )


def _as_command(
    script: Path, arguments: list[str], cwd: str, environment: dict[str, str], outputs: list[str], python: Path | None
) -> None:
    """What Python does between its start and its end, in a child that was forked."""
    for descriptor, output in enumerate(outputs, start=1):
        file = os.open(output, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, descriptor)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    if python is not None:
        from tests.user_environment import use

        use(python)
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.parent))
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()


def last_line(done: subprocess.CompletedProcess[str]) -> Path:
    """The run folder that a finished command printed."""
    return Path(done.stdout.strip().splitlines()[-1])
