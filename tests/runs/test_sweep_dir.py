"""Which runs a sweep's folder holds, and which was which job."""

from pathlib import Path

from raylight.runs.run_dir import RunDir
from raylight.runs.sweep_dir import earlier_run, run_folders, unused_folder


def run(folder: Path, *overrides: str, whole: bool = True) -> Path:
    folder.mkdir(parents=True)
    if whole:
        RunDir(folder).write_json("overrides.json", list(overrides))
        (folder / "config.yaml").touch()
        (folder / "status.json").write_text("{}")
    else:
        (folder / "status.json").touch()
    return folder


def test_runs_come_in_the_order_of_their_jobs_from_any_depth(tmp_path: Path) -> None:
    paths = [run(tmp_path / name) for name in ("2-a", "10-a", "deep/er/1-a")]
    run(tmp_path / ".hidden" / "0-a")
    run(tmp_path / "1/2/3/4/0-a")
    (tmp_path / "no run").mkdir()
    assert [found.path for found in run_folders(tmp_path)] == [paths[2], paths[0], paths[1]]


def test_a_job_is_known_by_its_choices_however_they_were_written(tmp_path: Path) -> None:
    first = run(tmp_path / "0-a", "model=cnn2", "seed=1")
    run(tmp_path / "1-a", "model=cnn2", "seed=2", whole=False)
    found = earlier_run(tmp_path, ["++seed=1", "resume=elsewhere", "model=cnn2"])
    assert found is not None
    assert found.path == first
    assert earlier_run(tmp_path, ["model=cnn2", "seed=2"]) is None  # killed before its first word
    assert earlier_run(tmp_path, ["model=cnn2"]) is None


def test_a_folder_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    assert unused_folder(tmp_path / "0-a") == tmp_path / "0-a"
    run(tmp_path / "0-a")
    run(tmp_path / "0-a-2")
    assert unused_folder(tmp_path / "0-a") == tmp_path / "0-a-3"
