"""What a run predicts for a picture, by what, and which test images make fair examples."""

import base64
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raylight.data.index import Index
from raylight.serving.explanation import ServedRun, example_images
from tests.trained_run import move_images


def test_examples_are_test_images_that_are_still_there(
    run: Path, copied_run: Path, images: Path, tmp_path: Path
) -> None:
    served_run = ServedRun.open(run)
    found, fewer = example_images([served_run])
    assert (len(found), fewer) == (12, None)
    test = served_run.predictor.test_images()
    truth = dict(zip(test.column("path"), test.column("label"), strict=True))
    assert all(truth[image.path] == image.label for image in found)
    assert [image.label for image in found[:4]] == ["left", "right", "left", "right"]
    assert all((images / image.path).read_bytes() == image.content for image in found)
    moved = Path(shutil.copytree(images, tmp_path / "moved"))
    (moved / found[0].path).unlink()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(moved / found[1].path)
    move_images(copied_run, moved)
    left, fewer = example_images([ServedRun.open(copied_run)])
    assert [image.path for image in left] == [image.path for image in found[2:]]
    assert fewer is not None
    assert "2 pictures can't be shown" in fewer
    assert "changed since the run: 1" in fewer


def test_what_one_run_was_tested_on_and_another_trained_on_is_no_example(run: Path, copied_run: Path) -> None:
    from dataclasses import replace

    index = Index.read(copied_run / "index.parquet")
    other = ["train" if split == "test" else "test" if split == "train" else split for split in index.column("split")]
    position = index.table.column_names.index("split")
    table = index.table.set_column(position, index.table.schema.field("split"), [other])
    replace(index, table=table).write(copied_run / "index.parquet")
    found, fewer = example_images([ServedRun.open(run), ServedRun.open(copied_run)])
    assert found == []
    assert fewer is not None
    assert fewer.startswith("No image is in the test split of all runs")


def test_a_picture_is_explained_as_it_is_predicted(run: Path, images: Path) -> None:
    served, path = ServedRun.open(run), images / "right" / "1-3.png"
    explained = served.explain(path.read_bytes())
    (block,) = served.predictor.predict_files([path])
    names = served.predictor.class_names
    assert explained.probabilities == pytest.approx(dict(zip(names, block.probabilities[0].tolist(), strict=True)))
    assert explained.predicted == names[served.predictor.decide(block.probabilities)[0]]
    assert (explained.positive, explained.threshold) == ("right", served.predictor.threshold)
    pictures = [decoded(uri) for uri in (explained.picture, explained.heat)]
    assert [picture.shape for picture in pictures] == [(256, 256, 3)] * 2
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() > 50  # the heat is drawn over it
    assert explained.no_heat is None
    answer = served.answer(path.read_bytes())
    assert (answer["predicted"], answer["probabilities"]) == (explained.predicted, dict(explained.probabilities))


def decoded(uri: str | None) -> np.ndarray:
    assert uri is not None
    pixels: np.ndarray = np.array(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    return pixels


def test_three_classes_are_ranked_without_a_threshold(untrained: Callable[..., Path]) -> None:
    served = ServedRun.open(untrained(("ape", "bee", "cow")))
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)).save(file, "PNG")
    explained = served.explain(file.getvalue())
    assert list(explained.probabilities.values()) == sorted(explained.probabilities.values(), reverse=True)
    assert sum(explained.probabilities.values()) == pytest.approx(1)
    assert (explained.positive, explained.threshold) == (None, None)
    assert explained.predicted == next(iter(explained.probabilities))


def test_a_run_that_abstains_gives_no_class_and_shows_the_evidence_for_the_most_probable(
    copied_run: Path, images: Path
) -> None:
    content = next((images / "left").glob("*.png")).read_bytes()
    facts = json.loads((copied_run / "preprocessing.json").read_text())
    (copied_run / "preprocessing.json").write_text(json.dumps(facts | {"abstain": None}))
    served_run = ServedRun.open(copied_run)
    assert (served_run.answer(content)["predicted"], served_run.answer(content)["refused"]) == (None, "not sure")
    assert set(served_run.answer(content)["probabilities"]) == {"left", "right"}
    explained = served_run.explain(content)
    assert explained.refused == "not sure"
    assert explained.heat is not None
