"""Files that are made to do harm, or damaged, are refused plainly and at no cost."""

from __future__ import annotations

import gc
import re
import resource
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from services.gateway.imaging import ImageError, ImageLimits, ImageProblem, decode
from tests.hostile import (
    HostileImage,
    encoded,
    gradient,
    hostile_images,
    png_chunk,
)
from tests.unit.imaging.samples import LIMITS, smooth, worst

LIBRARY_WORDS = re.compile(
    r"pillow|pil\b|libjpeg|libtiff|libheif|simplejpeg|numpy|zlib|exception|error|traceback|0x|tj[A-Z]"
    r"|marker|chunk|decoder|invalid|unexpected|broken data stream",
    re.IGNORECASE,
)


def peak_bytes() -> int:
    """Most memory that this process has held since ``forget_peak``."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def forget_peak() -> None:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


@pytest.fixture(scope="module")
def hostile() -> list[HostileImage]:
    return list(hostile_images())


def test_there_are_many_different_hostile_files(hostile: list[HostileImage]) -> None:
    assert len({item.data for item in hostile}) == len(hostile) >= 200
    assert len({item.name for item in hostile}) == len(hostile)
    again = hostile_images()
    assert all(next(again).data == item.data for item in hostile[:150])


def outcome(data: bytes) -> ImageError | None:
    try:
        decode(data, LIMITS)
    except ImageError as error:
        return error
    return None


def test_every_hostile_file_is_refused_with_its_reason(hostile: list[HostileImage]) -> None:
    wrong = []
    for item in hostile:
        error = outcome(item.data)
        if error is None:
            wrong.append(f"{item.name}: accepted")
        elif item.expected is not None and error.kind not in item.expected:
            wrong.append(f"{item.name}: {error.kind}")
    assert not wrong


def test_refusals_are_plain_sentences_without_the_words_of_a_library(
    hostile: list[HostileImage],
) -> None:
    errors = [error for item in hostile if (error := outcome(item.data))]
    details = {error.detail for error in errors}
    assert {str(error) for error in errors} == details
    assert [text for text in details if not re.fullmatch(r"[A-Z][^\n]{10,160}\.", text)] == []
    assert [text for text in details if LIBRARY_WORDS.search(text)] == []
    # Nor does any sentence repeat what the library said.
    causes = {str(error.__cause__) for error in errors if str(error.__cause__ or "")}
    assert len(causes) >= 10
    assert [cause for cause in causes if any(cause in text for text in details)] == []


def test_hostile_files_take_neither_memory_nor_time(hostile: list[HostileImage]) -> None:
    refuse_all(hostile)
    forget_peak()
    before, peak = resident_bytes(), peak_bytes()
    slowest = 0.0
    for item in hostile:
        start = time.process_time()
        refuse_all([item])
        slowest = max(slowest, time.process_time() - start)
    assert resident_bytes() - before < 100 << 20
    assert peak_bytes() - peak < 100 << 20
    assert slowest < 3.0


def test_huge_claims_are_refused_before_any_memory_is_taken(hostile: list[HostileImage]) -> None:
    claims = [
        item for item in hostile if item.expected == frozenset({ImageProblem.TOO_MANY_PIXELS})
    ]
    assert len(claims) >= 15
    forget_peak()
    peak, start = peak_bytes(), time.process_time()
    refuse_all(claims)
    assert peak_bytes() - peak < 20 << 20
    assert time.process_time() - start < 1.0


def refuse_all(items: list[HostileImage]) -> None:
    for item in items:
        with pytest.raises(ImageError):
            decode(item.data, LIMITS)


def test_hostile_files_do_not_disturb_good_ones_in_other_threads(
    hostile: list[HostileImage],
) -> None:
    good = encoded(smooth(), "PNG")
    small = [item for item in hostile if len(item.data) < 100_000]

    def work(turn: int) -> int:
        refuse_all(small[turn::16])
        return worst(decode(good, LIMITS), smooth())

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(work, range(16))) == {0}


def shuffled(data: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 6))):
        changed[int(random.integers(len(changed)))] = int(random.integers(256))
    return bytes(changed)


def cut_out(data: bytes, random: np.random.Generator) -> bytes:
    start, end = sorted(random.integers(0, len(data), 2).tolist())
    return data[:start] + data[end:]


@pytest.mark.filterwarnings("ignore")  # what Pillow thinks of odd metadata
@pytest.mark.parametrize("harm", [shuffled, cut_out])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "HEIC"])
def test_random_damage_gives_a_picture_or_a_refusal_and_nothing_else(
    form: str, harm: Callable[[bytes, np.random.Generator], bytes]
) -> None:
    random = np.random.default_rng(7)
    good = encoded(gradient(24, 20), form)
    limits = ImageLimits(max_pixels=1_000_000)
    outcomes = set()
    for _ in range(60):
        try:
            picture = decode(harm(good, random), limits)
        except ImageError as error:
            outcomes.add(str(error.kind))
        else:
            outcomes.add(picture.format)
            assert picture.pixels.ndim == 3
            assert picture.pixels.flags.c_contiguous
    assert outcomes & {"corrupt", "truncated"}


def test_packed_texts_and_profiles_in_a_png_are_not_unfolded() -> None:
    packed = zlib.compress(bytes(64 << 20), 9)
    good = encoded(smooth(), "PNG")
    extra = png_chunk(b"zTXt", b"k\0\0" + packed) + png_chunk(b"iCCP", b"p\0\0" + packed)
    forget_peak()
    before = peak_bytes()
    assert worst(decode(good[:33] + extra * 8 + good[33:], LIMITS), smooth()) == 0
    assert peak_bytes() - before < 32 << 20
