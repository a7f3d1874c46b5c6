"""Sweeps as a user runs them: one table at the end, failures that stop nobody, going on after a kill, Optuna, agents."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from raylight.evaluation.predictions import read_csv
from raylight.storage.locks import locked
from tests.forked import ROOT, last_line, run_forked

Train = Callable[..., subprocess.CompletedProcess[str]]
SHORT = (
    "trainer=debug",
    "trainer.threads=1",
    "data.limit=40",
    "model.image_size=32",
    "model.dense=[8]",
    "decode=threads",
    "report.enabled=false",
    "report.plots=false",
)


def rows_of(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "comparison.csv").open() as file:
        return list(csv.DictReader(file))


def status_of(run: Path) -> dict[str, object]:
    status: dict[str, object] = json.loads((run / "status.json").read_text() or "{}")
    return status


@pytest.fixture(scope="module")
def resumed(
    train: Train, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], Path, str]:
    """A sweep of three jobs, killed in its second one and resumed; the third can't be trained. Also: when the first ended."""
    folder = tmp_path_factory.mktemp("killed")
    sweep = folder / "the sweep"
    command = [sys.executable, str(ROOT / "train.py"), "-m", f"hydra.sweep.dir='{sweep}'"]
    command += ["trainer.batch_size=8,500", "seed=1,2", "data.split_seed=1", *SHORT, "trainer.max_epochs=5"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    history = sweep / "1-demo-cnn2" / "history.csv"
    end = time.monotonic() + 120
    while not history.is_file() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert status_of(sweep / "1-demo-cnn2")["state"] == "running", "the kill came too late"
    ended = str(status_of(sweep / "0-demo-cnn2")["updated"])
    return train(f"resume={shlex.quote(str(sweep))}", cwd=folder), sweep, ended


def test_a_killed_sweep_goes_on_by_its_folder_alone(
    resumed: tuple[subprocess.CompletedProcess[str], Path, str],
) -> None:
    done, sweep, ended = resumed
    assert last_line(done) == sweep, done.stdout + done.stderr
    assert sorted(path.name for path in sweep.glob("*-demo-cnn2")) == [f"{n}-demo-cnn2" for n in range(4)]
    assert "0-demo-cnn2 has finished before; it isn't run again." in done.stdout
    assert status_of(sweep / "0-demo-cnn2")["updated"] == ended
    assert status_of(sweep / "1-demo-cnn2")["state"] == "finished"
    with (sweep / "1-demo-cnn2" / "history.csv").open() as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(5))
    assert json.loads((sweep / "1-demo-cnn2" / "overrides.json").read_text())[:3] == [
        "trainer.batch_size=8",
        "seed=2",
        "data.split_seed=1",
    ]
    assert OmegaConf.load(sweep / "1-demo-cnn2" / "config.yaml").logger.group == sweep.name


def test_failed_jobs_stop_nobody_and_make_the_sweep_fail(
    resumed: tuple[subprocess.CompletedProcess[str], Path, str],
) -> None:
    done, sweep, _ = resumed
    assert done.returncode == 1
    good, bad = rows_of(sweep)
    assert (good["trainer.batch_size"], good["jobs"], good["finished"]) == ("8", "2", "2")
    accuracies = [
        json.loads((sweep / f"{n}-demo-cnn2" / "metrics.json").read_text())["test/accuracy"]["value"] for n in (0, 1)
    ]
    assert float(good["test/accuracy"]) == pytest.approx(sum(accuracies) / 2)
    assert float(good["test/accuracy_low"]) <= min(accuracies)
    assert (bad["jobs"], bad["finished"], bad["test/accuracy"]) == ("2", "0", "")
    assert "trainer.batch_size: 500 is larger than the" in bad["failures"]
    assert "trainer.batch_size=500 seed=1: failed: trainer.batch_size: 500 is larger" in done.stdout


def test_the_table_is_in_a_wandb_run_of_its_own(resumed: tuple[subprocess.CompletedProcess[str], Path, str]) -> None:
    _, sweep, _ = resumed
    (table,) = (sweep / "wandb").glob("offline-run-*/files/media/table/comparison_*.table.json")
    logged = json.loads(table.read_text())
    assert logged["columns"][:2] == ["configuration", "trainer.batch_size"]
    assert [row[0] for row in logged["data"]] == ["trainer.batch_size=8", "trainer.batch_size=500"]


def test_what_is_not_a_sweep_is_not_resumed(train: Train, tmp_path: Path) -> None:
    done = train("+resume=elsewhere", cwd=tmp_path)
    assert done.returncode == 2
    assert "resume: 'elsewhere' is not the folder of a sweep" in done.stderr


@pytest.mark.long
def test_jobs_in_other_processes_get_the_same_table_and_exit_code(train: Train, tmp_path: Path) -> None:
    done = train("-m", "hydra/launcher=submitit_local", "trainer.batch_size=8,500", "logger=csv", *SHORT, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    good, bad = rows_of(last_line(done))
    assert float(good["test/accuracy"]) >= 0
    assert "500 is larger" in bad["failures"]


SEARCH = """
import os
import hydra
from hydra.core.config_store import ConfigStore
from raylight.config.schema import RunConfig

ConfigStore.instance().store(name="app", node=RunConfig)

def train(config):
    import pytorch_lightning as pl
    import torch
    from raylight.training.callbacks.pruning import pruning_callbacks

    class Model(pl.LightningModule):
        def training_step(self, batch, batch_idx):
            self.log("val/loss", config.loss.focal_gamma + 1 / (1 + self.current_epoch), on_epoch=True, on_step=False)

        def configure_optimizers(self):
            return None

    trainer = pl.Trainer(
        max_epochs=6, callbacks=pruning_callbacks("val/loss"), logger=False, enable_checkpointing=False, accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False,
    )
    trainer.fit(Model(), torch.utils.data.DataLoader([0]))
    print("epochs trained:", trainer.current_epoch)
    return float(trainer.callback_metrics["val/loss"])

@hydra.main(version_base="1.3", config_path=None, config_name="app")
def app(config):
    # What run_job returns to a sweeper: the validation metric, or None when the job failed.
    if config.data.limit == 3:
        return None
    if os.environ.get("STAND_IN_FOR_TRAINING"):
        return train(config)
    return (config.loss.focal_gamma - 2) ** 2 + config.data.limit

app()
"""
"""A stand-in for training whose best settings are known: ``data.limit=1 loss.focal_gamma=2``."""


@pytest.fixture
def search(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    (tmp_path / "app.py").write_text(SEARCH)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        always = ["-m", "hydra/sweeper=optuna", f"hydra.sweep.dir={tmp_path / 'study'}"]
        return run_forked(tmp_path / "app.py", [*always, *arguments], tmp_path, os.environ, timeout=300)

    return run


def test_optuna_finds_the_best_and_a_resumed_study_goes_on(
    search: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    import optuna
    from optuna.trial import TrialState

    space = ["loss.focal_gamma=interval(0.5,8.0)", "hydra.sweeper.params={data.limit: 'range(1,4)'}", "seed=7"]
    done = search(*space, "hydra.sweeper.n_trials=14", "hydra.sweeper.n_startup_trials=6")
    assert done.returncode == 0, done.stderr
    storage = f"sqlite:///{tmp_path / 'study' / 'optuna.db'}"
    study = optuna.load_study(study_name="raylight", storage=storage)
    states = {trial.state for trial in study.get_trials() if trial.params["data.limit"] == 3}
    assert states <= {TrialState.FAIL}
    assert {trial.state for trial in study.get_trials()} >= {TrialState.COMPLETE}
    found = OmegaConf.load(tmp_path / "study" / "optuna.yaml")
    assert found.direction == "minimize"  # as the configured val/loss asks
    assert found.best_params["data.limit"] == 1
    assert found.best_params["loss.focal_gamma"] == pytest.approx(2, abs=0.8)
    killed = study.ask({"data.limit": optuna.distributions.IntDistribution(1, 3)})
    done = search(*space, "hydra.sweeper.n_trials=16")
    assert done.returncode == 0, done.stderr
    trials = optuna.load_study(study_name="raylight", storage=storage).get_trials()
    assert len(trials) == 17
    assert trials[killed.number].state == TrialState.FAIL
    assert trials[killed.number + 1].params["data.limit"] == killed.params["data.limit"]


def test_a_search_that_is_still_running_is_left_alone(
    search: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    import optuna
    from optuna.trial import TrialState

    folder = tmp_path / "study"
    assert search("loss.focal_gamma=interval(0.5,8.0)", "hydra.sweeper.n_trials=1").returncode == 0
    study = optuna.load_study(study_name="raylight", storage=f"sqlite:///{folder / 'optuna.db'}")
    running = study.ask({"loss.focal_gamma": optuna.distributions.FloatDistribution(0.5, 8.0)})
    with locked(folder, "optuna.lock"):
        done = search("loss.focal_gamma=interval(0.5,8.0)", "hydra.sweeper.n_trials=3")
    assert done.returncode == 1
    assert f"{folder} is still being searched by another process; wait for it, or stop it first." in done.stderr
    assert study.get_trials()[running.number].state == TrialState.RUNNING
    assert len(study.get_trials()) == 2


def test_a_hopeless_trial_is_pruned(
    search: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import optuna

    monkeypatch.setenv("STAND_IN_FOR_TRAINING", "1")
    # Drawn at random: some are worse than the median of the two before.
    done = search("loss.focal_gamma=interval(0.5,8.0)", "hydra.sweeper.n_trials=6", "hydra.sweeper.n_startup_trials=2")
    assert done.returncode == 0, done.stderr
    trials = optuna.load_study(
        study_name="raylight", storage=f"sqlite:///{tmp_path / 'study' / 'optuna.db'}"
    ).get_trials()
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    assert pruned
    kept = [trial.params["loss.focal_gamma"] for trial in trials if trial.state.name == "COMPLETE"]
    assert all(trial.params["loss.focal_gamma"] > min(kept) for trial in pruned)
    assert all(len(trial.intermediate_values) == 3 for trial in pruned)  # two epochs are never pruned
    assert done.stdout.count("epochs trained: 3") == len(pruned)


@pytest.mark.long
def test_a_search_of_real_training_prunes_and_goes_on(train: Train, tmp_path: Path) -> None:
    """A learning rate of 50 learns nothing; the study knows, and a second call runs only what is missing."""
    import optuna

    sweep = tmp_path / "search"
    search = ("-m", "hydra/sweeper=optuna", f"hydra.sweep.dir={sweep}", "optimizer.lr=50,0.001", "logger=csv", *SHORT)
    search += ("trainer.max_epochs=4", "hydra.sweeper.seed=1", "hydra.sweeper.n_startup_trials=1")
    search += ("hydra.sweeper.prune_after=1",)
    done = train(*search, "hydra.sweeper.n_trials=3", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    storage = f"sqlite:///{sweep / 'optuna.db'}"
    trials = optuna.load_study(study_name="raylight", storage=storage).get_trials()
    states = {trial.params["optimizer.lr"]: trial.state.name for trial in trials}
    assert states == {"0.001": "COMPLETE", "50": "PRUNED"}
    (pruned,) = (trial for trial in trials if trial.state.name == "PRUNED")
    with (sweep / f"{pruned.number}-demo-cnn2" / "history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1"]
    found = OmegaConf.load(sweep / "optuna.yaml")
    assert (found.best_params, found.pruned_after_epoch) == ({"optimizer.lr": "0.001"}, {pruned.number: 1})
    assert (
        "Stopped early, because others were better at the same epoch: job 2 (epoch 2)"
        in (sweep / "comparison.md").read_text()
    )
    before = {path.name for path in sweep.glob("*-demo-cnn2")}
    done = train(*search, "hydra.sweeper.n_trials=4", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in sweep.glob("*-demo-cnn2")} - before == {"3-demo-cnn2"}
    assert len(rows_of(sweep)) == 2


def test_folds_sweep_like_anything_else(train: Train, tmp_path: Path) -> None:
    command = ("-m", "data.folds=3", "data.fold=0,1,2", f"hydra.sweep.dir={tmp_path / 'folds'}", "logger=csv", *SHORT)
    done = train(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = rows_of(last_line(done))
    assert (row["jobs"], row["finished"]) == ("3", "3")
    assert float(row["test/accuracy_sd"]) >= 0
    for fold in range(3):
        run = tmp_path / "folds" / f"{fold}-demo-cnn2"
        held = read_csv(run / "held_out.csv")
        assert set(held.splits) == {"val"}
        assert list(held.paths) == list(read_csv(run / "predictions.csv").subset("val").paths)
    assert float(row["seconds"]) > 0
    assert float(row["peak_memory_gb"]) > 0.1
    again = train(*command, cwd=tmp_path)  # the same command into the same folder: nothing is left to do
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("it isn't run again") == 3
    assert rows_of(last_line(again)) == [row]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=7"], "has nothing to search"),
        (["hydra.sweeper.params={trainer.bach_size: '8,16'}"], "did you mean 'trainer.batch_size'?"),
        (["seed=1,2", "hydra.sweeper.direction=up"], "'up' is neither minimize nor maximize"),
    ],
)
def test_optuna_refuses_what_cannot_be_searched(
    search: Callable[..., subprocess.CompletedProcess[str]], overrides: list[str], message: str
) -> None:
    done = search(*overrides)
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed=1,2", "CategoricalDistribution(choices=('1', '2'))"),
        ("model.dense=[8],[16,8]", "CategoricalDistribution(choices=('[8]', '[16,8]'))"),
        ("seed=range(2,9,3)", "IntDistribution(high=8, log=False, low=2, step=3)"),
        ("seed=int(interval(1,64))", "IntDistribution(high=64, log=False, low=1, step=1)"),
        ("seed=tag(log,interval(1e-4,1e-1))", "FloatDistribution(high=0.1, log=True, low=0.0001, step=None)"),
    ],
)
def test_hydras_grammar_becomes_a_search_space(text: str, expected: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from hydra_plugins.raylight_optuna_sweeper.space import distribution

    assert str(distribution(OverridesParser.create().parse_override(text))) == expected


def test_an_agents_command_line_trains(train: Train, tmp_path: Path) -> None:
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args, load_sweep_config

    sweep = load_sweep_config(str(ROOT / "experiments" / "wandb_sweep" / "sweep.yaml"))
    assert sweep is not None
    values = {
        name: {"value": options.get("value", options.get("values", [options.get("min")])[0])}
        if "value" not in options
        else options
        for name, options in sweep["parameters"].items()
    }
    flags = create_sweep_command_args({"args": values})["args_no_hyphens"]
    command = create_sweep_command(sweep["command"])
    position = command.index("${args_no_hyphens}")
    assert command[:position] == ["${env}", "python", sweep["program"]]
    done = train(*flags, *command[position + 1 :], *SHORT, "logger=csv", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = last_line(done)
    assert OmegaConf.load(run / "config.yaml").optimizer.lr == sweep["parameters"]["optimizer.lr"]["min"]
    # What the search follows is what a run's summary holds.
    from raylight.report.results import Selection, _summary

    assert sweep["metric"]["name"] in _summary({}, Selection("val/loss", 0.5, 1, 2))
