"""Answers on data say what is in the index and the settings, and nothing more."""

import dataclasses
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from raylight.report.checklists.data_answers import DATA_ANSWERS
from raylight.report.facts import RunFacts
from raylight.runs.run_dir import RunDir
from tests.finished_run import FinishedRun


def says(run: RunDir, name: str) -> str:
    answer = DATA_ANSWERS[name](RunFacts(run))
    assert answer is not None
    return answer.text


def change(run: RunDir, **settings: object) -> RunDir:
    """The run with other settings; dots are written as two underscores."""
    config = OmegaConf.load(run / "config.yaml")
    for key, value in settings.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    run.write_text("config.yaml", OmegaConf.to_yaml(config))
    return run


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("source", "The data set animals: 49 files, each with its SHA-256."),
        ("exclusions", "1 of 49 files were left out, each for the reason given."),
        ("subsets", "All usable images are used."),
        ("formats", "Files: 24 .jpg, 24 .png; width 40 to 45 and height 30 to 79 pixels."),
        (
            "classes",
            "Each image has one class, as folders or file names give it: cat and dog; the positive class is dog.",
        ),
        ("flow", "49 files, 1 left out, 48 usable: training 16; validation 16; test 16."),
        ("by_partition", "training: 8 cat, 8 dog; validation: 8 cat, 8 dog; test: 8 cat, 8 dog."),
        ("prevalence", "Test images by class: 8 cat, 8 dog."),
    ],
)
def test_counts_are_those_of_the_folder(finished: FinishedRun, name: str, text: str) -> None:
    assert says(finished.run, name) == text


def test_the_home_of_a_data_set_is_named(finished: FinishedRun) -> None:
    change(finished.run, data__homepage="https://example.org/animals")
    assert says(finished.run, "source").startswith("The data set animals, published at https://example.org/animals:")


def test_settings_that_change_the_answer(finished: FinishedRun) -> None:
    assert "none: training images are drawn alike" in says(finished.run, "imbalance")
    change(finished.run, data__limit=5, data__sampler="weighted", loss__focal_gamma=2.0, data__folds=4, data__fold=2)
    assert says(finished.run, "subsets") == "At most 5 images of each class are used, drawn at random."
    assert "classes are equally frequent and focal loss with gamma 2;" in says(finished.run, "imbalance")
    assert says(finished.run, "partitions").startswith("Fold 2 of a cross-validation of 4, stratified by class (seed")


def test_preprocessing_is_that_of_the_deployed_model(finished: FinishedRun) -> None:
    saved = finished.run.read_json("preprocessing.json")
    finished.run.write_json(
        "preprocessing.json", saved | {"size": [32, 48], "resize": "pad", "mean": [0.5, 0.25, 0.125]}
    )
    told = says(finished.run, "preprocessing")
    assert "brought to 32 x 48 pixels (resized and padded" in told
    assert "mean (0.5, 0.25, 0.125)" in told


def test_groups_that_cross_into_test_are_told(finished: FinishedRun) -> None:
    facts = RunFacts(finished.run)
    assert says(finished.run, "disjoint") == (
        "Images are assigned one by one, copies and near-duplicates with them; no group is both in test and in training or "
        "validation."
    )
    groups = [None] * len(facts.index)
    splits = facts.index.column("split").tolist()
    groups[splits.index("test")] = groups[splits.index("train", splits.index("train") + 1)] = "p1"
    facts.index.with_column("group", groups).write(finished.run / "index.parquet")
    told = says(finished.run, "disjoint")
    assert told.startswith("Images of a group (a patient or an object) are kept in one partition, copies and near-")
    assert "(1 groups); as shipped, 1 groups are in test and in training or validation" in told


def test_clusters_are_told_only_where_there_are_some(finished: FinishedRun) -> None:
    assert DATA_ANSWERS["clusters"](RunFacts(finished.run)) is None
    test = RunFacts(finished.run).test
    facts = RunFacts(finished.run)
    vars(facts)["test"] = dataclasses.replace(test, groups=[f"p{i // 4}" for i in range(len(test))])
    answer = DATA_ANSWERS["clusters"](facts)
    assert answer is not None
    assert answer.text == "The 16 test images come in 4 groups; all intervals allow for likeness within a group."


def test_what_the_audit_found_is_named(finished: FinishedRun, tmp_path: Path) -> None:
    assert "and the audit found" not in says(finished.run, "quality")
    finished.run.write_json("audit.json", {"findings": [{"title": "Copies in one class"}]})
    assert says(finished.run, "quality").endswith("and the audit found: Copies in one class.")


def test_the_test_set_resolves_as_the_report_says(finished: FinishedRun) -> None:
    """Wilson's interval of 16 images at an accuracy near 0.9 is some 15 points wide on each side."""
    assert says(finished.run, "sample_size").startswith("16 test images measure an accuracy of")
