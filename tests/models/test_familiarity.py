"""Which images are like those that were learnt: distances against scikit-learn, the promise by simulation."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from raylight.models.familiarity import Familiarity, distances, fit, min_validation_images, nearest_images


def test_distances_are_those_to_the_kth_neighbour() -> None:
    rng = np.random.default_rng(0)
    known = normalize(rng.normal(size=(300, 16))).astype(np.float32)
    maps = rng.normal(size=(600, 16, 3, 2)).astype(np.float32)
    wanted, _ = NearestNeighbors(n_neighbors=7).fit(known).kneighbors(normalize(maps.mean(axis=(2, 3))))
    np.testing.assert_allclose(distances(known, maps, 7), wanted[:, -1], atol=1e-5)
    assert distances(known, maps[:0], 7).shape == (0,)


def test_the_nearest_are_those_of_scikit_learn_in_order() -> None:
    rng = np.random.default_rng(6)
    known, features = rng.normal(size=(80, 8)), rng.normal(size=(20, 8))
    wanted = (
        NearestNeighbors(n_neighbors=3).fit(normalize(known)).kneighbors(normalize(features), return_distance=False)
    )
    assert nearest_images([known[:30], known[30:31], known[31:]], features, 3).tolist() == wanted.tolist()


def test_at_most_the_allowed_share_of_like_images_is_refused_on_average() -> None:
    rng = np.random.default_rng(1)
    refused = []
    for _ in range(100):
        train, val, test = (rng.normal(size=(n, 8)) + 2 for n in (200, 59, 300))
        found = fit(train, val, 0.05)
        assert found is not None
        refused.append(1 - found.familiar(test).mean())
    # 57 of 60 ranks: between 1 - 57 / 60 = 5 % and less; two standard errors of 100 quantiles.
    assert np.mean(refused) == pytest.approx(0.05, abs=2 * np.std(refused) / 10)


def test_images_of_another_kind_are_refused() -> None:
    rng = np.random.default_rng(2)
    found = fit(rng.normal(size=(200, 32)) + 2, rng.normal(size=(100, 32)) + 2, 0.05)
    assert found is not None
    assert not found.familiar(rng.normal(size=(50, 32)) - 2).any()


def test_too_few_validation_images_promise_nothing() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(50, 4))
    assert min_validation_images(0.05) == 19
    assert fit(features, features[:18], 0.05) is None
    assert fit(features, features[:19], 0.05) is not None


def test_small_sets_have_fewer_neighbours() -> None:
    rng = np.random.default_rng(4)
    neighbours = [fit(rng.normal(size=(n, 4)), rng.normal(size=(30, 4)), 0.05).neighbours for n in (5, 40, 100, 900)]
    assert neighbours == [1, 4, 10, 10]


def test_it_reads_back_and_decides_alike(tmp_path) -> None:
    rng = np.random.default_rng(5)
    found = fit(rng.normal(size=(200, 32)), rng.normal(size=(100, 32)), 0.1)
    assert found is not None
    found.write(tmp_path / "f.safetensors")
    again = Familiarity.read(tmp_path / "f.safetensors")
    features = rng.normal(size=(500, 32))
    assert (again.neighbours, again.limit) == (found.neighbours, found.limit)
    assert again.familiar(features).tolist() == found.familiar(features).tolist()
    (tmp_path / "f.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="doesn't hold features"):
        Familiarity.read(tmp_path / "f.safetensors")


@pytest.mark.real_data
@pytest.mark.long
def test_a_network_that_learnt_pets_takes_films_for_unlike(real_data: Path) -> None:
    from sklearn.metrics import roc_auc_score

    from raylight.config.schema import ModelConfig
    from raylight.cpu.engine import InferenceEngine
    from raylight.data.decode.image import decode_image
    from raylight.models.build import build_network
    from raylight.models.preprocessing import Preprocessing

    weights = real_data.parent / "weights" / "resnet18.pt"
    if not weights.is_file():
        pytest.skip("needs resnet18.pt in the folder weights beside RAYLIGHT_REAL_DATA")
    model = ModelConfig(name="resnet18", family="torchvision", weights=str(weights))
    network, preprocessing = build_network(model, 2), Preprocessing.from_config(model)
    engine = InferenceEngine(network, 0, network.head_start, preprocessing)

    def features(folder: str, step: int) -> np.ndarray:
        files = sorted([*(real_data / folder).rglob("*.jpg"), *(real_data / folder).rglob("*.jpeg")])[::step]
        return engine(np.stack([decode_image(file.read_bytes(), preprocessing.decode_spec) for file in files]))

    pets, films = features("dogs-vs-cats", 8), features("xray_dataset_covid19", 9)
    train, val, test = pets[::2], pets[1::4], pets[3::4]
    found = fit(train, val, 0.05)
    assert found is not None
    apart = np.concatenate([distances(found.features, part, found.neighbours) for part in (test, films)])
    assert roc_auc_score([False] * len(test) + [True] * len(films), apart) >= 0.99
    assert not found.familiar(films).any()
