"""Comparing recipes: which runs are one, which images are the same, what is tested, joined folds, pages."""

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from shutil import which

import numpy as np
import pyarrow as pa
import pytest
from omegaconf import OmegaConf
from PIL import Image
from scipy.stats import t
from statsmodels.stats.contingency_tables import mcnemar
from typer.testing import CliRunner

from raylight.cli import app
from raylight.compare.recipes import _opinion
from raylight.compare.replicates import IncomparableError
from raylight.compare.study import study_of
from raylight.compare.study_files import write_study
from raylight.config.schema import RunConfig
from raylight.data.index import INDEX_SCHEMA, Index
from raylight.evaluation.caveats import CAVEATS
from raylight.evaluation.intervals import wilson
from raylight.evaluation.predictions import Predictions, write_csv
from raylight.models.preprocessing import Preprocessing
from raylight.report.results import HELD_OUT_FILE, Selection, write_results
from raylight.runs.run_dir import RunDir

CLASSES = ("cat", "dog")


def picture(root: Path, path: str, number: int) -> str:
    """An image file of its own content; returns its SHA-256."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        pixels = np.full((24, 24, 3), number * 7 % 256, np.uint8)
        pixels[: number % 24] //= 2
        Image.fromarray(pixels).save(file)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def run_folder(
    folder: Path,
    root: Path,
    wrong: set[int],
    images: range = range(40),
    prefix: str = "",
    split: str = "test",
    overrides: tuple[str, ...] = (),
    relabelled: frozenset[int] = frozenset(),
) -> Path:
    """A finished run that is wrong on some of its images; its files are written by the pipeline's own means."""
    config = OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.from_dotlist(list(overrides)))
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, RunConfig)
    settings.report.plots = False
    run = RunDir.claim(folder)
    run.write_text("config.yaml", OmegaConf.to_yaml(config))
    run.write_json("overrides.json", list(overrides))
    labels = np.array([(number + (number in relabelled)) % 2 for number in images])
    names = [f"{CLASSES[number % 2]}/{prefix}{number:03d}.png" for number in images]
    rows = [
        {"path": name, "label": CLASSES[label], "split": split, "sha256": picture(root, name, number), "status": "ok"}
        for name, number, label in zip(names, images, labels, strict=True)
    ]
    columns = {field.name: [row.get(field.name) for row in rows] for field in INDEX_SCHEMA}
    table = pa.table({name: pa.array(values, INDEX_SCHEMA.field(name).type) for name, values in columns.items()})
    Index(root, CLASSES, "dog", table, np.zeros((0, 32, 32, 3), np.uint8)).write(run / "index.parquet")
    given = np.array([label ^ (number in wrong) for number, label in zip(images, labels, strict=True)])
    sure = 0.6 + 0.005 * np.arange(len(images))
    dog = np.where(given == 1, sure, 1 - sure)
    # A run judges test images; those of a fold are judged from its validation rows alone.
    held = [split] * len(names) + (["test"] * len(names) if split != "test" else [])
    repeats = len(held) // len(names)
    predictions = Predictions(
        paths=names * repeats,
        splits=held,
        labels=np.tile(labels, repeats),
        probabilities=np.tile(np.stack([1 - dog, dog], axis=1), (repeats, 1)),
        class_names=CLASSES,
        positive_class="dog",
    )
    settings.decision.calibrate = False
    write_results(
        settings,
        run,
        predictions,
        Preprocessing.from_config(settings.model).to_dict(),
        Selection("val/loss", 0.5, 1, 2),
        {"seconds": {"training": 12.5}},
    )
    if split == "val":
        write_csv(predictions.subset("val"), run / HELD_OUT_FILE)
    run.write_json("status.json", {"state": "finished", "stage": "done", "reason": None, "host": "h", "seconds": 1})
    return folder


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs on the same pictures, the second of which knows them by other names in another place."""
    one = run_folder(tmp_path / "one", tmp_path / "here", {0, 1}, overrides=("model.name=small",))
    other = run_folder(
        tmp_path / "other", tmp_path / "there", {1, *range(2, 10)}, prefix="copy_", overrides=("model.name=tiny",)
    )
    return one, other


def test_images_are_paired_by_content_not_by_name(two: tuple[Path, Path]) -> None:
    (pair,) = study_of(two).pairs
    assert (pair.both, len(pair.only_first), len(pair.only_second), pair.neither) == (30, 8, 1, 1)
    assert pair.design == "networks"
    assert pair.differences["accuracy"].p_value == pytest.approx(
        mcnemar([[30, 8], [1, 1]], exact=False, correction=False).pvalue
    )
    assert pair.differences["accuracy"].value == pytest.approx(-7 / 40)
    assert pair.second.paths[pair.only_second[0]] == "cat/copy_000.png"
    assert next(pair.first.paths[key] for key in pair.only_first) == "dog/009.png"  # the surest mistake first


def test_three_runs_are_corrected_for_three_pairs(two: tuple[Path, Path], tmp_path: Path) -> None:
    third = run_folder(tmp_path / "third", tmp_path / "here", {0, 1, 30}, overrides=("model.name=third",))
    study = study_of([*two, third])
    assert len(study.pairs) == 3
    raw = [pair.differences["accuracy"].p_value for pair in study.pairs]
    corrected = [pair.corrected["accuracy"] for pair in study.pairs]
    assert corrected[raw.index(min(raw))] == pytest.approx(3 * min(raw))


def seeds(
    tmp_path: Path, name: str, wrong: Sequence[set[int]], images: Sequence[range] = (range(40),), *overrides: str
) -> list[Path]:
    """Runs of one recipe, a seed each; the images of seed i are those at i, or the only ones."""
    return [
        run_folder(
            tmp_path / f"{name}-{seed}",
            tmp_path / "data",
            mistakes,
            images[seed % len(images)],
            overrides=(f"model.name={name}", f"seed={seed}", *overrides),
        )
        for seed, mistakes in enumerate(wrong)
    ]


def test_runs_that_differ_by_seed_alone_are_one_recipe_and_two_recipes_one_comparison(tmp_path: Path) -> None:
    """p and interval by Obuchowski and Rockette's formulas, from the sample covariances of right and wrong."""
    wrong = [
        [{0, 1, 5}, {1, 2}, {1, 3, 4, 5}],
        [{1, 6, 7, 8, 9, 11}, {1, 2, 6, 7, 12, 13, 14}, {1, 5, 6, 7, 8, 15, 16, 17}],
    ]
    study = study_of([*seeds(tmp_path, "small", wrong[0]), *seeds(tmp_path, "tiny", wrong[1])])
    assert [(one.name, len(one.replicates)) for one in study.recipes] == [
        ("small model.name=small", 3),
        ("tiny model.name=tiny", 3),
    ]
    (pair,) = study.pairs
    assert pair.design == "recipes"

    right = np.array([[[i not in mistakes for i in range(40)] for mistakes in recipe] for recipe in wrong], float)
    accuracy = right.mean(axis=2)
    cov = np.cov(right.reshape(6, 40)) / 40
    different = ~np.eye(3, dtype=bool)
    images = cov[:3, :3][different].mean() + cov[3:, 3:][different].mean() - 2 * cov[:3, 3:].mean()
    parts = accuracy.var(axis=1, ddof=1) / 3
    variance = parts.sum() + max(images, 0)
    freedom = variance**2 / (parts**2 / 2).sum()
    difference = accuracy[1].mean() - accuracy[0].mean()
    found = pair.differences["accuracy"]
    assert found.value == pytest.approx(difference)
    assert found.p_value == pytest.approx(2 * t.sf(abs(difference) / variance**0.5, freedom))
    assert found.high == pytest.approx(difference + t.ppf(0.975, freedom) * variance**0.5)


def test_one_recipe_has_a_spread_and_nothing_to_compare(tmp_path: Path) -> None:
    runs = seeds(tmp_path, "small", [set(range(i)) for i in (1, 5, 9, 2, 6, 8)])
    done = CliRunner().invoke(app, ["compare", *map(str, runs)])
    assert done.exit_code == 0, done.output
    assert "All 6 runs are of one recipe and differ by seed alone" in done.output
    assert "more than chance" not in done.output


def test_single_runs_are_called_networks_not_recipes(two: tuple[Path, Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["compare", *map(str, two), "--out", str(tmp_path / "out")])
    assert "two trained networks were compared, not two recipes" in done.output
    assert "two trained networks were compared, not two recipes" in (tmp_path / "out/comparison.html").read_text()


def test_a_split_per_seed_pairs_the_runs_of_a_seed(tmp_path: Path) -> None:
    """The corrected resampled t-test by hand; the fourth seed of one recipe has no partner."""
    images = [range(20), range(15, 35), range(30, 50), range(2, 22)]
    wrong = [[{0}, {15, 16}, set(), {2}], [{0, 1, 2}, {15, 16, 17}, {31, 32, 33, 34}]]
    small = seeds(tmp_path, "small", wrong[0], images, "data.split_seed=null")
    tiny = seeds(tmp_path, "tiny", wrong[1], images, "data.split_seed=null")
    (pair,) = study_of([*small, *tiny]).pairs
    assert (pair.design, pair.left_out) == ("splits", 1)
    differences = np.array([-2, -1, -4]) / 20
    # No image of these runs is a training image; the pipeline's have at least one.
    standard_error = (differences.var(ddof=1) * (1 / 3 + 20)) ** 0.5
    found = pair.differences["accuracy"]
    assert found.value == pytest.approx(differences.mean())
    assert found.p_value == pytest.approx(2 * t.sf(abs(differences.mean()) / standard_error, 2))


def test_runs_on_other_images_are_compared_unpaired_and_it_is_said(tmp_path: Path) -> None:
    one = run_folder(tmp_path / "one", tmp_path / "data", {1, 2}, range(40), overrides=("model.name=a", "seed=1"))
    other = run_folder(
        tmp_path / "other",
        tmp_path / "data",
        set(range(50, 60)),
        range(40, 80),
        overrides=("model.name=b", "data.split_seed=2"),
    )
    done = CliRunner().invoke(app, ["compare", str(one), str(other)])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "have 0 in common), so that they aren't paired and the interval is wider" in said
    assert "data.split_seed=1" in said
    (pair,) = study_of([one, other]).pairs
    standard_error = (0.05 * 0.95 / 39 + 0.25 * 0.75 / 39) ** 0.5
    found = pair.differences["accuracy"]
    assert (found.high - found.value) / t.ppf(0.975, 79) == pytest.approx(standard_error, rel=0.01)


def test_different_labels_are_refused(tmp_path: Path) -> None:
    one = run_folder(tmp_path / "one", tmp_path / "data", set())
    other = run_folder(tmp_path / "other", tmp_path / "data", set(), relabelled=frozenset({4}))
    with pytest.raises(IncomparableError, match=r"1 of 40 images have another class .*cat/004.png"):
        study_of([one, other])


def test_a_run_without_a_result_is_refused_by_name_but_left_out_of_a_sweep(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    failed = RunDir.claim(tmp_path / "failed")
    failed.write_text("config.yaml", "seed: 1\n")
    failed.write_json("status.json", {"state": "failed", "host": "h", "stage": "training", "reason": "x"})
    with pytest.raises(IncomparableError, match="has no result to compare: it is failed"):
        study_of([two[0], failed.path])
    assert len(study_of([tmp_path]).recipes) == 2
    with pytest.raises(IncomparableError, match="needs two runs, 1 with a result is given"):
        study_of([two[0]])
    with pytest.raises(IncomparableError, match="given twice"):
        study_of([two[0], two[0]])
    with pytest.raises(IncomparableError, match="neither a run folder nor"):
        study_of([two[0], tmp_path / "here"])


def folds(tmp_path: Path, name: str, wrong: set[int], held: tuple[int, ...] = (0, 1, 2)) -> list[Path]:
    return [
        run_folder(
            tmp_path / f"{name}-{fold}",
            tmp_path / "data",
            wrong,
            range(fold * 10, fold * 10 + 10),
            split="val",
            overrides=(f"model.name={name}", "data.folds=3", f"data.fold={fold}"),
        )
        for fold in held
    ]


def test_the_folds_of_a_cross_validation_are_joined(tmp_path: Path) -> None:
    study = study_of([*folds(tmp_path, "small", {3}), *folds(tmp_path, "tiny", {3, 4, 14, 25})])
    assert [one.name for one in study.recipes] == ["small model.name=small", "tiny model.name=tiny"]
    (pair,) = study.pairs
    assert pair.shared == 30
    assert (len(pair.only_first), len(pair.only_second), pair.neither) == (3, 0, 1)
    assert pair.first.seconds == pytest.approx(37.5)
    assert any("folds" in note for note in study.notes)


def test_missing_folds_are_told(tmp_path: Path) -> None:
    with pytest.raises(IncomparableError, match=r"0, 1, 2, .* has 0, 2"):
        study_of([*folds(tmp_path, "small", set()), *folds(tmp_path, "tiny", set(), (0, 2))])


def test_the_folds_of_one_configuration_are_its_cross_validated_result(tmp_path: Path) -> None:
    study = study_of(folds(tmp_path, "small", {3, 14}))
    (whole,) = study.replicates
    accuracy = whole.estimates["accuracy"]
    assert (accuracy.value, accuracy.n) == (pytest.approx(28 / 30), 30)
    assert (accuracy.low, accuracy.high) == pytest.approx(wilson(28, 30))
    assert not study.pairs
    page = write_study(study, tmp_path / "out")["comparison.html"].read_text()
    assert "The folds joined" in page
    assert "Every two of them" not in page

    some = study_of(folds(tmp_path / "some", "small", set(), (0, 2)))
    assert any("Of 3 folds 1 isn't there" in note for note in some.notes)


def test_the_files_show_the_images_that_only_one_gets_right(two: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["compare", *map(str, two), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "right on 7 more of 40 images" in done.output
    assert {path.name for path in out.iterdir()} == {
        "comparison.csv",
        "comparison.md",
        "comparison.html",
        "disagreements.csv",
        "accuracy_time.png",  # and no plot of parameters, which these runs have no weights to count
    }
    with (out / "disagreements.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert rows[0]["path"] == "cat/000.png"
    with (out / "comparison.csv").open() as file:
        metrics = {row["metric"]: row for row in csv.DictReader(file)}
    assert float(metrics["accuracy"]["difference"]) == pytest.approx(-7 / 40)
    assert metrics["accuracy"]["only_first_right"] == "8"
    page = (out / "comparison.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 9
    assert "dog/009.png" in page
    assert "http" not in page.replace("http-equiv", "")


def test_pictures_that_have_gone_are_counted_not_guessed(two: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "here" / "dog" / "009.png").unlink()
    page = write_study(study_of(two), tmp_path / "out")["comparison.html"].read_text()
    assert page.count("data:image/jpeg;base64,") == 8
    assert "1 pictures can" in page
    assert "the file can't be read any more" in page


def test_the_page_opens_alone_and_fits_a_phone(two: tuple[Path, Path], tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="install the dev extra for the browser test")
    browser = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := which(name))), None)
    if browser is None:
        pytest.skip("install chromium (apt-get install chromium) for the browser test")
    page_file = write_study(study_of(two), tmp_path / "out")["comparison.html"]
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 390, "height": 800})
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0 && image.alt)")
        assert page.evaluate("document.images.length") == 10
        chromium.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]


def test_where_as_many_runs_say_one_thing_as_another_the_more_probable_one_counts() -> None:
    said = _opinion([(1, 0, np.array([0.9, 0.1])), (1, 1, np.array([0.4, 0.6]))])
    assert (said.given, said.right, said.most_are_right) == (0, 0.5, False)
    assert said.probability == pytest.approx(0.65)


def test_caveats_of_differences_stand_below_them_and_in_the_table(two: tuple[Path, Path], tmp_path: Path) -> None:
    study = study_of(two)
    assert f"calibration error: {CAVEATS['conservative']}" in study.notes
    write_study(study, tmp_path / "out")
    with (tmp_path / "out" / "comparison.csv").open(newline="", encoding="utf-8") as file:
        caveats = {row["metric"]: row["caveat"] for row in csv.DictReader(file)}
    assert caveats["ece"] == "conservative"
    assert caveats["accuracy"] == ""
