"""Which network is judged, and that its predictions are those of the network, run as it is."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize
from torch import Tensor

from raylight.config.schema import ModelConfig
from raylight.data.decode.image import decode_image
from raylight.data.index import Index
from raylight.evaluation.predictions import Predictions, read_csv
from raylight.models.build import build_network
from raylight.models.familiarity import Familiarity
from raylight.models.preprocessing import Preprocessing
from tests.pipeline.conftest import WorseningRun

MODEL = ModelConfig(name="cnn2", channels=[4], dense=[4], image_size=16)


def state_of(worsening: WorseningRun, checkpoint: str) -> Mapping[str, Tensor]:
    state = torch.load(worsening.run / "checkpoints" / checkpoint, weights_only=True)["state_dict"]
    return {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}


def expected(worsening: WorseningRun, checkpoint: str, found: Predictions, temperature: float) -> np.ndarray:
    """Probabilities by a network built anew, one image after the other."""
    network, preprocessing = build_network(MODEL, 2).eval(), Preprocessing.from_config(MODEL)
    network.load_state_dict(state_of(worsening, checkpoint))
    pixels = [decode_image((worsening.images / path).read_bytes(), preprocessing.decode_spec) for path in found.paths]
    with torch.no_grad():
        logits = torch.cat([network(preprocessing.normalise(torch.from_numpy(one[None]))) for one in pixels])
    probabilities: np.ndarray = softmax(logits.double().numpy() / temperature, axis=1)
    return probabilities


def test_the_chosen_checkpoint_is_shipped_and_judged(worsening: WorseningRun) -> None:
    from safetensors.torch import load_file

    best, last = state_of(worsening, "best.ckpt"), state_of(worsening, "last.ckpt")
    shipped = load_file(worsening.run / "model.safetensors")
    assert all(torch.equal(shipped[name], best[name]) for name in best)
    assert not all(torch.equal(last[name], best[name]) for name in best)
    found = read_csv(worsening.run / "predictions.csv", "right")
    temperature = worsening.run.read_json("preprocessing.json")["temperature"]
    wanted = expected(worsening, "best.ckpt", found, temperature)
    np.testing.assert_allclose(found.probabilities, wanted, atol=1e-4)
    assert set(found.splits) == {"val", "test"}
    assert [path.split("/")[0] for path in found.paths] == [found.class_names[label] for label in found.labels]


def test_a_folds_held_out_images_are_judged_by_the_last_epoch_uncalibrated(worsening: WorseningRun) -> None:
    held = read_csv(worsening.run / "held_out.csv", "right")
    np.testing.assert_allclose(held.probabilities, expected(worsening, "last.ckpt", held, 1.0), atol=1e-4)
    assert set(held.splits) == {"val"}
    assert len(held) == 6  # a quarter of the 24 that aren't for test


def test_images_are_compared_by_what_enters_the_head_of_the_chosen_checkpoint(worsening: WorseningRun) -> None:
    """Two of six held-out images may be farther than the limit: rank 5 of 7 at 30 %."""
    network, preprocessing = build_network(MODEL, 2).eval(), Preprocessing.from_config(MODEL)
    network.load_state_dict(state_of(worsening, "best.ckpt"))
    index = Index.read(worsening.run / "index.parquet")

    def features(split: str) -> np.ndarray:
        paths = index.in_split(split).column("path")
        pixels = [decode_image((worsening.images / path).read_bytes(), preprocessing.decode_spec) for path in paths]
        with torch.no_grad():
            images = preprocessing.normalise(torch.from_numpy(np.stack(pixels)))
            found: np.ndarray = normalize(network.run(images, 0, network.head_start).flatten(1).numpy())
        return found

    told = worsening.run.read_json("metrics.json")["unknown"]
    neighbours = NearestNeighbors(n_neighbors=told["neighbours"]).fit(features("train"))
    held_out, test = (neighbours.kneighbors(features(split))[0][:, -1] for split in ("val", "test"))
    assert told["val_n"] == 6
    assert told["limit"] == pytest.approx(np.sort(held_out)[4], abs=2e-3)
    assert told["test_refused"]["value"] == pytest.approx((test > told["limit"]).mean(), abs=0.13)
    assert Familiarity.read(worsening.run / "familiarity.safetensors").limit == told["limit"]
