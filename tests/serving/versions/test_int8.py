import json
from pathlib import Path

import numpy as np
import pytest

from raylight.serving.predictor import Predictor, UnusableRunError
from raylight.serving.versions import int8
from raylight.serving.versions.certificate import RefusedVersionError
from raylight.serving.versions.int8 import open_int8
from raylight.serving.versions.opening import Version
from tests.trained_run import move_images

pytestmark = pytest.mark.skipif(not int8.int8_supported(), reason="this processor has no int8 instructions")


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
