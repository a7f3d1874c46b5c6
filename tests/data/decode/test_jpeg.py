"""Both resizers give the same pixels."""

import numpy as np
import pytest

from raylight.data.decode import jpeg
from raylight.data.decode.image import decode_image
from tests.data.decode.pictures import CROP, STRETCH, TRUNCATED


def test_without_the_fast_resizer_pixels_differ_by_rounding_only(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cykooz_resizer")
    fast = [decode_image(TRUNCATED[name], spec) for name in ("baseline", "grey") for spec in (CROP, STRETCH)]
    monkeypatch.setattr(jpeg, "RESIZER", "pillow")
    slow = [decode_image(TRUNCATED[name], spec) for name in ("baseline", "grey") for spec in (CROP, STRETCH)]
    for one, other in zip(fast, slow, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1
