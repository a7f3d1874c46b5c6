import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float, UInt8
from torch import nn

from raylight.config.schema import ModelConfig
from raylight.cpu.engine import InferenceEngine, bf16_supported
from raylight.models.build import build_network
from raylight.models.preprocessing import Preprocessing
from raylight.models.stages import StagedNetwork

SIZE = 64


TOLERANCE = 1e-4  # of the outputs' deviation


@pytest.fixture(scope="module")
def pixels() -> UInt8[np.ndarray, "image height width 3"]:
    """Smooth random pictures of different contrast."""
    noise = torch.rand(19, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.interpolate(noise, SIZE, mode="bilinear") * torch.linspace(0.3, 1, 19).reshape(-1, 1, 1, 1)
    return (255 * smooth).byte().permute(0, 2, 3, 1).contiguous().numpy()


def seasoned(model: ModelConfig, pixels: np.ndarray) -> tuple[StagedNetwork, Preprocessing]:
    """A network whose BatchNorm has seen images, as a trained one's has; its other weights are random."""
    torch.manual_seed(0)
    network, preprocessing = build_network(model, 5), Preprocessing.from_config(model)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain average of what it sees
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    with torch.no_grad():
        network.train()(preprocessing.normalise(torch.from_numpy(pixels)))
    return network.eval(), preprocessing


def torchvision(name: str) -> ModelConfig:
    return ModelConfig(name=name, family="torchvision", image_size=SIZE, normalize="imagenet")


MODELS = {
    "cnn5": ModelConfig(
        channels=[8, 8, 16], batch_norm=True, conv_dropout=0.2, dense=[16], dropout=0.3, image_size=SIZE
    ),
    "cnn2": ModelConfig(channels=[8, 16], padding="valid", dense=[16], image_size=SIZE, normalize="centered"),
    **{name: torchvision(name) for name in ("resnet18", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5")},
    "squeezenet1_1": torchvision("squeezenet1_1"),
}


@pytest.fixture(scope="module")
def mobilenet(pixels: np.ndarray) -> tuple[StagedNetwork, Preprocessing]:
    return seasoned(MODELS["mobilenet_v2"], pixels)


@torch.inference_mode()
def plain(
    network: StagedNetwork, preprocessing: Preprocessing, pixels: np.ndarray, stop: int | None = None
) -> np.ndarray:
    return network.run(preprocessing.normalise(torch.from_numpy(pixels.copy())), 0, stop).numpy()


def error(result: Float[np.ndarray, "..."], expected: Float[np.ndarray, "..."]) -> float:
    assert result.dtype == np.float32
    assert result.shape == expected.shape
    return float(np.sqrt(np.square(result - expected).mean()) / expected.std())


@pytest.mark.parametrize("name", MODELS)
def test_engine_computes_what_the_network_computes(name: str, pixels: np.ndarray) -> None:
    network, preprocessing = seasoned(MODELS[name], pixels)
    expected = plain(network, preprocessing, pixels)
    assert error(InferenceEngine(network, 0, None, preprocessing, threads=2)(pixels), expected) < TOLERANCE


@pytest.mark.skipif(not bf16_supported(), reason="this processor has no bf16 instructions")
@pytest.mark.parametrize("name", MODELS)
def test_bf16_engine_errs_less_than_the_network_converted_to_bf16(name: str, pixels: np.ndarray) -> None:
    network, preprocessing = seasoned(MODELS[name], pixels)
    expected = plain(network, preprocessing, pixels)
    rounded = InferenceEngine(network, 0, None, preprocessing, "bf16", threads=2)(pixels)
    images = preprocessing.normalise(torch.from_numpy(pixels)).bfloat16()
    with torch.inference_mode():
        converted = copy.deepcopy(network).bfloat16()(images).float().numpy()
    assert 0 < np.square(rounded - expected).mean() < np.square(converted - expected).mean()


def test_parts_of_a_network_join(mobilenet: tuple[StagedNetwork, Preprocessing], pixels: np.ndarray) -> None:
    network, preprocessing = mobilenet
    expected = plain(network, preprocessing, pixels)
    for cut in (network.position("features.15"), network.head_start):
        features = InferenceEngine(network, 0, cut, preprocessing)(pixels)
        assert error(features, plain(network, preprocessing, pixels, cut)) < TOLERANCE
        assert error(InferenceEngine(network, cut, None)(features), expected) < TOLERANCE
    # The head alone is a dense layer, which stays in float32 whatever precision is asked for.
    head = InferenceEngine(network, network.head_start, None, precision="bf16")
    assert error(head(features), expected) < TOLERANCE


def test_rows_of_a_memory_map_go_into_rows_of_another(
    mobilenet: tuple[StagedNetwork, Preprocessing], pixels: np.ndarray, tmp_path: Path
) -> None:
    network, preprocessing = mobilenet
    np.save(tmp_path / "pixels.npy", pixels)
    store = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    engine = InferenceEngine(network, 0, None, preprocessing, threads=2)
    engine.micro_batch = 4
    assert engine.output_shape(store.shape[1:]) == (5,)
    outputs = np.lib.format.open_memmap(tmp_path / "outputs.npy", "w+", np.float32, (30, 5))
    outputs[:] = -1
    rows, output_rows = np.array([18, 3, 3, 0, 7, 11]), np.array([2, 29, 4, 0, 9, 10])
    done: list[int] = []
    engine.run_into(outputs, output_rows, store, rows, done.append)
    assert sum(done) == 6
    assert error(np.asarray(outputs[output_rows]), plain(network, preprocessing, pixels)[rows]) < TOLERANCE
    untouched = np.setdiff1d(np.arange(30), output_rows)
    assert (outputs[untouched] == -1).all()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_image_gets_the_same_result_in_any_company(
    precision: str, mobilenet: tuple[StagedNetwork, Preprocessing], pixels: np.ndarray
) -> None:
    if precision == "bf16" and not bf16_supported():
        pytest.skip("this processor has no bf16 instructions")
    network, preprocessing = mobilenet
    together = InferenceEngine(network, 0, None, preprocessing, precision, threads=2)(pixels)
    engine = InferenceEngine(network, 0, None, preprocessing, precision, threads=1)
    engine.micro_batch = 3
    alone = np.concatenate([engine(pixels[[i]]) for i in range(5)])
    assert error(alone, together[:5]) < TOLERANCE


def test_engine_leaves_network_and_settings_alone_and_keeps_its_own_weights(
    mobilenet: tuple[StagedNetwork, Preprocessing], pixels: np.ndarray
) -> None:
    network, preprocessing = copy.deepcopy(mobilenet[0]).train(), mobilenet[1]
    state, threads = copy.deepcopy(network.state_dict()), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        engine = InferenceEngine(network, 0, None, preprocessing, threads=3)
        first = engine(pixels)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert error(first, plain(mobilenet[0], preprocessing, pixels)) < TOLERANCE
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert np.array_equal(engine(pixels), first)


class Unruly(nn.Module):
    """Can't be traced: its path depends on the values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.norm(self.conv(values))
        return -result if result.sum() < -1e30 else result


def test_stages_that_cannot_be_traced_run_as_they_are(pixels: np.ndarray) -> None:
    torch.manual_seed(0)
    parts = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), Unruly(), nn.Flatten(), nn.Linear(8 * 60 * 60, 2)).eval()
    network = StagedNetwork(parts, [str(number) for number in range(5)], head_start=4)
    preprocessing = Preprocessing.from_config(ModelConfig(image_size=SIZE))
    result = InferenceEngine(network, 0, None, preprocessing)(pixels)
    assert error(result, plain(network, preprocessing, pixels)) < TOLERANCE


class Residual(nn.Module):
    """A sum that meets each way to write it: the residual first or last, used once more afterwards, of another shape."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))
        self.pointwise = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 8, 1)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        values = values + self.convs[0](values)
        values = torch.add(values, self.pointwise(values), alpha=3)
        kept = self.convs[1](values)
        values = torch.relu(kept + self.convs[2](values))
        values = values + kept
        values = self.last(values.mean((2, 3), keepdim=True)) + values  # broadcast
        return self.convs[3](values) + self.convs[3](kept)  # one module, called twice


def test_residual_sums_are_fused_only_where_that_is_the_same(pixels: np.ndarray) -> None:
    torch.manual_seed(0)
    parts = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), Residual(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 2)
    )
    network = StagedNetwork(parts.eval(), [str(number) for number in range(5)], head_start=4)
    preprocessing = Preprocessing.from_config(ModelConfig(image_size=SIZE))
    result = InferenceEngine(network, 0, None, preprocessing)(pixels)
    assert error(result, plain(network, preprocessing, pixels)) < TOLERANCE


def test_errors_of_workers_reach_the_caller(mobilenet: tuple[StagedNetwork, Preprocessing], pixels: np.ndarray) -> None:
    engine = InferenceEngine(*mobilenet[:1], 0, None, mobilenet[1], threads=2)
    engine.micro_batch = 4
    outputs = np.zeros((19, 5), np.float32)
    with pytest.raises(IndexError, match="out of bounds"):
        engine.run_into(outputs, np.arange(19), pixels, np.arange(1, 20))
    with pytest.raises(ValueError, match="precision: 'fp16' is none of fp32, bf16"):
        InferenceEngine(mobilenet[0], precision="fp16", preprocessing=mobilenet[1])
    with pytest.raises(ValueError, match="preprocessing: needed by an engine that starts from pixels"):
        InferenceEngine(mobilenet[0])


def test_rewriting_disturbs_no_other_thread(mobilenet: tuple[StagedNetwork, Preprocessing], pixels: np.ndarray) -> None:
    layer, values = nn.Sequential(nn.Linear(8, 8), nn.ReLU()), torch.ones(2, 8)
    with torch.no_grad():
        expected = layer(values)
    network, preprocessing = mobilenet
    stop = threading.Event()

    def work() -> int:
        rounds = 0
        with torch.no_grad():
            while not stop.is_set():
                assert torch.equal(layer(values), expected)
                rounds += 1
        return rounds

    def rewrite() -> np.ndarray:
        return InferenceEngine(network, 0, None, preprocessing, threads=1)(pixels[:1])

    call = nn.Module.__call__
    with ThreadPoolExecutor(3) as pool:
        other = pool.submit(work)
        results = [rewriting.result() for rewriting in [pool.submit(rewrite) for _ in range(4)]]
        stop.set()
        assert other.result() > 10
    assert nn.Module.__call__ is call
    assert all(np.array_equal(result, results[0]) for result in results)


@pytest.mark.real_data
@pytest.mark.skipif(not bf16_supported(), reason="this processor has no bf16 instructions")
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18"])
def test_bf16_changes_no_class_that_fp32_is_sure_of(name: str, real_data: Path) -> None:
    from raylight.data.decode.image import decode_image

    weights = real_data.parent / "weights" / f"{name}.pt"
    if not weights.is_file():
        pytest.skip(f"needs {name}.pt in the folder weights beside RAYLIGHT_REAL_DATA")
    model = ModelConfig(
        name=name, family="torchvision", image_size=224, resize="crop", normalize="imagenet", weights=str(weights)
    )
    network, preprocessing = build_network(model, 1000), Preprocessing.from_config(model)
    photos = sorted((real_data / "dogs-vs-cats" / "train").glob("*.jpg"))[::20]
    images = np.stack([decode_image(photo.read_bytes(), preprocessing.decode_spec) for photo in photos])
    logits = {
        precision: torch.from_numpy(InferenceEngine(network, 0, None, preprocessing, precision)(images))
        for precision in ("fp32", "bf16")
    }
    best = logits["fp32"].softmax(1).topk(2)
    changed = logits["bf16"].argmax(1) != best.indices[:, 0]
    assert not (changed & (best.values[:, 0] - best.values[:, 1] > 0.02)).any()
    assert float((logits["bf16"] - logits["fp32"]).square().mean().sqrt() / logits["fp32"].std()) < 0.03
