import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from raylight.serving.predictor import Predictor, UnusableRunError
from raylight.serving.versions import int8
from raylight.serving.versions.certificate import RefusedVersionError
from raylight.serving.versions.int8 import open_int8
from raylight.serving.versions.opening import Version
from tests.trained_run import move_images

pytestmark = pytest.mark.skipif(not int8.int8_supported(), reason="this processor has no int8 instructions")


def test_too_few_validation_images_are_a_refusal_that_says_how_many_would_do(
    copied_run: Path, images: Path, raylight: Callable[..., Result]
) -> None:
    picture = next(images.rglob("*.png"))
    done = raylight("predict", copied_run, picture, "--precision", "int8")
    assert done.exit_code == 1
    assert "int8 is refused: on 16 validation images" in done.output
    assert "validation images with as few disagreements would exclude it (data.val_fraction)" in done.output
    assert not (copied_run / "int8.json").exists()


def test_what_was_certified_is_kept_for_these_weights(copied_run: Path, lenient: None, tmp_path: Path) -> None:
    made = open_int8(copied_run)
    facts = json.loads((copied_run / "int8.json").read_text())
    assert facts["certificate"]["n"] == 16
    assert facts["certificate"]["confidence"] == 0.95
    assert len(facts["ranges"]) == 2  # cnn2's convolutions
    pixels = np.random.default_rng(0).integers(0, 256, (5, *made.preprocessing.decode_spec.image_shape), np.uint8)
    exact = Predictor.open(copied_run, "fp32").probabilities(pixels)
    found = made.probabilities(pixels)
    assert 0 < np.abs(found - exact).max() < 0.05
    move_images(copied_run, tmp_path / "nowhere")
    np.testing.assert_array_equal(Version("int8").open(copied_run).probabilities(pixels), found)

    weights = copied_run / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UnusableRunError, match=r"no longer in .*nowhere"):
        open_int8(copied_run)


def test_a_damaged_file_is_named(copied_run: Path) -> None:
    (copied_run / "int8.json").write_text("{}")
    with pytest.raises(UnusableRunError, match=r"int8\.json is damaged .*delete it"):
        open_int8(copied_run)


def test_a_processor_without_the_instructions_is_told(copied_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "int8_supported", lambda: False)
    with pytest.raises(RefusedVersionError, match="no int8 instructions"):
        open_int8(copied_run)
