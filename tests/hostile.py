"""Files that must be refused: cut, damaged, lying, oversized, or no pictures at all.

Everything is made here from gradients and seeded noise; no two files are the same.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pillow_heif
from PIL import Image

from services.gateway.imaging import ImageLimits, ImageProblem

WIDTH, HEIGHT = 56, 40
_SEED = 20240229

EMPTY = frozenset({ImageProblem.EMPTY})
UNSUPPORTED = frozenset({ImageProblem.UNSUPPORTED_FORMAT})
TRUNCATED = frozenset({ImageProblem.TRUNCATED})
CORRUPT = frozenset({ImageProblem.CORRUPT})
DAMAGED = TRUNCATED | CORRUPT
ANIMATED = frozenset({ImageProblem.ANIMATED})
TOO_SMALL = frozenset({ImageProblem.TOO_SMALL})
TOO_MANY_PIXELS = frozenset({ImageProblem.TOO_MANY_PIXELS})
TOO_MANY_BYTES = frozenset({ImageProblem.TOO_MANY_BYTES})


@dataclass(frozen=True, slots=True)
class HostileImage:
    """A file, and the problems any one of which is a right answer (None: any problem)."""

    name: str
    data: bytes
    expected: frozenset[ImageProblem] | None


def hostile_images() -> Iterator[HostileImage]:
    """All files, one at a time (some have ten megabytes), always the same in the same order."""
    for family in (
        _no_pictures,
        _cut_off,
        _moving,
        _wrong_size,
        _damaged_png,
        _damaged_jpeg,
        _damaged_webp,
        _damaged_bmp,
        _damaged_tiff,
        _damaged_heic,
        _greedy,
    ):
        yield from family()


def gradient(width: int = WIDTH, height: int = HEIGHT, seed: int = _SEED) -> Image.Image:
    """A smooth RGB picture with a little noise, so that every coder has something to code."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    base = np.stack(
        [
            columns * 255 / width,
            rows * 255 / height,
            255 - (rows + columns) * 255 / (width + height),
        ],
        axis=-1,
    )
    noise = np.random.default_rng(seed).normal(0.0, 6.0, base.shape)
    return Image.fromarray(np.clip(base + noise, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    """The bytes of a picture file; HEIC included."""
    out = io.BytesIO()
    if form == "HEIC":
        pillow_heif.from_pillow(image).save(out, **options)
    else:
        image.save(out, form, **options)
    return out.getvalue()


def png_chunk(name: bytes, body: bytes) -> bytes:
    """A chunk with a right checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_file(
    width: int,
    height: int,
    *,
    depth: int = 8,
    colour: int = 2,
    rows: bytes = b"",
    extra: bytes = b"",
) -> bytes:
    """A PNG whose header says what it is told to say."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + extra
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )


def jpeg_segment(marker: int, body: bytes) -> bytes:
    """A marker segment with a right length."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """The same bytes with some replaced in place."""
    return data[:at] + new + data[at + len(new) :]


def tiff_file(
    fields: list[tuple[int, int, int, int]],
    body: bytes = b"",
    following: int = 0,
    directory_at: int | None = None,
) -> bytes:
    """A little-endian TIFF: header, body from offset 8, then one directory."""
    at = 8 + len(body) if directory_at is None else directory_at
    directory = struct.pack("<H", len(fields))
    directory += b"".join(struct.pack("<HHII", *field) for field in fields)
    return b"II*\0" + struct.pack("<I", at) + body + directory + struct.pack("<I", following)


def tiff_fields(**changes: int) -> list[tuple[int, int, int, int]]:
    """The fields of an 8-bit grey picture in one strip at offset 8, with some values changed."""
    values = {
        "t256": WIDTH, "t257": HEIGHT, "t258": 8, "t259": 1, "t262": 1,
        "t273": 8, "t277": 1, "t278": HEIGHT, "t279": WIDTH * HEIGHT,
    } | changes  # fmt: skip
    return [(int(name[1:]), 4, 1, value) for name, value in sorted(values.items())]


def _no_pictures() -> Iterator[HostileImage]:
    noise = np.random.default_rng(_SEED).bytes(4096)
    yield HostileImage("empty", b"", EMPTY)
    for value in (0x00, 0x42, 0x89, 0xFF):
        yield HostileImage(f"one byte {value:02x}", bytes([value]), UNSUPPORTED)
    for size in (2, 64, 4096):
        yield HostileImage(f"{size} zero bytes", bytes(size), UNSUPPORTED)
    yield HostileImage("noise", b"\x01" + noise, UNSUPPORTED)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr(zipfile.ZipInfo("face.jpg"), encoded(gradient(), "JPEG"))
    lines = [f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10)]
    entities = '<!DOCTYPE r [<!ENTITY e0 "ha">' + "".join(lines) + "]><r>&e9;</r>"
    texts = {
        "plain text": b"This is not a picture.\n" * 20,
        "JSON": b'{"image": "none"}',
        "data URI": b"data:image/png;base64,iVBORw0KGgo=",
        "HTML": b"<!doctype html><html><body><script>alert(1)</script></body></html>",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="90" height="90"/></svg>',
        "XML bomb": b'<?xml version="1.0"?>' + entities.encode(),
        "PDF": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\nshowpage\n",
        "ZIP": archive.getvalue(),
        "gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + noise,
        "ELF": b"\x7fELF\x02\x01\x01" + bytes(9) + noise,
        "DOS program": b"MZ\x90\0" + noise,
        "shell script": b"#!/bin/sh\nexit 1\n",
        "pickle": b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x02os\x94.",
        "MP4 film": struct.pack(">I", 20) + b"ftypisom" + bytes(4) + b"isom" + noise,
        "AVIF": struct.pack(">I", 24) + b"ftypavif" + bytes(4) + b"avifmif1" + noise,
        "AVIF under the general brand": struct.pack(">I", 24)
        + b"ftypmif1"
        + bytes(4)
        + b"avifmiaf",
        "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + noise,
        "Photoshop": b"8BPS\0\x01" + bytes(6) + struct.pack(">HIIHH", 3, 90, 90, 8, 3),
        "icon": b"\0\0\x01\0\x01\0\x20\x20\0\0\x01\0\x20\0" + noise,
        "NumPy array": b"\x93NUMPY\x01\0" + noise,
        "WAV sound": b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + noise,
        "portable pixmap": encoded(gradient(), "PPM"),
        "Targa": encoded(gradient(), "TGA"),
        "BigTIFF": b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) + bytes(64),
        "GIF": encoded(gradient().convert("P"), "GIF"),
    }
    for name, data in texts.items():
        yield HostileImage(name, data, UNSUPPORTED)
    for form in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "HEIC"):
        good = encoded(gradient(), form)
        yield HostileImage(f"{form} behind a zero byte", b"\0" + good, UNSUPPORTED)
        yield HostileImage(f"{form} behind a GIF header", b"GIF89a" + good, UNSUPPORTED)
        yield HostileImage(f"{form} with its magic inverted", _inverted(good, 12), UNSUPPORTED)
    # The other format's magic in front: each reader meets a body that it does not know.
    bodies = encoded(gradient(), "PNG")[8:]
    for magic in (b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"RIFF\x40\0\0\0WEBP"):
        yield HostileImage(f"{magic[:4]!r} on a PNG's body", magic + bodies, DAMAGED | UNSUPPORTED)
        yield HostileImage(f"{magic[:4]!r} and noise", magic + noise, None)
    jpeg_body = encoded(gradient(), "JPEG")[2:]
    yield HostileImage("PNG magic on a JPEG's body", b"\x89PNG\r\n\x1a\n" + jpeg_body, DAMAGED)


def _inverted(data: bytes, count: int) -> bytes:
    return bytes(255 - byte for byte in data[:count]) + data[count:]


def _cut_off() -> Iterator[HostileImage]:
    whole = {
        "JPEG": encoded(gradient(), "JPEG", quality=90),
        "progressive JPEG": encoded(gradient(), "JPEG", quality=90, progressive=True),
        "grey JPEG": encoded(gradient().convert("L"), "JPEG"),
        "CMYK JPEG": encoded(gradient().convert("CMYK"), "JPEG"),
        "PNG": encoded(gradient(), "PNG"),
        "palette PNG": encoded(gradient().convert("P"), "PNG"),
        "WebP": encoded(gradient(), "WEBP"),
        "lossless WebP": encoded(gradient(), "WEBP", lossless=True),
        "BMP": encoded(gradient(), "BMP"),
        "TIFF": encoded(gradient(), "TIFF"),
        "LZW TIFF": encoded(gradient(), "TIFF", compression="tiff_lzw"),
        "HEIC": encoded(gradient(), "HEIC"),
    }
    for name, data in whole.items():
        shares = {round(len(data) * share / 8) for share in range(1, 8)}
        for keep in sorted(shares | {len(data) - 2, len(data) - 1}):
            yield HostileImage(f"{name} cut to {keep} bytes", data[:keep], TRUNCATED)
    for name in ("JPEG", "PNG", "WebP", "BMP", "TIFF", "HEIC"):
        yield HostileImage(f"{name} cut to 14 bytes", whole[name][:14], DAMAGED)
    for name in ("JPEG", "progressive JPEG", "CMYK JPEG"):
        half = whole[name][: len(whole[name]) * 3 // 4]
        yield HostileImage(f"{name} with zeros for its end", half + bytes(4096), DAMAGED)
        if name != "progressive JPEG":  # which is whole after any scan, only coarser
            yield HostileImage(f"{name} cut, then closed properly", half + b"\xff\xd9", DAMAGED)


def _moving() -> Iterator[HostileImage]:
    frames = [gradient(seed=seed) for seed in range(3)]
    for form in ("PNG", "WEBP", "TIFF"):
        data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
        yield HostileImage(f"{form} with three frames", data, ANIMATED)
    lossless = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    yield HostileImage("lossless WebP with three frames", lossless, ANIMATED)
    unflagged = patched(lossless, 20, bytes([lossless[20] & ~0x02]))
    yield HostileImage("WebP with frames but no animation flag", unflagged, ANIMATED)
    group = pillow_heif.from_pillow(frames[0])
    group.add_from_pillow(frames[1])
    out = io.BytesIO()
    group.save(out)
    yield HostileImage("HEIC with two pictures", out.getvalue(), ANIMATED)
    still = encoded(frames[0], "HEIC")
    for brand in (b"hevc", b"hevx", b"msf1"):
        yield HostileImage(f"HEIC sequence {brand!r}", patched(still, 8, brand), ANIMATED)
    film = still + struct.pack(">I", 16) + b"moov" + bytes(8)
    yield HostileImage("HEIC with a film inside", film, ANIMATED)
    gif = encoded(frames[0].convert("P"), "GIF", save_all=True, append_images=frames[1:])
    yield HostileImage("GIF with three frames", gif, UNSUPPORTED)


def _wrong_size() -> Iterator[HostileImage]:
    for form in ("JPEG", "PNG", "WEBP", "BMP", "TIFF"):
        for width, height in ((1, 1), (8, 8), (200, 15), (15, 200)):
            data = encoded(gradient(width, height), form)
            yield HostileImage(f"{form} of {width}x{height}", data, TOO_SMALL)
    yield HostileImage("HEIC of 8x8", encoded(gradient(8, 8), "HEIC"), TOO_SMALL | CORRUPT)
    for width, height in (
        (100_000, 100_000),
        (2**31 - 1, 2**31 - 1),
        (40_000_001, 1),
        (6325, 6325),
    ):
        data = png_file(width, height)
        yield HostileImage(f"PNG that claims {width}x{height}", data, TOO_MANY_PIXELS)
        bmp = patched(encoded(gradient(), "BMP"), 18, struct.pack("<ii", width, height))
        yield HostileImage(f"BMP that claims {width}x{height}", bmp, TOO_MANY_PIXELS)
        tiff = tiff_file(tiff_fields(t256=width, t257=height), bytes(WIDTH * HEIGHT))
        yield HostileImage(f"TIFF that claims {width}x{height}", tiff, TOO_MANY_PIXELS)
    jpeg = encoded(gradient(), "JPEG")
    frame = jpeg.index(b"\xff\xc0")
    for side in (65_500, 65_535, 6_325):
        data = patched(jpeg, frame + 5, struct.pack(">HH", side, side))
        yield HostileImage(f"JPEG that claims {side}x{side}", data, TOO_MANY_PIXELS)
    still = encoded(gradient(), "WEBP")
    yield HostileImage(
        "WebP that claims 16383x16383", patched(still, 26, b"\xff\x3f\xff\x3f"), TOO_MANY_PIXELS
    )
    lossless = encoded(gradient(), "WEBP", lossless=True)
    yield HostileImage(
        "lossless WebP that claims 16384x16384",
        patched(lossless, 21, b"\xff\xff\xff\x0f"),
        TOO_MANY_PIXELS,
    )
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\xff\xff" * 2
    huge = b"RIFF" + struct.pack("<I", 4 + 18 + len(still) - 12) + b"WEBP" + canvas + still[12:]
    yield HostileImage("WebP canvas of 2^24 by 2^24", huge, TOO_MANY_PIXELS)
    heic = encoded(gradient(), "HEIC")
    extent = heic.index(b"ispe") + 8
    for side in (30_000, 2**31 - 1):
        data = patched(heic, extent, struct.pack(">II", side, side))
        yield HostileImage(f"HEIC that claims {side}x{side}", data, TOO_MANY_PIXELS | CORRUPT)


def _damaged_png() -> Iterator[HostileImage]:
    good = encoded(gradient(), "PNG")
    for at in range(16, 33):
        yield HostileImage(
            f"PNG with byte {at} of its header flipped",
            patched(good, at, bytes([good[at] ^ 1])),
            CORRUPT,
        )
    body = good.index(b"IDAT") + 4
    for at in (body, body + 1, body + 100, body + 1000, len(good) - 17):
        flipped = patched(good, at, bytes([good[at] ^ 0x10]))
        yield HostileImage(f"PNG with byte {at} of its data flipped", flipped, CORRUPT)
    row = b"\0" + bytes(WIDTH * 3)
    rows = row * HEIGHT
    for width, height in ((0, HEIGHT), (WIDTH, 0)):
        yield HostileImage(f"PNG of {width}x{height}", png_file(width, height, rows=rows), CORRUPT)
    for depth, colour in ((3, 0), (16, 3), (8, 1), (8, 7), (4, 2), (0, 2)):
        data = png_file(WIDTH, HEIGHT, depth=depth, colour=colour, rows=rows)
        yield HostileImage(f"PNG of depth {depth} and colour type {colour}", data, CORRUPT)
    yield HostileImage(
        "PNG with half its rows", png_file(WIDTH, HEIGHT, rows=rows[: len(rows) // 2]), DAMAGED
    )
    yield HostileImage("PNG with no rows", png_file(WIDTH, HEIGHT), DAMAGED)
    bad_filter = png_file(WIDTH, HEIGHT, rows=b"\x09" + rows[1:])
    yield HostileImage("PNG with an unknown row filter", bad_filter, CORRUPT)
    head = png_file(WIDTH, HEIGHT, rows=rows)[:33]
    end = png_chunk(b"IEND", b"")
    raw = png_chunk(b"IDAT", zlib.compress(rows))
    yield HostileImage("PNG without data", head + end, CORRUPT)
    yield HostileImage("PNG without an end", head + raw, TRUNCATED)
    yield HostileImage("PNG that begins with its data", head[:8] + raw + head[8:] + end, CORRUPT)
    yield HostileImage("PNG with two headers", head + head[8:] + raw + end, CORRUPT)
    yield HostileImage("PNG with stored noise", head + png_chunk(b"IDAT", row) + end, CORRUPT)
    yield HostileImage(
        "PNG with an unknown necessary chunk", head + png_chunk(b"ABCD", row) + raw + end, CORRUPT
    )
    yield HostileImage(
        "PNG with a nameless chunk", head + png_chunk(b"\0\0\0\0", row) + raw + end, CORRUPT
    )
    text = struct.pack(">I", 0x7FFFFFFF) + b"zTXt" + b"k\0\0" + zlib.compress(bytes(1 << 20))
    yield HostileImage("PNG with a text that never ends", head + text + raw + end, TRUNCATED)


def _damaged_jpeg() -> Iterator[HostileImage]:
    good = encoded(gradient(), "JPEG", quality=90)
    frame, tables, scan = (good.index(mark) for mark in (b"\xff\xc0", b"\xff\xdb", b"\xff\xda"))
    huffman = good.index(b"\xff\xc4")
    edits = {
        "no height": (frame + 5, b"\0\0"),
        "no width": (frame + 7, b"\0\0"),
        "no components": (frame + 9, b"\0"),
        "two components": (frame + 9, b"\2"),
        "200 components": (frame + 9, b"\xc8"),
        "12 bits": (frame + 4, b"\x0c"),
        "no bits": (frame + 4, b"\0"),
        "a sampling factor of 0": (frame + 11, b"\0"),
        "a sampling factor of 15": (frame + 11, b"\xff"),
        "an unknown quantisation table": (frame + 12, b"\x09"),
        "a frame of no length": (frame + 2, b"\0\0"),
        "a frame that is too short": (frame + 2, b"\0\3"),
        "a frame that reaches past the end": (frame + 2, b"\xff\xff"),
        "a scan of an unknown component": (scan + 5, b"\x77"),
        "an unknown Huffman table": (scan + 6, b"\x33"),
        "a scan of 9 components": (scan + 4, b"\x09"),
        "a Huffman table of 4080 codes": (huffman + 5, b"\xff" * 16),
        "a Huffman table of no codes": (huffman + 5, b"\0" * 16),
        "a quantisation table of no length": (tables + 2, b"\0\0"),
        "its frame marker gone": (frame, b"\xff\xec"),
        "its scan marker gone": (scan, b"\xff\xec"),
        "noise for a marker": (tables, b"\x12\x34"),
    }
    for name, (at, new) in edits.items():
        yield HostileImage(f"JPEG with {name}", patched(good, at, new), DAMAGED | UNSUPPORTED)
    for kind in (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCF):
        data = patched(good, frame + 1, bytes([kind]))
        yield HostileImage(f"JPEG of frame type {kind:02x}", data, UNSUPPORTED)
    yield HostileImage(
        "JPEG with a second frame", good[:frame] + good[frame : frame + 19] + good[frame:], CORRUPT
    )
    yield HostileImage("JPEG that ends at once", b"\xff\xd8\xff\xd9" + good, CORRUPT)
    yield HostileImage("JPEG within a JPEG", good[:2] + good, CORRUPT)
    yield HostileImage("JPEG of filling bytes", b"\xff\xd8" + b"\xff" * 50_000, TRUNCATED)
    early = good[: scan + 14] + b"\xff\xd9" + good[scan + 14 :]
    yield HostileImage("JPEG that ends before its data", early, DAMAGED)
    restart = good[: scan + 60] + b"\xff\xd3" + good[scan + 60 :]
    yield HostileImage("JPEG with a restart out of place", restart, DAMAGED)
    no_tables = good[:huffman] + good[scan:]
    # Decoders may fall back on the standard tables here, but these are not the file's own.
    yield HostileImage("JPEG without quantisation", good[:tables] + good[frame:], DAMAGED)
    yield HostileImage(
        "JPEG without Huffman tables, cut", no_tables[: len(no_tables) // 2], DAMAGED
    )


def _damaged_webp() -> Iterator[HostileImage]:
    good = encoded(gradient(), "WEBP")
    lossless = encoded(gradient(), "WEBP", lossless=True)
    size = len(good)
    for claim, total in (("a byte too many", size - 7), ("2 GB", 2**31 - 1), ("4 GB", 2**32 - 1)):
        yield HostileImage(
            f"WebP that claims {claim}", patched(good, 4, struct.pack("<I", total)), TRUNCATED
        )
    for total in (0, 4, 12, size // 2):
        yield HostileImage(
            f"WebP that claims {total} bytes", patched(good, 4, struct.pack("<I", total)), DAMAGED
        )
    for length in (0, 5, size // 3, 2**32 - 1):
        yield HostileImage(
            f"WebP frame of {length} bytes", patched(good, 16, struct.pack("<I", length)), DAMAGED
        )
    for chunk in (b"VP9 ", b"ICCP", b"\0\0\0\0", b"VP8L", b"VP8X"):
        yield HostileImage(f"WebP that opens with {chunk!r}", patched(good, 12, chunk), None)
    yield HostileImage("WebP without a start code", patched(good, 23, b"\0\0\0"), CORRUPT)
    yield HostileImage("WebP of no width", patched(good, 26, b"\0\0"), CORRUPT)
    yield HostileImage(
        "WebP of twice the size", patched(good, 26, struct.pack("<HH", 4000, 4000)), CORRUPT
    )
    yield HostileImage(
        "WebP with an inter frame first", patched(good, 20, bytes([good[20] | 1])), CORRUPT
    )
    yield HostileImage("lossless WebP, wrong signature", patched(lossless, 20, b"\x2e"), CORRUPT)
    yield HostileImage(
        "lossless WebP, wrong version", patched(lossless, 24, bytes([lossless[24] | 0xE0])), CORRUPT
    )
    yield HostileImage("lossless WebP of zeros", lossless[:25] + bytes(8), DAMAGED)
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\x1f\0\0" * 2
    liar = b"RIFF" + struct.pack("<I", 4 + 18 + size - 12) + b"WEBP" + canvas + good[12:]
    yield HostileImage("WebP whose canvas is not its frame", liar, CORRUPT)
    hollow = b"RIFF" + struct.pack("<I", 22) + b"WEBP" + canvas
    yield HostileImage("WebP with a canvas and no frame", hollow, CORRUPT)


def _damaged_bmp() -> Iterator[HostileImage]:
    good = encoded(gradient(), "BMP")
    edits: dict[str, tuple[int, bytes, frozenset[ImageProblem]]] = {
        "a header of 0 bytes": (14, struct.pack("<I", 0), CORRUPT),
        "a header of 41 bytes": (14, struct.pack("<I", 41), CORRUPT),
        "a header of 4 GB": (14, struct.pack("<I", 2**32 - 1), CORRUPT),
        "a negative width": (18, struct.pack("<i", -WIDTH), CORRUPT),
        "no width": (18, struct.pack("<i", 0), CORRUPT),
        "no height": (22, struct.pack("<i", 0), CORRUPT),
        "the lowest height": (22, struct.pack("<i", -(2**31)), TOO_MANY_PIXELS),
        "twice the height": (22, struct.pack("<i", 2 * HEIGHT), TRUNCATED),
        "a negative height too large": (22, struct.pack("<i", -2 * HEIGHT), TRUNCATED),
        "no depth": (28, struct.pack("<H", 0), CORRUPT),
        "7 bits": (28, struct.pack("<H", 7), CORRUPT),
        "65535 bits": (28, struct.pack("<H", 65535), CORRUPT),
        "32 bits where 24 are": (28, struct.pack("<H", 32), TRUNCATED),
        "run lengths": (30, struct.pack("<I", 1), UNSUPPORTED),
        "a JPEG inside": (30, struct.pack("<I", 4), UNSUPPORTED),
        "an unknown coding": (30, struct.pack("<I", 77), UNSUPPORTED),
        "bit fields that no one uses": (30, struct.pack("<I", 3), CORRUPT),
        "data far behind the end": (10, struct.pack("<I", 2**31), TRUNCATED),
        "data inside the header": (10, struct.pack("<I", 20), CORRUPT),
    }
    for name, (at, new, expected) in edits.items():
        yield HostileImage(f"BMP with {name}", patched(good, at, new), expected)
    palette = patched(encoded(gradient().convert("P"), "BMP"), 46, struct.pack("<I", 2**31))
    yield HostileImage("BMP with two thousand million colours", palette, CORRUPT)


def _damaged_tiff() -> Iterator[HostileImage]:
    body = bytes(range(256)) * (WIDTH * HEIGHT // 256 + 1)
    body = body[: WIDTH * HEIGHT]
    end = 8 + len(body)
    yield HostileImage(
        "TIFF directory at 0", tiff_file(tiff_fields(), body, directory_at=0), CORRUPT
    )
    yield HostileImage(
        "TIFF directory in its header", tiff_file(tiff_fields(), body, directory_at=4), CORRUPT
    )
    yield HostileImage(
        "TIFF directory behind the end",
        tiff_file(tiff_fields(), body, directory_at=2**31),
        TRUNCATED,
    )
    yield HostileImage(
        "TIFF that is its own next page", tiff_file(tiff_fields(), body, following=end), ANIMATED
    )
    own = tiff_file(tiff_fields(t254=1), body, following=end)
    yield HostileImage("TIFF that is its own thumbnail", own, UNSUPPORTED)
    loop = tiff_file(tiff_fields(), body, following=end + 2 + 9 * 12 + 4)
    again = struct.pack("<HHHIII", 1, 254, 4, 1, 1, len(loop))
    yield HostileImage("TIFF with endless thumbnails", loop + again, CORRUPT)
    yield HostileImage("TIFF with no fields", tiff_file([], body), CORRUPT)
    edits: dict[str, tuple[dict[str, int], frozenset[ImageProblem]]] = {
        "no width": ({"t256": 0}, CORRUPT),
        "no height": ({"t257": 0}, CORRUPT),
        "a strip behind the end": ({"t273": 2**31}, TRUNCATED),
        "a strip of 4 GB": ({"t279": 2**32 - 1}, TRUNCATED),
        "twice the height": ({"t257": 2 * HEIGHT, "t278": 2 * HEIGHT}, DAMAGED),
        "64 bits": ({"t258": 64}, UNSUPPORTED),
        "floats of 32 bits": ({"t258": 32, "t339": 3}, UNSUPPORTED),
        "floats of 16 bits": ({"t258": 16, "t339": 3}, UNSUPPORTED),
        "signed words": ({"t258": 16, "t339": 2}, UNSUPPORTED),
        "an unknown kind of sample": ({"t339": 9}, UNSUPPORTED),
        "fax coding": ({"t259": 4}, UNSUPPORTED),
        "an unknown coding": ({"t259": 777}, UNSUPPORTED),
        "LZW that is none": ({"t259": 5}, CORRUPT),
        "Deflate that is none": ({"t259": 8}, CORRUPT),
        "JPEG that is none": ({"t259": 7}, CORRUPT),
        "an unknown colour space": ({"t262": 99}, CORRUPT),
        "9000 samples a pixel": ({"t277": 9000}, CORRUPT),
        "unnamed samples": ({"t277": 3}, CORRUPT),
        "tiles of no size": ({"t322": 0, "t323": 0, "t324": 8, "t325": 64}, CORRUPT),
        "a tile of 60000x60000": ({"t322": 60000, "t323": 60000, "t324": 8, "t325": 64}, CORRUPT),
        "Lab colours": ({"t262": 8}, CORRUPT),
    }
    for name, (changes, expected) in edits.items():
        data = tiff_file(tiff_fields(**changes), body)
        yield HostileImage(f"TIFF with {name}", data, expected | UNSUPPORTED)
    fields = tiff_fields()
    for tag in (256, 257, 273, 279):
        rest = [field for field in fields if field[0] != tag]
        yield HostileImage(f"TIFF without field {tag}", tiff_file(rest, body), CORRUPT)
        many = [(*field[:2], 2**30, field[3]) if field[0] == tag else field for field in fields]
        yield HostileImage(f"TIFF with 2^30 values in field {tag}", tiff_file(many, body), DAMAGED)
        odd = [(tag, 99, *field[2:]) if field[0] == tag else field for field in fields]
        yield HostileImage(
            f"TIFF with field {tag} of an unknown type", tiff_file(odd, body), CORRUPT
        )


def _damaged_heic() -> Iterator[HostileImage]:
    good = encoded(gradient(), "HEIC")
    meta, data = good.index(b"meta"), good.index(b"mdat")
    for name in (b"hdlr", b"pitm", b"iloc", b"iinf", b"iprp", b"ipco", b"hvcC", b"infe", b"meta"):
        yield HostileImage(f"HEIC without {name.decode()}", good.replace(name, b"free"), CORRUPT)
    for size in (2, 7):
        yield HostileImage(
            f"HEIC box of {size} bytes", patched(good, meta - 4, struct.pack(">I", size)), CORRUPT
        )
    for size in (len(good), 2**31, 2**32 - 1):
        changed = patched(good, meta - 4, struct.pack(">I", size))
        yield HostileImage(f"HEIC box that claims {size} bytes", changed, TRUNCATED)
    wide = patched(good, data - 4, struct.pack(">I", 1) + b"mdat" + struct.pack(">Q", 2**62))
    yield HostileImage("HEIC box of 2^62 bytes", wide, TRUNCATED)
    count = len(good) - data - 4
    yield HostileImage("HEIC with zeros for data", good[: data + 4] + bytes(count), CORRUPT)
    noise = np.random.default_rng(_SEED).bytes(count)
    yield HostileImage("HEIC with noise for data", good[: data + 4] + noise, CORRUPT)
    first = struct.unpack_from(">I", good, 0)[0]
    yield HostileImage("HEIC of its first box", good[:first], CORRUPT)
    padding = (struct.pack(">I", 8) + b"free") * 5000
    yield HostileImage("HEIC with 5000 boxes", good[:first] + padding + good[first:], CORRUPT)


def _greedy() -> Iterator[HostileImage]:
    """Small files that want much memory or time, and large ones."""
    limit = ImageLimits().max_bytes
    for form in ("JPEG", "PNG", "HEIC"):
        good = encoded(gradient(), form)
        yield HostileImage(
            f"{form} padded past the limit", good.ljust(limit + 1, b"\0"), TOO_MANY_BYTES
        )
    yield HostileImage("zeros past the limit", bytes(limit + 1), TOO_MANY_BYTES)
    packer = zlib.compressobj(1)
    band = bytes(3751 * 1000)
    packed = b"".join([*(packer.compress(band) for _ in range(30)), packer.flush()])
    shell = png_file(30_000, 30_000, depth=1, colour=0)
    bomb = shell[:33] + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")
    yield HostileImage("PNG bomb of 30000x30000", bomb, TOO_MANY_PIXELS)
    yield HostileImage(
        "PNG of a hundred thousand chunks", shell[:8]
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0))
        + png_chunk(b"IDAT", b"") * 100_000, CORRUPT,
    )  # fmt: skip
    yield HostileImage(
        "JPEG of a million segments", b"\xff\xd8" + jpeg_segment(0xE0, b"") * 1_000_000, CORRUPT
    )
    smooth = encoded(gradient(), "JPEG", progressive=True)
    last = smooth.rindex(b"\xff\xda")
    yield HostileImage(
        "JPEG of a thousand scans", smooth[:-2] + smooth[last:-2] * 1000 + b"\xff\xd9", CORRUPT
    )
    megabyte = bytes(1 << 20)
    claims = [(tag, 7, len(megabyte), 8) for tag in range(40_000, 44_000)]
    shared = tiff_file(sorted(tiff_fields() + claims), megabyte)
    yield HostileImage("TIFF whose 4000 fields share a megabyte", shared, CORRUPT)
    pieces = [(324, 4, 200_000, 8), (325, 4, 200_000, 8)]
    tiles = sorted([*tiff_fields(t322=16, t323=16), *pieces])
    yield HostileImage("TIFF of 200000 tiles", tiff_file(tiles, bytes(2_000_000)), CORRUPT)
    chunks = b"JUNK" + struct.pack("<I", 0)
    good = encoded(gradient(), "WEBP")
    body = good[12:] + chunks * 5000
    many = b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body
    yield HostileImage("WebP of 5000 chunks", many, CORRUPT)
