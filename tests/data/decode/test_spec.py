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


def test_a_crop_that_is_wider_than_high_covers_its_frame() -> None:
    """By hand: 50 x 100 of a square of 400: halved after cutting half of the height; of 4:1, height decides."""
    wide = DecodeSpec((50, 100), "crop", 50)
    assert wide.box(400, 400) == (0, 100, 400, 300)
    assert wide.box(800, 200) == (200, 0, 600, 200)
    assert wide.box(400, 200) == (0, 0, 400, 200)
    assert wide.shape(400, 400) == (50, 100)
    # With a margin: the frame is 60 x 120, so that 5/6 of its height and width are kept.
    assert DecodeSpec((50, 100), "crop", 60).box(240, 120) == (20, 10, 220, 110)
    assert DecodeSpec((50, 100), "stretch", 60).box(120, 600) == (10, 50, 110, 550)
    assert DecodeSpec((100, 50), "crop", 50).box(400, 400) == (100, 0, 300, 400) == wide.transposed().box(400, 400)


def test_a_padded_picture_fits_into_its_frame() -> None:
    frame = DecodeSpec((240, 320), "pad")
    assert frame.shape(640, 480) == (240, 320)
    assert frame.shape(640, 240) == (120, 320)
    assert frame.shape(100, 480) == (240, 50)
    assert frame.shape(4000, 1) == (1, 320)
    assert frame.box(100, 480) == (0, 0, 100, 480)


def test_a_picture_is_reduced_as_far_as_its_frame_allows() -> None:
    wide, frame = DecodeSpec((50, 100), "stretch"), DecodeSpec((50, 100), "pad")
    assert wide.downscales(400, 200, 4)
    assert not wide.downscales(399, 200, 4)
    assert not wide.downscales(400, 199, 4)
    assert frame.downscales(400, 10, 4)  # 100 x 2 pixels are made of it
    assert not frame.downscales(399, 199, 4)


def test_a_view_keeps_the_proportion() -> None:
    view = DecodeSpec((50, 100), "crop", 60).at(300)
    assert (view.height, view.width, view.resize_size) == (150, 300, 180)
    assert view.box(800, 200) == pytest.approx(DecodeSpec((50, 100), "crop", 60).box(800, 200), abs=1.5)
    assert DecodeSpec((50, 100), "pad").at(100).size == (50, 100)
    assert DecodeSpec(64, "crop").at(224) == DecodeSpec(224, "crop", 256)
