"""Which part of a picture is shown, in how many pixels."""

import pytest

from raylight.data.decode.spec import DecodeSpec


def test_crop_cuts_the_centre_of_the_shorter_side_resized_to_eight_sevenths() -> None:
    assert DecodeSpec(224, "crop").shorter_side == 256
    left, top, right, bottom = DecodeSpec(224, "crop").box(400, 256)
    assert (left, top, right, bottom) == (88, 16, 312, 240)


@pytest.mark.parametrize(("size", "resize"), [(0, "crop"), (-3, "stretch"), (64, "squash")])
def test_an_impossible_shape_is_refused(size: int, resize: str) -> None:
    with pytest.raises(ValueError, match="size=" if size < 1 else "squash"):
        DecodeSpec(size, resize)
