"""A trained network, loaded from its run folder: from pixels or files to calibrated probabilities.

Covers opening a run without its data, its pretrained weights or its cache, and predicting through the same decoder
and the same inference engine as the run's own testing. Leaves out what is done with the predictions (``predict``,
``evaluate``) and everything that needs gradients.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from raylight.config.resume import saved_config
from raylight.config.schema import RunConfig
from raylight.cpu.engine import InferenceEngine, Precision, bf16_supported
from raylight.data.decode.engines import decode_files
from raylight.data.index import Index
from raylight.errors import ConfigError, DataError, RunError, WeightsError, first_line
from raylight.evaluation.abstention import answers
from raylight.evaluation.calibration import apply_temperature
from raylight.evaluation.predictions import decide
from raylight.machine import usable_cpus
from raylight.models.build import build_network, class_probabilities
from raylight.models.familiarity import FILE as FAMILIARITY
from raylight.models.familiarity import Familiarity
from raylight.models.preprocessing import Preprocessing
from raylight.models.stages import StagedNetwork
from raylight.models.weights import load_saved
from raylight.runs.run_dir import RunDir, state_of
from raylight.storage.remote import AnyPath

log = logging.getLogger("raylight")


class UnusableRunError(RunError):
    """A folder that can't be used: not a run, not finished, or damaged."""

    exit_code = 2


Engine = Callable[[UInt8[np.ndarray, "image height width 3"]], Float[np.ndarray, "image class"]]
"""From pixels of the model's size to logits."""

NOT_SURE, UNLIKE = "not sure", "unlike"
"""Why an image gets no class: low confidence, or unlike all training images."""


@dataclass(frozen=True, eq=False)
class PredictedBlock:
    """The result for some of the files.

    Attributes:
        positions: of these files among all that were requested, counted from 0.
        probabilities: calibrated, of those that are ``ok``, in the order of ``positions``.
        ok: whether the file is a usable image.
        reasons: why not, else ``None``.
        refused: why a usable image gets no class (``Predictor.refusals``), else ``None``; in the order of
            ``probabilities``.
    """

    positions: Int64[np.ndarray, " file"]
    probabilities: Float[np.ndarray, "good class"]
    ok: Bool[np.ndarray, " file"]
    reasons: tuple[str | None, ...]
    refused: tuple[str | None, ...]


@dataclass(frozen=True, eq=False)
class Predictor:
    """A run's chosen network, ready to predict.

    Attributes:
        run: its folder.
        config: its settings; paths in them may no longer exist.
        network: with the trained weights, in eval mode, float32.
        preprocessing: from a file to the network's input.
        class_names: in the order of the columns of all probabilities.
        positive_class: the class that the threshold refers to.
        temperature: of the calibration; 1 changes nothing.
        threshold: on the positive class's probability; ``None`` takes the most probable class.
        abstains: whether images of low confidence get no class (``decision.abstain``).
        confidence: smallest confidence that gets a class, if it abstains; ``None`` gives no class.
        familiarity: detects images unlike all training images (``decision.unknown``); ``None`` if that isn't set.
        precision: of the engine.
        engine: runs the whole network.
    """

    run: RunDir
    config: RunConfig
    network: StagedNetwork
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    positive_class: str
    temperature: float
    threshold: float | None
    abstains: bool
    confidence: float | None
    familiarity: Familiarity | None
    precision: Precision
    engine: Engine

    @classmethod
    def open(cls, run: Path, precision: str | None = None) -> "Predictor":
        """Build a run's network and load its weights.

        Args:
            run: the run folder.
            precision: ``fp32`` or ``bf16``; ``None`` takes the run's own, or fp32 (with a warning) if this
                processor has no bf16 instructions.

        Raises:
            UnusableRunError: not a run folder, one that hasn't finished, or a damaged one.
        """
        folder = _finished(run)
        config = load_run_config(folder)
        try:
            facts = folder.read_json("preprocessing.json")
            preprocessing = Preprocessing.from_dict(facts)
            class_names = tuple(map(str, facts["class_names"]))
            positive_class, temperature = str(facts["positive_class"]), float(facts["temperature"])
            threshold = None if facts["threshold"] is None else float(facts["threshold"])
            confidence = None if facts.get("abstain") is None else float(facts["abstain"])
            config = replace(config, model=replace(config.model, head=str(facts["head"])))
        except RunError as error:
            raise UnusableRunError(str(error)) from error
        except (KeyError, TypeError, ValueError) as error:
            raise UnusableRunError(
                f"{folder / 'preprocessing.json'} doesn't describe a model ({type(error).__name__}: {error}); "
                "the run is damaged."
            ) from error
        familiarity = _familiarity(folder)
        network = _trained_network(folder, config, len(class_names))
        precision = precision or _precision(config)
        engine = InferenceEngine(network, 0, None, preprocessing, precision=precision, threads=usable_cpus())
        return cls(
            run=folder,
            config=config,
            network=network,
            preprocessing=preprocessing,
            class_names=class_names,
            positive_class=positive_class,
            temperature=temperature,
            threshold=threshold,
            abstains="abstain" in facts,
            confidence=confidence,
            familiarity=familiarity,
            precision=precision,
            engine=engine,
        )

    @property
    def positive(self) -> int:
        """Position of the positive class."""
        return self.class_names.index(self.positive_class)

    def probabilities(self, pixels: UInt8[np.ndarray, "image height width 3"]) -> Float[np.ndarray, "image class"]:
        """Predict calibrated probabilities, float64, rows summing to 1.

        Args:
            pixels: decoded images of the model's size, RGB, 0 to 255.
        """
        if not len(pixels):
            return np.zeros((0, len(self.class_names)))
        return apply_temperature(class_probabilities(self.engine(pixels)), self.temperature)

    def decide(self, probabilities: Float[np.ndarray, "image class"]) -> Int64[np.ndarray, " image"]:
        """The predicted class of each image by the run's threshold, as a position in ``class_names``."""
        return decide(probabilities, self.positive, self.threshold).astype(np.int64)

    @property
    def refuses(self) -> bool:
        """Whether some images may get no class."""
        return self.abstains or self.familiarity is not None

    def refusals(
        self, pixels: UInt8[np.ndarray, "image height width 3"], probabilities: Float[np.ndarray, "image class"]
    ) -> tuple[str | None, ...]:
        """Why each image gets no class: ``UNLIKE`` or ``NOT_SURE``; ``None`` if it gets one.

        Args:
            pixels: decoded images of the model's size.
            probabilities: of the same images.
        """
        n = len(probabilities)
        known, sure = np.ones(n, dtype=bool), np.ones(n, dtype=bool)
        if self.familiarity is not None and n:
            known = self.familiarity.familiar(self._body(pixels))
        if self.abstains:
            sure = answers(probabilities, self.positive, self.threshold, self.confidence)
        return tuple(None if k and s else NOT_SURE if k else UNLIKE for k, s in zip(known, sure, strict=True))

    @cached_property
    def _body(self) -> InferenceEngine:
        """The engine of the network without its head."""
        head, threads = self.network.head_start, usable_cpus()
        return InferenceEngine(self.network, 0, head, self.preprocessing, precision=self.precision, threads=threads)

    def predict_files(
        self, paths: Sequence[AnyPath | str], digests: Sequence[str] | None = None
    ) -> Iterator[PredictedBlock]:
        """Decode and predict files, in order, in blocks of bounded size; decoding stays ahead of the network.

        A file that is missing, unreadable or not an image is reported with its reason, and the others are still predicted.

        Args:
            paths: the files.
            digests: SHA-256 that each file's content should have; ``None`` takes whatever is there.
        """
        for block in decode_files(paths, self.preprocessing.decode_spec, digests=digests):
            probabilities = self.probabilities(block.pixels)
            refused = self.refusals(block.pixels, probabilities)
            yield PredictedBlock(block.positions, probabilities, block.ok, block.reasons, refused)

    def test_images(self) -> Index:
        """The run's own test images, as it indexed them; the files may be missing.

        Raises:
            UnusableRunError: the run has no readable index.
        """
        return read_index(self.run).in_split("test")


def load_run_config(run: RunDir) -> RunConfig:
    """Read the settings of a run; files that they name needn't exist any more.

    Raises:
        UnusableRunError: ``config.yaml`` isn't one of this version's.
    """
    try:
        return saved_config(run / "config.yaml")
    except RunError as error:
        raise UnusableRunError(str(error)) from error


def read_index(run: RunDir) -> Index:
    """Read the index of a run's images.

    Raises:
        UnusableRunError: ``index.parquet`` is missing or damaged.
    """
    path = run / "index.parquet"
    try:
        return Index.read(path)
    except (DataError, OSError, ValueError) as error:
        reason = first_line(error)
        raise UnusableRunError(f"The run's index can't be read: {reason}") from error


def _finished(run: Path) -> RunDir:
    try:
        folder = RunDir.open(run)
        missing = [name for name in ("model.safetensors", "preprocessing.json") if not (folder / name).is_file()]
        if not missing:
            return folder
        state = state_of(folder)
        reason = folder.read_json("status.json").get("reason")
    except RunError as error:
        raise UnusableRunError(str(error)) from error
    because = f" ({str(reason).splitlines()[0]})" if reason else ""
    ways_out = {
        "running": "Wait until it has finished.",
        "interrupted": f"Continue it: raylight resume {run}",
        "failed": f"See {folder / 'train.log'}, and train again.",
    }
    raise UnusableRunError(
        f"{run} has no {' and no '.join(missing)}: the run is {state}{because}. "
        f"{ways_out.get(state, 'The folder is damaged.')}"
    )


def _trained_network(run: RunDir, config: RunConfig, n_classes: int) -> StagedNetwork:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    # The pretrained file may be missing; all weights are in model.safetensors.
    model = replace(config.model, weights=None)
    path = run / "model.safetensors"
    try:
        network = build_network(model, n_classes)
        load_saved(network, load_file(path), str(path))
    except ConfigError as error:
        raise UnusableRunError(f"{run.path}: the network of its config.yaml can't be built: {error}") from error
    except WeightsError as error:
        raise UnusableRunError(str(error)) from error
    except (OSError, SafetensorError) as error:
        raise UnusableRunError(f"{path} can't be read: {first_line(error)}") from error
    network.requires_grad_(False)
    return network.eval()


def _precision(config: RunConfig) -> str:
    if config.trainer.precision == "32":
        return "fp32"
    if bf16_supported():
        return "bf16"
    if config.trainer.precision == "bf16":
        log.warning(
            "The run computed in bf16, which this processor doesn't have; predicting in fp32 instead. "
            "Probabilities may differ in the second digit."
        )
    return "fp32"


def _familiarity(run: RunDir) -> Familiarity | None:
    try:
        return Familiarity.read(run / FAMILIARITY) if (run / FAMILIARITY).is_file() else None
    except (OSError, ValueError) as error:
        raise UnusableRunError(str(error)) from error
