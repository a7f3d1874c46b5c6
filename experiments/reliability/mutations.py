"""Images of every kind, and ways to break them: what the decoder is fuzzed with.

Everything is drawn from a generator that the caller seeds, so that a fault found once is found again.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

STEP = 512
"""Bytes between two places at which a file is cut off."""

EXTREMES = (0, 1, 2, 255, 60_000, 65_535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
"""Sizes and lengths that programs get wrong."""


class Case(NamedTuple):
    """One input for the decoder.

    Attributes:
        name: the file it was made from.
        mutation: what was done to it.
        data: the content.
        whole: the content before; an accepted ``data`` must show the same picture. None where it may show another.
    """

    name: str
    mutation: str
    data: bytes
    whole: bytes | None


def drawn_files() -> dict[str, bytes]:
    """A small picture in every format and pixel format that is accepted, by name."""
    y, x = np.mgrid[:100, :150] / 100
    colours = np.stack([40 + 80 * x, 200 - 150 * y, 90 + 60 * np.sin(5 * x + 3 * y)], axis=2).astype(np.uint8)
    colours[:25, :50] = (250, 240, 10)
    rgb = Image.fromarray(colours)
    grey, palette, cmyk = rgb.convert("L"), rgb.quantize(64), rgb.convert("CMYK")
    see_through = rgb.copy()
    see_through.putalpha(Image.linear_gradient("L").resize(rgb.size))
    deep = Image.fromarray((colours[..., 0].astype(np.uint16) << 8) + 77)
    others = [Image.new("RGB", rgb.size, "black"), Image.new("RGB", rgb.size, "white")]
    pages = {"save_all": True, "append_images": others}
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds: list[tuple[str, Image.Image, str, dict[str, object]]] = [
        ("jpeg", rgb, "JPEG", {}),
        ("jpeg, turned", rgb, "JPEG", {"exif": turned}),
        ("jpeg, progressive", rgb, "JPEG", {"progressive": True}),
        ("jpeg, restarts", rgb, "JPEG", {"restart_marker_rows": 1}),
        ("jpeg, grey", grey, "JPEG", {}),
        ("jpeg, cmyk", cmyk, "JPEG", {}),
        ("png", rgb, "PNG", {}),
        ("png, grey", grey, "PNG", {}),
        ("png, 16 bits", deep, "PNG", {}),
        ("png, palette", palette, "PNG", {}),
        ("png, palette with transparency", palette, "PNG", {"transparency": 3}),
        ("png, alpha", see_through, "PNG", {}),
        ("png, animated", rgb, "PNG", pages),
        ("gif", palette, "GIF", {}),
        ("gif, animated", rgb, "GIF", pages),
        ("bmp", rgb, "BMP", {}),
        ("bmp, palette", palette, "BMP", {}),
        ("tiff", rgb, "TIFF", {}),
        ("tiff, lzw", rgb, "TIFF", {"compression": "tiff_lzw"}),
        ("tiff, deflate", see_through, "TIFF", {"compression": "tiff_adobe_deflate"}),
        ("tiff, jpeg", rgb, "TIFF", {"compression": "jpeg"}),
        ("tiff, cmyk", cmyk, "TIFF", {}),
        ("tiff, 16 bits", deep, "TIFF", {}),
        ("tiff, fax", rgb.convert("1"), "TIFF", {"compression": "group4"}),
        ("tiff, pages", rgb, "TIFF", pages),
        ("webp", rgb, "WEBP", {}),
        ("webp, lossless", see_through, "WEBP", {"lossless": True}),
        ("webp, animated", rgb, "WEBP", {**pages, "lossless": True}),
        ("jpeg 2000", rgb, "JPEG2000", {}),
        ("jpeg 2000, alpha", see_through, "JPEG2000", {}),
        ("avif", rgb, "AVIF", {}),
        ("avif, animated", rgb, "AVIF", pages),
        ("ppm", rgb, "PPM", {}),
        ("ppm, 16 bits", deep, "PPM", {}),
    ]
    files = {name: _encoded(image, kind, **options) for name, image, kind, options in kinds}
    files["ppm, plain"] = b"P3\n9 7\n255\n" + b" ".join(b"%d" % (value % 256) for value in range(9 * 7 * 3)) + b"\n"
    files["pbm, plain"] = b"P1\n9 7\n" + b" ".join(b"%d" % (value % 2) for value in range(9 * 7)) + b"\n"
    return files


def real_files(root: Path, count: int) -> dict[str, bytes]:
    """Photos and films from a folder, spread evenly over its files."""
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return {path.name: path.read_bytes() for path in found[:: max(1, len(found) // count)][:count]}


def cases(files: Mapping[str, bytes], count: int, generator: np.random.Generator) -> Iterator[Case]:
    """So many broken files, of all mutations: every cut first, where they fit into half of the count."""
    cuts = [(name, length) for name, data in files.items() for length in range(0, len(data), STEP)]
    chosen = sorted(generator.choice(len(cuts), min(len(cuts), count // 2), replace=False).tolist())
    for name, length in (cuts[position] for position in chosen):
        yield Case(name, f"cut off after {length} bytes", files[name][:length], files[name])
    names = list(files)
    for number in range(count - len(chosen)):
        name = names[number % len(names)]
        data = files[name]
        mutation, change = MUTATIONS[int(generator.integers(len(MUTATIONS)))]
        other = files[names[int(generator.integers(len(names)))]]
        whole = data if name.startswith("png") and mutation == "bits flipped" else None
        yield Case(name, mutation, change(data, other, generator), whole)


def bits_flipped(data: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    """One to eight bits the other way round."""
    changed = bytearray(data)
    for position in generator.integers(0, len(data), generator.integers(1, 9)).tolist():
        changed[position] ^= 1 << int(generator.integers(8))
    return bytes(changed)


def header_bits_flipped(data: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    """The same, all within the first 64 bytes."""
    return bits_flipped(data[:64], other, generator) + data[64:]


def bytes_replaced(data: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    """A stretch of random bytes."""
    start, length = int(generator.integers(len(data))), int(generator.integers(1, 200))
    return (data[:start] + generator.bytes(length) + data[start + length :])[: len(data)]


def header_spliced(data: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    """The beginning of one file before the rest of another."""
    cut = int(generator.integers(2, min(1024, len(data), len(other))))
    return other[:cut] + data[cut:]


def stretch_spliced(data: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    """A part of another file within this one."""
    at, start = int(generator.integers(len(data))), int(generator.integers(len(other)))
    return data[:at] + other[start : start + int(generator.integers(1, 2000))] + data[at:]


def stretch_removed(data: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    """Some bytes gone from the middle."""
    at = int(generator.integers(len(data)))
    return data[:at] + data[at + int(generator.integers(1, 600)) :]


def tail_zeroed(data: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    """As a file looks that was copied while the disk filled up or the power went."""
    at = int(generator.integers(len(data)))
    return data[:at] + bytes(len(data) - at)


def length_lying(data: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    """An extreme number somewhere in the first 512 bytes, where sizes and lengths stand."""
    at = int(generator.integers(2, min(512, len(data) - 4)))
    number = EXTREMES[int(generator.integers(len(EXTREMES)))]
    order = (">I", "<I")[int(generator.integers(2))]
    piece = struct.pack(order, number)
    if number < 2**16 and generator.random() < 0.5:
        piece = struct.pack(order.replace("I", "H"), number)
    return data[:at] + piece + data[at + len(piece) :]


def size_lying(data: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    """Another width and height in the header, with a fitting checksum where the format has one."""
    sides = (1, 99, 151, 640, 5_000, 9_000, 16_000, 30_000, 60_000, 65_535)
    width, height = (sides[int(choice)] for choice in generator.integers(0, len(sides), 2))
    return claiming(data, width, height)


def claiming(data: bytes, width: int, height: int) -> bytes:
    """The same file with another size in its header; unchanged where the format isn't known."""
    if data.startswith(b"\xff\xd8"):
        at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        return data if at < 0 else data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]
    if data.startswith(b"\x89PNG"):
        header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
        return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
    if data.startswith(b"GIF8"):
        return data[:6] + struct.pack("<HH", width, height) + data[10:]
    if data.startswith(b"BM"):
        return data[:18] + struct.pack("<II", width, height) + data[26:]
    if data.startswith((b"P5", b"P6")):
        return data[:2] + b" %d %d " % (width, height) + data.split(b"\n", 2)[2]
    if data.startswith(b"II*\0"):
        directory = struct.unpack_from("<I", data, 4)[0]
        changed = bytearray(data)
        for entry in range(struct.unpack_from("<H", data, directory)[0]):
            at = directory + 2 + 12 * entry
            tag = struct.unpack_from("<H", data, at)[0]
            if tag in (256, 257):
                changed[at : at + 12] = struct.pack("<HHII", tag, 4, 1, width if tag == 256 else height)
        return bytes(changed)
    if data.startswith(b"RIFF") and data[12:16] == b"VP8X":
        return data[:24] + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3] + data[30:]
    if data.startswith(b"RIFF") and data[12:16] == b"VP8 ":
        return data[:26] + struct.pack("<HH", width & 0x3FFF, height & 0x3FFF) + data[30:]
    if (at := data.find(b"\xff\x4f\xff\x51")) >= 0:
        return data[: at + 8] + struct.pack(">II", width, height) + data[at + 16 :]
    if (at := data.find(b"ispe")) >= 0:
        return data[: at + 8] + struct.pack(">II", width, height) + data[at + 16 :]
    return data


MUTATIONS: list[tuple[str, Callable[[bytes, bytes, np.random.Generator], bytes]]] = [
    ("bits flipped", bits_flipped),
    ("header bits flipped", header_bits_flipped),
    ("bytes replaced", bytes_replaced),
    ("header spliced", header_spliced),
    ("stretch spliced", stretch_spliced),
    ("stretch removed", stretch_removed),
    ("tail zeroed", tail_zeroed),
    ("length lying", length_lying),
    ("size lying", size_lying),
]


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()
