"""One file to pixels: every kind of file against Pillow, and everything that must be refused."""

import contextlib
import io
import os
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageFile, ImageOps

from raylight.data.decode.image import decode_image
from raylight.data.decode.spec import DecodeSpec
from raylight.errors import BadImageError
from tests.data.decode.pictures import CROP, STRETCH, TRUNCATED, difference, encoded, picture, reference, refused


@pytest.mark.parametrize("spec", [CROP, STRETCH, DecodeSpec(224, "crop"), DecodeSpec(7, "stretch")])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 97, "subsampling": 0}),
        ("JPEG", {"quality": 97, "progressive": True}),
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
        ("JPEG2000", {}),
        ("AVIF", {"quality": 95}),
        ("PPM", {}),
    ],
)
def test_every_format_looks_as_pillow_shows_it(kind: str, options: dict[str, object], spec: DecodeSpec) -> None:
    decoded = decode_image(encoded(picture(), kind, **options), spec)
    assert decoded.shape == (spec.size, spec.size, 3)
    assert decoded.dtype == np.uint8
    assert difference(decoded, reference(picture(), spec)) < 2.5


@pytest.mark.parametrize("spec", [CROP, STRETCH])
@pytest.mark.parametrize("size", [(150, 100), (97, 211), (64, 64), (700, 30), (3, 5), (1, 1)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_shapes_wide_tall_tiny(kind: str, size: tuple[int, int], spec: DecodeSpec) -> None:
    image = picture(150, 100).resize(size)
    decoded = decode_image(encoded(image, kind, quality=98, subsampling=0), spec)
    exact = np.asarray(image.resize((spec.size, spec.size), Image.Resampling.BILINEAR, box=spec.box(*image.size)))
    assert difference(decoded, exact) < 3


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_scaling_while_decoding_keeps_the_picture_in_place(factor: int) -> None:
    """An off-by-one in the scaled geometry would shift edges; odd sizes leave a part of a block over."""
    image = picture(factor * 60 + 5, factor * 55 + 3)
    decoded = decode_image(encoded(image, "JPEG", quality=98), CROP)
    plain = image.resize((48, 48), Image.Resampling.BILINEAR, box=CROP.box(*image.size))
    assert difference(decoded, np.asarray(plain)) < 0.8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("spec", [CROP, STRETCH])
def test_exif_orientation_is_applied(kind: str, orientation: int, spec: DecodeSpec) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 98} if kind == "JPEG" else {}
    data = encoded(picture(), kind, exif=exif, **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    decoded = decode_image(data, spec)
    assert difference(decoded, reference(upright, spec)) < 2.5
    if orientation != 1:
        assert difference(decoded, reference(picture(), spec)) > 5


def test_xmp_orientation_is_applied() -> None:
    plain = encoded(picture(), "JPEG", quality=98)
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="3"/>'
    turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp + plain[2:]
    assert np.array_equal(decode_image(turned, CROP), decode_image(plain, CROP)[::-1, ::-1])


def test_damaged_exif_leaves_the_picture_as_it_is_stored() -> None:
    plain = encoded(picture(), "JPEG", quality=98)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff broken"
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    assert np.array_equal(decode_image(data, CROP), decode_image(plain, CROP))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_grey_becomes_three_equal_channels(kind: str) -> None:
    decoded = decode_image(encoded(picture().convert("L"), kind), CROP)
    assert np.ptp(decoded, axis=2).max() == 0
    assert difference(decoded[..., 0], reference(picture().convert("L"), CROP)) < 2


def test_one_bit_palette_and_cmyk() -> None:
    black_and_white = picture().convert("1")
    decoded = decode_image(encoded(black_and_white, "PNG"), STRETCH)
    assert difference(decoded, reference(black_and_white.convert("RGB"), STRETCH)) < 1
    palette = picture().quantize(32)
    decoded = decode_image(encoded(palette, "GIF"), STRETCH)
    assert difference(decoded, reference(palette.convert("RGB"), STRETCH)) < 1
    for kind in ("JPEG", "TIFF"):
        data = encoded(picture().convert("CMYK"), kind)
        expected = Image.open(io.BytesIO(data)).convert("RGB")
        assert difference(decode_image(data, STRETCH), reference(expected, STRETCH)) < 2
        assert difference(decode_image(data, STRETCH), reference(picture(), STRETCH)) < 4


@pytest.mark.parametrize(("low", "high"), [(0, 65535), (0, 4095), (0, 1000), (30000, 30400)])
def test_sixteen_bits_of_grey_are_scaled_from_their_own_range(low: int, high: int) -> None:
    """12 bits at the lower end of 16, or an offset: the smallest value is black, the largest white."""
    values = np.linspace(low, high, 48 * 48).astype(np.uint16).reshape(48, 48)
    expected = np.rint((values.astype(float) - low) / (high - low) * 255)
    for kind in ("PNG", "TIFF", "PPM"):
        decoded = decode_image(encoded(Image.fromarray(values), kind), STRETCH)
        assert np.abs(decoded[..., 1] - expected).max() <= 1, kind
        assert (decoded[..., 1] == expected).mean() > 0.99, kind
        assert len(np.unique(decoded)) > 250


def test_a_single_value_of_sixteen_bits_keeps_its_upper_eight() -> None:
    data = encoded(Image.fromarray(np.full((48, 48), 40000, np.uint16)), "PNG")
    assert (decode_image(data, STRETCH) == 40000 >> 8).all()


def test_sixteen_bits_of_which_zero_is_white_are_turned() -> None:
    """TIFF's photometric interpretation 0; Pillow itself minds it up to 8 bits, and refuses it with the larger byte first."""
    values = np.linspace(0, 65535, 48 * 48).astype(np.uint16).reshape(48, 48)
    for order, kind in (("<", b"II*\0"), (">", b"MM\0*")):
        pixels = values.astype(f"{order}u2").tobytes()
        directory = struct.pack(f"{order}H", 8)
        for tag, length, value in (
            (256, 3, 48),
            (257, 3, 48),
            (258, 3, 16),
            (259, 3, 1),
            (262, 3, 0),
            (273, 4, 8),
            (278, 3, 48),
        ):
            entry = struct.pack(f"{order}HHI", tag, length, 1)
            directory += entry + (
                struct.pack(f"{order}I", value) if length == 4 else struct.pack(f"{order}HH", value, 0)
            )
        directory += struct.pack(f"{order}HHII", 279, 4, 1, len(pixels)) + bytes(4)
        file = kind + struct.pack(f"{order}I", 8 + len(pixels)) + pixels + directory
        if order == ">":
            assert "grey (white is zero), 1 x 16-bit integers" in refused(file)
        else:
            expected = 255 - np.rint(values / 65535 * 255)
            assert np.abs(decode_image(file, STRETCH)[..., 0] - expected).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L"])
def test_few_bits_of_which_zero_is_white_are_turned_once(mode: str) -> None:
    image = picture().convert(mode)
    stream = io.BytesIO()
    ImageOps.invert(image.convert("L")).convert(mode).save(stream, "TIFF", tiffinfo={262: 0})
    with Image.open(io.BytesIO(stream.getvalue())) as again:
        assert again.tag_v2[262] == 0
        expected = again.convert("RGB")
    assert difference(decode_image(stream.getvalue(), STRETCH), reference(expected, STRETCH)) < 1


def test_twelve_bit_tiff_is_scaled_like_sixteen() -> None:
    """Two pixels, 0xFFF and 0x800, packed into three bytes."""
    entries = [(256, 3, 2), (257, 3, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (278, 3, 1), (279, 4, 3)]
    directory = b"".join(struct.pack("<HHIHH", tag, kind, 1, value, 0) for tag, kind, value in entries)
    tiff = b"II*\0" + struct.pack("<I", 12) + b"\xff\xf8\x00\0" + struct.pack("<H", len(entries)) + directory + bytes(4)
    decoded = decode_image(tiff, DecodeSpec(2, "stretch"))
    assert decoded[0, :, 0].tolist() == [0xFF, 0]


def test_transparency_is_laid_on_white() -> None:
    image = picture()
    alpha = Image.linear_gradient("L").resize(image.size)
    white = Image.new("RGB", image.size, "white")
    see_through = image.copy()
    see_through.putalpha(alpha)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        decoded = decode_image(encoded(see_through, kind, **options), STRETCH)
        assert difference(decoded, reference(Image.composite(image, white, alpha), STRETCH)) < 1.5, kind
    grey = Image.merge("LA", (image.convert("L"), alpha))
    expected = Image.composite(image.convert("L"), Image.new("L", image.size, 255), alpha)
    assert difference(decode_image(encoded(grey, "PNG"), STRETCH)[..., 0], reference(expected, STRETCH)) < 1.5


def test_transparent_colours_of_palette_grey_and_rgb_files() -> None:
    for image, key in (
        (picture().quantize(16), 3),
        (Image.new("L", (9, 9), 7), 7),
        (Image.new("RGB", (9, 9)), (0, 0, 0)),
    ):
        data = encoded(image, "PNG", transparency=key)
        rgba = Image.open(io.BytesIO(data)).convert("RGBA")
        expected = Image.new("RGBA", rgba.size, "white")
        expected.alpha_composite(rgba)
        assert rgba.getchannel("A").getextrema()[0] == 0
        assert difference(decode_image(data, STRETCH), reference(expected.convert("RGB"), STRETCH)) < 1.5


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_and_pages_give_the_first_picture(kind: str) -> None:
    frames = [picture(), Image.new("RGB", (150, 100), "black"), Image.new("RGB", (150, 100), "white")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert difference(decode_image(data, CROP), reference(picture(), CROP)) < 4


@pytest.mark.parametrize("name", TRUNCATED)
def test_a_file_cut_off_anywhere_is_refused(name: str) -> None:
    """Except where only the end mark is lacking, so that the picture is the same."""
    data = TRUNCATED[name]
    whole = decode_image(data, CROP)
    for length in sorted({*np.linspace(0, len(data) - 1, 60, dtype=int), *range(len(data) - 12, len(data))}):
        with contextlib.suppress(BadImageError):
            decoded = decode_image(data[:length], CROP)
            assert len(data) - length <= 8, f"accepted without its last {len(data) - length} bytes"
            assert np.array_equal(decoded, whole)


def test_a_warning_of_libjpeg_is_a_refusal() -> None:
    data = encoded(picture(), "JPEG")
    assert simplejpeg.decode_jpeg(data[:-2] + b"\0" * 40 + data[-2:], strict=False).size
    assert "extraneous bytes" in refused(data[:-2] + b"\0" * 40 + data[-2:])
    assert refused(data[: len(data) // 2] + b"\xff\xd9")


def test_no_flipped_bit_of_a_png_goes_unseen() -> None:
    data = encoded(picture(60, 40), "PNG")
    whole = decode_image(data, CROP)
    generator = np.random.default_rng(1)
    for position in generator.integers(0, len(data), 150):
        changed = bytearray(data)
        changed[position] ^= 1 << int(generator.integers(8))
        try:
            decoded = decode_image(bytes(changed), CROP)
        except BadImageError:
            continue
        assert np.array_equal(decoded, whole)


def test_no_mutation_crashes_the_decoder() -> None:
    """Bit flips, splices and cuts of every kind of file end in pixels or in a reason."""
    generator = np.random.default_rng(2)
    ends = {"pixels": 0, "reason": 0}
    for data in TRUNCATED.values():
        for _ in range(25):
            mutated = bytearray(data)
            for position in generator.integers(0, len(data), generator.integers(1, 4)):
                mutated[position] = generator.integers(256)
            start, length = generator.integers(0, len(data), 2)
            if generator.random() < 0.3:
                mutated[start : start + length // 8] = mutated[: length // 9]
            try:
                pixels, reason = decode_image(bytes(mutated), CROP), None
            except BadImageError as error:
                pixels, reason = None, str(error)
            assert reason if pixels is None else pixels.shape == (48, 48, 3)
            ends["reason" if pixels is None else "pixels"] += 1
    assert min(ends.values()) > 20


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"not a picture at all", "not a whole image of an accepted format"),
        (b"PK\x03\x04" + bytes(100), "not a whole image of an accepted format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a whole image of an accepted format"),
        (b"\xff\xd8", "header is cut off"),
        (b"\xff\xd8\xff\xd9\0\0\0\0", "ends before its image data"),
        (b"\xff\xd8 hello, world", "header is damaged at byte 2"),
        (encoded(Image.new("F", (9, 9)), "TIFF"), "floating-point pixels"),
        (encoded(Image.new("I", (9, 9)), "TIFF"), "32-bit signed integers, whose range isn't known"),
        (encoded(Image.new("LAB", (9, 9)), "TIFF"), "CIELAB pixels"),
    ],
)
def test_what_is_no_usable_image_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    assert reason in refused(data)


def _png_that_claims(width: int, height: int, colour: int = 2) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9999))) + chunk(b"IEND", b"")
    )


def _jpeg_that_claims(width: int, height: int, **options: object) -> bytes:
    data = encoded(picture(), "JPEG", **options)
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


def _gif_that_claims(width: int, height: int) -> bytes:
    data = bytearray(encoded(picture().quantize(16), "GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def test_a_picture_without_pixels_is_refused() -> None:
    for width, height in ((0, 0), (0, 9), (9, 0)):
        assert "not a whole image of an accepted format" in refused(_png_that_claims(width, height))
        assert refused(_jpeg_that_claims(width, height)) == f"no pixels: {width} x {height}"
        assert "not a whole image" in refused(f"P6 {width} {height} 255\n".encode() + bytes(99))


BOMBS = {
    "png": _png_that_claims(60_000, 60_000),
    "png, just too large": _png_that_claims(10_000, 8_400),
    "jpeg": _jpeg_that_claims(65_000, 65_000),
    "progressive jpeg": _jpeg_that_claims(12_000, 10_000, progressive=True),
    "gif": _gif_that_claims(60_000, 60_000),
    "bmp": encoded(picture(), "BMP")[:18] + struct.pack("<II", 60_000, 60_000) + encoded(picture(), "BMP")[26:],
    "ppm": b"P6 60000 60000 255\n" + bytes(1000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_picture_that_is_too_large_is_refused_by_its_header(name: str, recwarn: pytest.WarningsRecorder) -> None:
    assert "pixels" in refused(BOMBS[name])
    assert not [warning for warning in recwarn if "decompression" in str(warning.message).lower()]


def test_bombs_take_no_memory(tmp_path: Path) -> None:
    """In a process of its own, whose peak is compared with that of a small image."""
    code = """
import resource, sys
from pathlib import Path
from raylight.data.decode.image import decode_image
from raylight.data.decode.spec import DecodeSpec
from raylight.errors import BadImageError
decode_image(Path(sys.argv[1]).read_bytes(), DecodeSpec(48, "crop"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[2:]:
    try:
        decode_image(Path(name).read_bytes(), DecodeSpec(48, "crop"))
    except BadImageError:
        continue
    raise SystemExit(f"{name} was decoded")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    names = []
    for number, data in enumerate([encoded(picture(), "PNG"), *BOMBS.values()]):
        (tmp_path / str(number)).write_bytes(data)
        names.append(str(tmp_path / str(number)))
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 60


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    data = encoded(Image.new("L", (4000, 4000)), "JPEG", progressive=True)
    assert (decode_image(data, CROP) == 0).all()
    scan = data.rindex(b"\xff\xda")
    assert "scans of 4000 x 4000 pixels" in refused(data[:-2] + data[scan:-2] * 150 + data[-2:])


def test_a_large_jpeg_is_decoded_in_little_memory_and_time() -> None:
    """100 megapixels of one scan: scaled by 8 while decoding, never whole in memory."""
    data = simplejpeg.encode_jpeg(
        np.full((10_000, 10_000, 1), 77, np.uint8), colorspace="GRAY", colorsubsampling="Gray"
    )
    assert (decode_image(data, CROP) == 77).all()


def test_the_result_is_the_callers_own() -> None:
    for data in (TRUNCATED["baseline"], TRUNCATED["grey"], TRUNCATED["png"]):
        decoded = decode_image(data, CROP)
        assert decoded.flags.writeable
        assert decoded.flags.c_contiguous
        decoded[:] = 0
        assert decode_image(data, CROP).any()


def test_pixels_go_where_they_are_wanted() -> None:
    rows = np.full((3, 48, 48, 3), 9, np.uint8)
    assert decode_image(TRUNCATED["grey"], CROP, rows[1]).base is rows
    assert np.array_equal(rows[1], decode_image(TRUNCATED["grey"], CROP))
    with pytest.raises(BadImageError):
        decode_image(TRUNCATED["grey"][:-50], CROP, rows[2])
    assert (rows[[0, 2]] == 9).all()


def test_pillows_settings_stay_as_they_were() -> None:
    before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
    for data in (*TRUNCATED.values(), *BOMBS.values()):
        try:
            decode_image(data, CROP)
        except BadImageError:
            continue
    assert (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS) == before == (False, 89_478_485)


def test_threads_do_not_disturb_each_other() -> None:
    files = list(TRUNCATED.values()) * 8
    alone = [decode_image(data, CROP) for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: decode_image(data, CROP), files))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.real_data
def test_real_photos_and_films_look_as_pillow_shows_them() -> None:
    if not (root := os.environ.get("RAYLIGHT_REAL_DATA")):
        pytest.skip("set RAYLIGHT_REAL_DATA to a folder with dogs-vs-cats and xray_dataset_covid19")
    spec = DecodeSpec(224, "crop")
    photos = sorted(Path(root, "dogs-vs-cats").rglob("*.jpg"))[::50]
    films = sorted(file for file in Path(root, "xray_dataset_covid19").rglob("*.*") if file.suffix != ".md")[::8]
    assert photos
    assert films
    for file in (*photos, *films):
        with Image.open(file) as image:
            plain = image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR, box=spec.box(*image.size))
        assert difference(decode_image(file.read_bytes(), spec), np.asarray(plain)) < 1.5, file.name


def padded(image: Image.Image, size: int, fill: tuple[int, int, int]) -> np.ndarray:
    """The plain way: resize with Pillow, paste onto a square of the colour."""
    scale = size / max(image.size)
    width, height = (max(round(side * scale), 1) for side in image.size)
    square = Image.new("RGB", (size, size), fill)
    square.paste(image.resize((width, height), Image.Resampling.BILINEAR), ((size - width) // 2, (size - height) // 2))
    return np.asarray(square)


@pytest.mark.parametrize("size", [(150, 100), (101, 152), (64, 64), (400, 3), (900, 500)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_pad_shows_all_of_a_picture_within_its_border(size: tuple[int, int], kind: str) -> None:
    image, spec = picture(*size), DecodeSpec(47, "pad", fill=(124, 116, 104))
    data = encoded(image, kind, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}))
    expected = padded(Image.open(io.BytesIO(data)), 47, spec.fill)
    decoded = decode_image(data, spec)
    border = (expected == spec.fill).all(axis=2)
    assert difference(decoded, expected) < (1.5 if kind == "JPEG" else 0.5)
    assert (decoded[border] == spec.fill).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pad_is_put_around_the_upright_picture(orientation: int) -> None:
    """An odd border has one pixel more to the right and below, however the picture was stored."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    spec = DecodeSpec(48, "pad", fill=(1, 2, 3))
    for kind in ("PNG", "JPEG"):
        data = encoded(picture(48, 33), kind, exif=exif)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        decoded = decode_image(data, spec)
        first = (7, 0) if upright.height < upright.width else (0, 7)
        assert (decoded[: first[0], : first[1] or None] == spec.fill).all()
        assert difference(decoded, padded(upright, 48, spec.fill)) < 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "tolerance"), [("PNG", 0.6), ("JPEG", 1.5)])
def test_height_and_width_that_differ_are_those_of_the_upright_picture(
    kind: str, tolerance: float, orientation: int
) -> None:
    """Against torchvision's Resize and CenterCrop, Pillow's resize and ImageOps.pad, of the picture turned upright first."""
    from torchvision.transforms import v2

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture(200, 100), kind, exif=exif, **({"quality": 98, "subsampling": 0} if kind == "JPEG" else {}))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    height, width = (36, 60) if upright.width > upright.height else (60, 36)
    plain = v2.Compose([v2.Resize(42), v2.CenterCrop((height, width))])  # the shorter side decides, and covers the crop
    pad = ImageOps.pad(upright, (width, height), Image.Resampling.BILINEAR, (124, 116, 104))
    expected = {
        "stretch": np.asarray(upright.resize((width, height), Image.Resampling.BILINEAR)),
        "crop": np.asarray(plain(upright)),
        "pad": np.asarray(pad),
    }
    for resize, pixels in expected.items():
        spec = DecodeSpec((height, width), resize, 42 if resize == "crop" else None, fill=(124, 116, 104))
        decoded = decode_image(data, spec)
        assert decoded.shape == (height, width, 3)
        assert difference(decoded, pixels) < tolerance, resize
