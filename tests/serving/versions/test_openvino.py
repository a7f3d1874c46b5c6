import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from raylight.cpu.engine import bf16_supported
from raylight.serving.predictor import Predictor, UnusableRunError
from raylight.serving.versions.opening import Version
from raylight.serving.versions.openvino import OpenVinoEngine
from tests.trained_run import move_images


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [
        ("fp32", 1e-4),
        pytest.param(
            "bf16",
            0.05,
            marks=pytest.mark.skipif(not bf16_supported(), reason="no bf16 instructions on this processor"),
        ),
    ],
)
def test_probabilities_are_the_runs_in_its_order(run: Path, precision: str, tolerance: float) -> None:
    """37 images, in batches of twelve and thirteen; one; none."""
    model = Predictor.open(run, precision)
    version = replace(model, engine=OpenVinoEngine(model, 2))
    pixels = np.random.default_rng(0).integers(0, 256, (37, *model.preprocessing.decode_spec.image_shape), np.uint8)
    exact = Predictor.open(run, "fp32").probabilities(pixels)
    assert exact.std(axis=0).min() > 2e-3  # images differ by more than the tolerance in fp32
    np.testing.assert_allclose(version.probabilities(pixels), exact, atol=tolerance)
    np.testing.assert_allclose(version.probabilities(pixels[:1]), exact[:1], atol=tolerance)
    assert version.probabilities(pixels[:0]).shape == (0, 2)


def test_what_was_certified_is_kept_for_these_weights_and_this_precision(
    copied_run: Path, images: Path, lenient: None, raylight: Callable[..., Result], tmp_path: Path
) -> None:
    picture = next(images.rglob("*.png"))
    done = raylight("predict", copied_run, picture, "--engine", "openvino", "--precision", "fp32")
    assert done.exit_code == 0, done.output
    own = raylight("predict", copied_run, picture, "--precision", "fp32")
    assert done.stdout.split(",")[:-2] == own.stdout.split(",")[:-2]
    facts = json.loads((copied_run / "openvino.json").read_text())
    assert facts["certificate"]["n"] == 16
    assert facts["precision"] == "fp32"
    move_images(copied_run, tmp_path / "nowhere")
    Version("fp32", "openvino").open(copied_run)
    (copied_run / "openvino.json").write_text(json.dumps({**facts, "openvino": "2020.1"}))
    with pytest.raises(
        UnusableRunError, match=r"no longer in .*nowhere; put them back, or leave out --engine openvino"
    ):
        Version("fp32", "openvino").open(copied_run)
    (copied_run / "openvino.json").write_text("{}")
    with pytest.raises(UnusableRunError, match=r"openvino\.json is damaged .*delete it"):
        Version("fp32", "openvino").open(copied_run)


def test_nothing_is_sent(copied_run: Path, tmp_path: Path) -> None:
    """Importing OpenVINO makes an identifier of the user at home, and tells its maker."""
    code = (
        "import sys; from pathlib import Path; from raylight.serving.versions.opening import Version; "
        "Version(engine='openvino').open(Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(copied_run)],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "OpenVINO is refused: on 16 validation images" in done.stderr
    assert not (tmp_path / "intel").exists()
