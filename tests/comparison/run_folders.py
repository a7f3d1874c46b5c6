"""Folders of finished runs whose mistakes are known, for what compares runs."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from omegaconf import OmegaConf
from PIL import Image

from raylight.config.schema import RunConfig
from raylight.data.index import INDEX_SCHEMA, Index
from raylight.evaluation.predictions import Predictions, write_csv
from raylight.models.preprocessing import Preprocessing
from raylight.report.results import HELD_OUT_FILE, Circumstances, Selection, write_results
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
        Circumstances({"seconds": {"training": 12.5}}),
    )
    if split == "val":
        write_csv(predictions.subset("val"), run / HELD_OUT_FILE)
    run.write_json("status.json", {"state": "finished", "stage": "done", "reason": None, "host": "h", "seconds": 1})
    return folder


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
