"""What a machine, or somebody, does to a run: each fault is real, and each ends in a correct result or in a sentence.

    python -m experiments.reliability.faults            all of them; the soak runs them, too

Needs the right to mount a small tmpfs and to leave the network; a fault that isn't permitted here is reported as such.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from experiments.reliability.commands import TINY, Commands, changed, differences, result_of, unfinished_files
from PIL import Image

from raylight.storage.locks import LOG_FILE

WRONG = "WRONG"
"""How the outcome of a fault begins that led to something else than it should have."""


class NotPermittedError(Exception):
    """This machine doesn't let us cause the fault."""


class Outcome(NamedTuple):
    """What a fault led to.

    Attributes:
        fault: in words.
        outcome: what happened, in words.
        exit_code: of the command that met the fault.
    """

    fault: str
    outcome: str
    exit_code: int | str


@contextmanager
def small_disk(place: Path, size: str, options: str = "") -> Iterator[Path]:
    """A tmpfs of that size."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        raise NotPermittedError("mounting a small tmpfs needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@dataclass(frozen=True)
class Disk:
    """An ext4 file system in a file, whose power can be cut.

    Attributes:
        place: where it is mounted.
        image: the file; it holds what has been written through to the disk, and nothing that only the system's memory knows.
    """

    place: Path
    image: Path

    def cut_power(self) -> None:
        """From now on the place shows what was on the disk at this moment."""
        saved = self.image.with_suffix(".saved")
        shutil.copyfile(self.image, saved)
        subprocess.run(["umount", "-l", str(self.place)], check=True)  # a killed process may not be gone yet
        saved.replace(self.image)
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.place)], check=True)


@contextmanager
def pluggable_disk(place: Path, megabytes: int = 64) -> Iterator[Disk]:
    """A disk of that size, which commits nothing by itself for five minutes."""
    if shutil.which("mkfs.ext4") is None:
        raise NotPermittedError("cutting a disk's power needs mkfs.ext4")
    place.mkdir()
    image = place.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    mount = ["mount", "-o", "loop,commit=300", str(image), str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        raise NotPermittedError("mounting a disk in a file needs root")
    try:
        yield Disk(place, image)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
        image.unlink()


class Faults:
    """The faults, each a method; all begin from the same undisturbed run."""

    def __init__(self, folder: Path, commands: type[Commands] = Commands) -> None:
        self.folder = folder
        self.commands = commands
        self.images = folder / "pictures"
        draw(self.images)
        self.words = (*TINY, "data=folder", f"data.root={self.images}")
        self.cache = folder / "cache"
        self.reference = self._finished(self._commands("reference"), *self.words)

    def all(self) -> dict[str, Callable[[], Outcome]]:
        """Every fault by its name."""
        names = [
            name
            for name in vars(Faults)
            if name.startswith(("disk", "power", "read", "memory", "network", "clock", "run", "image"))
        ]
        names += [name for name in vars(Faults) if name.startswith(("checkpoint", "status", "weights"))]
        return {name: getattr(self, name) for name in names}

    def disk_full_while_training(self) -> Outcome:
        """The run folder's disk fills up at a checkpoint; once there is room, the run goes on."""
        with small_disk(self.folder / "disk", "60k") as disk:
            commands = self.commands(disk, self.cache)
            code, output = commands.run(*self.words)
            self._sentence(output, "the disk is full")
            assert code == 1, output
            subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
            (run,) = commands.runs()
            self._resumed(commands, run)
        return Outcome(
            "the run folder's disk is full", "a sentence; resumed once there was room: the same result", code
        )

    def disk_full_under_the_image_cache(self) -> Outcome:
        """There is no room for the decoded images."""
        with small_disk(self.folder / "cachedisk", "400k") as disk:
            commands = self._commands("nocache", disk)
            code, output = commands.run(*self.words, "model.image_size=128")
            self._sentence(output, "cache_dir=FOLDER")
            assert code != 0
            assert not unfinished_files(disk), unfinished_files(disk)
        return Outcome("the cache's disk has no room for the images", "a sentence with figures and remedies", code)

    def disk_full_under_the_features(self) -> Outcome:
        """There is no room for the outputs of the frozen layers, which are kept in a memory map."""
        with small_disk(self.folder / "featuredisk", "64k") as disk:
            commands = self._commands("nofeatures")
            words = [word for word in self.words if "channels" not in word]
            code, output = commands.run(
                *words,
                "model.channels=[32,64]",
                *self._pretrained("[32,64]"),
                "finetune=last_blocks",
                f"finetune.cache_dir={disk}",
            )
            self._sentence(output, "finetune.cache=false")
            assert code == 1, output
        return Outcome(
            "no room for the frozen layers' outputs", "a sentence with remedies; no crash of the memory map", code
        )

    def power_cut_while_training(self) -> Outcome:
        """What hadn't reached the disk is gone; the run goes on from what had."""
        words = changed(self.words, "trainer.max_epochs=60")
        whole = self._finished(self._commands("undisturbed"), *words)
        with pluggable_disk(self.folder / "plug") as disk:
            commands = self.commands(disk.place, self.cache)
            process = commands.start(*words)
            self._wait(commands, process, "training", "checkpoints/last.ckpt")
            process.kill()
            disk.cut_power()
            process.communicate(timeout=300)
            (run,) = commands.runs()
            lost = json.loads((run / "status.json").read_text())["state"]
            assert lost == "running", lost
            code, output = commands.run("resume", str(run))
            assert code == 0, output
            assert differences(result_of(run), result_of(whole)) == []
        return Outcome("the power is cut while training", "resumed from the last whole epoch: the same result", code)

    def power_cut_once_finished(self) -> Outcome:
        """A run that said that it has finished has."""
        with pluggable_disk(self.folder / "plugged") as disk:
            run = self._finished(self.commands(disk.place, self.cache), *self.words, "report.enabled=true")
            told = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != LOG_FILE}
            disk.cut_power()
            lost = [path.name for path, content in told.items() if not path.is_file() or path.read_bytes() != content]
            assert lost == [], lost
            assert len(told) > 10
            self._same(run)
        return Outcome("the power is cut right after the end", "nothing is lost", 0)

    def read_only_working_directory(self) -> Outcome:
        """The working directory can't be written."""
        with small_disk(self.folder / "readonly", "1m", ",ro") as disk:
            code, output = self.commands(disk, self.cache).run(*self.words)
            self._sentence(output, "The run folder can't be made")
            assert code in (1, 2), output
        return Outcome("the working directory is read-only", "a sentence before any work", code)

    def read_only_cache(self) -> Outcome:
        """The cache can't be written."""
        with small_disk(self.folder / "readonlycache", "1m", ",ro") as disk:
            code, output = self._commands("readonlycaches", disk).run(*self.words)
            self._sentence(output, "can't be written")
            assert code in (1, 2), output
        return Outcome("the cache is read-only", "a sentence that names cache_dir", code)

    def memory_runs_out(self) -> Outcome:
        """Once training has begun the process may take 300 MB more: enough for a thread, too little for a batch."""
        commands = self._commands("memory")
        process = commands.start(
            *self.words, "model.image_size=160", "model.channels=[512,512]", "trainer.max_epochs=50"
        )
        self._wait(commands, process, "training")
        taken = next(
            int(line.split()[1]) * 1024
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
            if line.startswith("VmSize")
        )
        resource.prlimit(process.pid, resource.RLIMIT_AS, (taken + 300_000_000,) * 2)
        output = self._ended(process)
        self._sentence(output, "not enough memory")
        assert process.returncode == 1, output
        return Outcome("memory runs out while training", "a sentence that names trainer.batch_size", process.returncode)

    def network_is_missing(self) -> Outcome:
        """A network namespace with nothing in it; W&B is offline, as by default."""
        if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
            raise NotPermittedError("leaving the network needs root")
        commands = self._commands("nonetwork")
        words = [word for word in self.words if word != "logger=csv"]
        code, output = commands.run(*words, prefix=("unshare", "-n"))
        assert code == 0, output
        self._same(commands.runs()[-1])
        return Outcome("no network", "the same result; W&B's files wait in the run folder", code)

    def network_is_missing_for_wandb_online(self) -> Outcome:
        """The same namespace, and a run that wants W&B's server."""
        if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
            raise NotPermittedError("leaving the network needs root")
        commands = self._commands("online")
        commands.environment = {"WANDB_MODE": "online", "WANDB_API_KEY": "0" * 40}
        words = changed(self.words, "logger=wandb", "logger.mode=online")
        code, output = commands.run(*words, prefix=("unshare", "-n"))
        self._sentence(output, "W&B can't be used online")
        assert code == 1, output
        assert "0" * 40 not in output, output
        return Outcome("no network, with W&B online", "after a minute a sentence with two ways out", code)

    def clock_is_set_forward_and_back(self) -> Outcome:
        """All images seem to come from the future, then from 1970; nothing but their content counts."""
        commands = self._commands("clock")
        for moment in (4_000_000_000, 1):
            for path in self.images.rglob("*.png"):
                os.utime(path, (moment, moment))
            self._same(self._finished(commands, *self.words))
        return Outcome("the clock is set forward, then back", "files are read anew; the same result twice", 0)

    def images_removed_while_training(self) -> Outcome:
        """The folder of images goes away once they are decoded."""
        commands = self._commands("removed")
        process = commands.start(
            *[w for w in self.words if not w.startswith(("report", "trainer.max"))], "trainer.max_epochs=25"
        )
        self._wait(commands, process, "training")
        away = self.images.with_name("away")
        self.images.rename(away)
        try:
            output = self._ended(process)
        finally:
            away.rename(self.images)
        assert process.returncode == 0, output
        run = commands.runs()[-1]
        assert (run / "report.html").is_file()
        assert len((run / "predictions.csv").read_text().splitlines()) == len(
            (self.reference / "predictions.csv").read_text().splitlines()
        )
        return Outcome(
            "all images are removed while training", "finished, with a report that says which pictures it lacks", 0
        )

    def run_folder_moved_while_training(self) -> Outcome:
        """Somebody tidies up; where the run folder is now, the run goes on."""
        commands = self._commands("moved")
        process = commands.start(*changed(self.words, "trainer.max_epochs=100000"))
        self._wait(commands, process, "training", "checkpoints/last.ckpt")
        (run,) = commands.runs()
        away = run.rename(run.with_name("elsewhere"))
        output = self._ended(process)
        self._sentence(output, "was removed or moved while the run wrote into it")
        assert process.returncode == 1, output
        text = (away / "config.yaml").read_text()
        (away / "config.yaml").write_text(text.replace("max_epochs: 100000", "max_epochs: 1"))
        code, again = commands.run("resume", str(away))
        assert code == 0, again
        return Outcome("the run folder is moved away", "a sentence; resumed where it is now", process.returncode)

    def image_changed_before_resuming(self) -> Outcome:
        """Going on would mix two data sets."""
        commands = self._commands("changed")
        process = commands.start(*self.words, "trainer.max_epochs=100000")
        self._wait(commands, process, "training", "checkpoints/last.ckpt")
        process.terminate()
        process.communicate(timeout=300)
        (run,) = commands.runs()
        changed = min(self.images.rglob("*.png"))
        content = changed.read_bytes()
        changed.write_bytes(max(self.images.rglob("*.png")).read_bytes())
        try:
            code, output = commands.run("resume", str(run))
        finally:
            changed.write_bytes(content)
        self._sentence(output, "would mix two data sets")
        assert code == 2, output
        return Outcome("an image is another one when the run is resumed", "refused, with the file's name", code)

    def checkpoint_of_an_attacker(self) -> Outcome:
        """``last.ckpt`` holds code."""
        commands = self._commands("attacked")
        proof = self.folder / "proof"
        process = commands.start(*self.words, "trainer.max_epochs=100000")
        self._wait(commands, process, "training", "checkpoints/last.ckpt")
        process.kill()
        process.communicate(timeout=300)
        (run,) = commands.runs()

        class Evil:
            def __reduce__(self) -> tuple[object, tuple[str, str]]:
                return (Path.write_text, (proof, "executed"))

        torch.save({"state_dict": Evil(), "epoch": 1}, run / "checkpoints" / "last.ckpt")
        code, output = commands.run("resume", str(run))
        self._sentence(output, "could run code")
        assert code == 1, output
        assert not proof.exists()
        return Outcome("a checkpoint that holds code", "refused; the code isn't run", code)

    def status_of_a_reused_process_number(self) -> Outcome:
        """After SIGKILL, another process bears the number that ``status.json`` holds."""
        commands = self._commands("reused")
        process = commands.start(*self.words, "trainer.max_epochs=100000")
        self._wait(commands, process, "training", "checkpoints/last.ckpt")
        process.kill()
        process.communicate(timeout=300)
        (run,) = commands.runs()
        status = json.loads((run / "status.json").read_text())
        assert status["state"] == "running"
        (run / "status.json").write_text(json.dumps({**status, "pid": os.getpid(), "host": "another"}))
        text = (run / "config.yaml").read_text()
        (run / "config.yaml").write_text(text.replace("max_epochs: 100000", "max_epochs: 1"))
        code, output = commands.run("resume", str(run))
        assert "still being trained" not in output, output
        return Outcome(
            "status.json says running, its process number is another's now", "recognised as interrupted", code
        )

    def _commands(self, name: str, cache: Path | None = None) -> Commands:
        folder = self.folder / name
        folder.mkdir()
        return self.commands(folder, cache or self.cache)

    def _finished(self, commands: Commands, *words: str) -> Path:
        code, output = commands.run(*words)
        assert code == 0, output
        return commands.runs()[-1]

    def _resumed(self, commands: Commands, run: Path) -> None:
        code, output = commands.run(f"run={run}")
        assert code == 0, output
        self._same(run)

    def _same(self, run: Path) -> None:
        assert differences(result_of(run), result_of(self.reference)) == []
        assert unfinished_files(run) == []

    def _pretrained(self, channels: str) -> tuple[str, ...]:
        commands = self._commands("pretraining")
        words = [word for word in self.words if not word.startswith(("model.channels", "trainer.max"))]
        run = self._finished(commands, *words, f"model.channels={channels}", "trainer.max_epochs=1")
        return (f"model.weights={run / 'model.safetensors'}",)

    @staticmethod
    def _ended(process: subprocess.Popen[str]) -> str:
        try:
            return process.communicate(timeout=500)[0]
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise AssertionError("it hung") from error

    @staticmethod
    def _wait(commands: Commands, process: subprocess.Popen[str], stage: str, file: str | None = None) -> None:
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline and process.poll() is None:
            for run in commands.runs():
                text = (run / "status.json").read_text()
                if f'"stage": "{stage}"' in text and (file is None or (run / file).is_file()):
                    return
            time.sleep(0.02)
        process.kill()
        raise AssertionError(f"never came to {stage}: {process.communicate()[0]}")

    @staticmethod
    def _sentence(output: str, wanted: str) -> None:
        assert wanted in output, output
        assert "Traceback" not in output, output


def draw(folder: Path, count: int = 20) -> None:
    """Two classes of noise, of which one is brighter."""
    generator = np.random.default_rng(3)
    for label, low in (("dark", 0), ("light", 90)):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(low, low + 160, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")


def outcomes(only: list[str] | None = None) -> Iterator[tuple[str, Outcome]]:
    """Causes the faults, one after the other, and says what each led to."""
    folder = Path(tempfile.mkdtemp(prefix="raylight-faults-"))
    try:
        faults = Faults(folder)
        for name, cause in faults.all().items():
            if only and name not in only:
                continue
            try:
                yield name, cause()
            except NotPermittedError as error:
                yield name, Outcome(name.replace("_", " "), f"not tried: {error}", "")
            except (AssertionError, subprocess.TimeoutExpired) as error:
                yield name, Outcome(name.replace("_", " "), f"{WRONG}: {str(error)[-1500:]}", "")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Print each fault and what happened."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("only", nargs="*", help="names of faults; all without")
    wrong = 0
    for name, outcome in outcomes(parser.parse_args().only):
        wrong += outcome.outcome.startswith(WRONG)
        print(f"{name}: {outcome.outcome} (exit code {outcome.exit_code})", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
