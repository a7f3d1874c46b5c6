"""What the README tells people to type does what it says, and what it names is there.

The commands run as they stand there, in the environment that its own two commands make, on a small data set in the place of
PATH, cut short by settings added at their end.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from raylight.cli import app
from tests.forked import ROOT, last_line
from tests.user_environment import INSTALLED, UserEnvironment

README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("  #")[0].split(" #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]


TRAINING = [command for command in COMMANDS if command.startswith("python train.py")]
CUT = (
    "trainer=debug",
    "trainer.threads=1",
    "trainer.batch_size=4",
    "decode=threads",
    "logger=none",
    "report.enabled=false",
    "report.plots=false",
)


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> UserEnvironment:
    return UserEnvironment.made(tmp_path_factory.mktemp("user") / "env")


def train(user: UserEnvironment, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return user.run(ROOT / "train.py", arguments, cwd, os.environ)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films and photos, each with two classes in folders, in train and test."""
    root, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 4)):
        for label in ("films/{}/NORMAL", "films/{}/PNEUMONIA", "photos/{}/cat", "photos/{}/dog"):
            folder = root / label.format(split)
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(
                    folder / f"IM-{number:04d}-0001.png"
                )  # named like films, which data=xray groups by patient
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """State dicts in the place of downloaded ones."""
    folder = tmp_path_factory.mktemp("weights")

    def path(model: str) -> str:
        import torch
        import torchvision

        torch.manual_seed(0)
        torch.save(torchvision.models.get_model(model).state_dict(), folder / f"{model}.pt")
        return str(folder / f"{model}.pt")

    return path


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=pytest.mark.long if "efficientnet" in command else (), id=command)
        for command in TRAINING
        if "model=timm" not in command
    ],
)
def test_each_training_command_runs(
    command: str,
    images: Path,
    weights: Callable[[str], str],
    user: UserEnvironment,
    tmp_path: Path,
) -> None:
    arguments = shlex.split(command.replace("PATH", str(images / "photos")))[2:]
    if "--cfg" not in arguments:
        arguments += CUT
        pretrained = re.search(r"resnet18|mobilenet_v2|mobilenet|efficientnet_b0", command)
        if pretrained:
            name = {"mobilenet": "mobilenet_v2"}.get(pretrained[0], pretrained[0])
            arguments += [f"model.weights={weights(name)}", "model.image_size=64"]
        else:
            arguments.append("model.image_size=32")
        if not any(word.startswith("data.root=") or word == "data=xray" for word in arguments):
            arguments.append("data.limit=40")
        if "finetune=two_phase" in arguments:
            arguments.append("trainer.max_epochs=6")
        if "data=xray" in arguments:
            arguments.append(f"data.root={images / 'films'}")
    done = train(user, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    if "--cfg" in arguments:
        assert "batch_size: 32" in done.stdout
    else:
        written = last_line(done)
        assert (written / ("comparison.csv" if "-m" in arguments else "metrics.json")).is_file()


@pytest.mark.long  # and asks a package index
def test_a_command_that_needs_an_extra_names_the_command_that_brings_it(user: UserEnvironment, tmp_path: Path) -> None:
    """Pip does all that it would do but install: it reads the constraints, builds the checkout's metadata, finds versions."""
    (command,) = [shlex.split(command) for command in TRAINING if "model=timm" in command]
    done = train(user, *command[2:], cwd=tmp_path)
    assert done.returncode == 2
    (remedy,) = re.findall(r"timm isn't installed; install it with: (.*)", done.stderr)
    program, *arguments = shlex.split(remedy)
    assert Path(program) == user.python
    tried = subprocess.run(
        [program, *arguments, "--dry-run"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert tried.returncode == 0, tried.stdout + tried.stderr
    (would,) = re.findall("Would install (.*)", tried.stdout)
    assert "timm-" in would
    assert "torch-" not in would.split()


def raylight(user: UserEnvironment, arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return user.run(user.python.with_name("raylight"), arguments, cwd, os.environ)


@pytest.fixture(scope="module")
def run_folder(user: UserEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    done = train(user, *CUT, "model.image_size=32", "data.limit=40", cwd=tmp_path_factory.mktemp("run"))
    return last_line(done)


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if re.match(r"raylight (evaluate|predict|compare|export|resume) ", c)]
)
def test_each_command_on_a_run_works(
    command: str, user: UserEnvironment, run_folder: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").symlink_to(images / "photos")
    Image.open(next(images.rglob("*.png"))).save(tmp_path / "photo.jpg")
    second = tmp_path / "second"
    shutil.copytree(run_folder, second)
    arguments = shlex.split(command.replace("RUN RUN", f"RUN '{second}'").replace("RUN", shlex.quote(str(run_folder))))
    done = raylight(user, arguments[1:], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() or done.stderr.strip()


def test_labels_of_a_cross_validation_and_audits_work(user: UserEnvironment, run_folder: Path, tmp_path: Path) -> None:
    commands = [shlex.split(c) for c in COMMANDS if re.match(r"raylight (labels|audit) ", c)]
    assert {command[1] for command in commands} == {"labels", "audit"}
    folds = ("-m", "data.folds=2", "data.fold=0,1")
    sweep = last_line(train(user, *folds, *CUT, "model.image_size=32", "data.limit=40", cwd=tmp_path))
    for command in commands:
        arguments = [{"RUN": str(run_folder), "SWEEP": str(tmp_path / sweep)}.get(word, word) for word in command[1:]]
        done = raylight(user, arguments, tmp_path)
        assert done.returncode in (0, 1), done.stdout + done.stderr  # 1: there are findings
        assert "Traceback" not in done.stderr
        assert done.stdout.strip()


def test_the_page_is_served(user: UserEnvironment, run_folder: Path, tmp_path: Path) -> None:
    """In a process that starts anew."""
    (command,) = [shlex.split(c) for c in COMMANDS if c.startswith("raylight serve ")]
    arguments = [str(run_folder) if word == "RUN" else word for word in command[1:]]
    program = user.python.with_name("raylight")
    with subprocess.Popen(
        [str(program), *arguments, "--port", "0"],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as serving:
        assert serving.stdout is not None
        try:
            told = next(line for line in serving.stdout if "http://" in line)
            with urllib.request.urlopen(re.findall(r"http://[\w.:]+", told)[0], timeout=60) as page:
                assert b"<form" in page.read()
        finally:
            serving.send_signal(signal.SIGINT)
        assert serving.wait(timeout=60) == 0


def test_the_mistakes_shown_are_answered_as_shown(user: UserEnvironment, tmp_path: Path) -> None:
    ((command, answer),) = re.findall(r"```text\n\$ python train.py (.*)\n([^`]*)```", README)
    done = train(user, *shlex.split(command), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, answer)


def test_the_set_up_brings_what_the_commands_need() -> None:
    (installed,) = re.findall(
        r"--editable '\.\[([a-z,]+)\]'\n\t@touch", (ROOT / "Makefile").read_text().split("ready-dev:")[0]
    )
    assert f"raylight[{installed}]" in INSTALLED


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("raylight ")])
def test_each_command_exists_and_lists_its_exit_codes(command: str) -> None:
    result = CliRunner().invoke(app, [command.split()[1], "--help"])
    assert result.exit_code == 0
    assert "Exit codes:" in result.output


def test_each_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)", README)) <= targets


def test_the_tree_shows_every_room() -> None:
    rooms = re.findall(r"^  (\w+)/ ", README, re.MULTILINE)
    folders = {path.parent.name for path in (ROOT / "src" / "raylight").glob("*/__init__.py")}
    assert set(rooms) == folders


def test_it_stays_short() -> None:
    assert len(README.splitlines()) < 176
