"""Pictures from files, folders and cameras that are not there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from services.watch.reading import Reader
from services.watch.sources import (
    Picture,
    Source,
    SourceError,
    Thinning,
    camera_id_of,
    open_source,
)


def _folder(path: Path, count: int = 3) -> Path:
    for number in range(count):
        shade = np.full((48, 64, 3), 50 * number, np.uint8)
        cv2.imwrite(str(path / f"{number:03}.png"), shade)
    return path


async def _read(source: Source, *, fast: bool, slowly: float = 0.0) -> tuple[list[Picture], int]:
    reader = Reader(source, fast=fast)
    found = []
    async for picture in reader.pictures():
        found.append(picture)
        await asyncio.sleep(slowly)
    return found, reader.left_out


def test_a_video_is_thinned_to_the_rate_that_is_asked(video: Path) -> None:
    found = list(open_source(str(video), fps=5).pictures())
    assert len(found) == 10
    steps = np.diff([one.captured for one in found])
    assert np.allclose(steps, 0.2, atol=0.001)
    shades = [float(one.pixels.mean()) for one in found if one.pixels is not None]
    assert np.allclose(np.diff(shades), 20, atol=4)  # every fifth frame, in order


def test_a_video_slower_than_the_rate_is_whole(video: Path) -> None:
    assert len(list(open_source(str(video), fps=100).pictures())) == 50


def test_pictures_of_a_folder_come_in_the_order_of_their_names_as_they_are(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / "notes.txt").write_text("no picture")
    found = list(open_source(str(folder), fps=2).pictures())
    assert [one.encoded() for one in found] == [
        (folder / f"{number:03}.png").read_bytes() for number in range(3)
    ]
    assert np.allclose(np.diff([one.captured for one in found]), 0.5)


def test_a_file_that_is_no_picture_is_sent_all_the_same_and_cannot_be_drawn(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"garbage")
    (found,) = open_source(str(tmp_path), fps=1).pictures()
    assert found.encoded() == b"garbage"
    assert found.shown is None


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no pictures"):
        list(open_source(str(tmp_path), fps=1).pictures())


def test_a_file_that_is_no_video_is_told(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"garbage" * 100)
    with pytest.raises(SourceError, match=r"clip\.mp4"):
        list(open_source(str(path), fps=1).pictures())


def test_a_missing_file_is_told_at_once() -> None:
    with pytest.raises(SourceError, match="no such file"):
        open_source("/nowhere/clip.mp4", fps=1)


def test_the_password_of_a_camera_is_never_told() -> None:
    source = open_source("rtsp://admin:hush@127.0.0.1:9/stream?key=hush", fps=1)
    with pytest.raises(SourceError) as told:
        list(source.pictures())
    assert "hush" not in f"{told.value} {source.name} {told.value.__cause__}"
    assert "hush" not in camera_id_of("rtsp://admin:hush@127.0.0.1:9/stream?key=hush")


@pytest.mark.parametrize(
    ("address", "camera_id"),
    [
        ("rtsp://admin:x@10.0.0.7:554/front door/1", "10.0.0.7-front-door-1"),
        ("/videos/Lobby (2).mp4", "Lobby-2"),
        ("/dev/video1", "video1"),
        ("/videos/é.mp4", "camera"),
    ],
)
def test_a_camera_without_an_id_gets_one_that_the_service_takes(
    address: str, camera_id: str
) -> None:
    assert camera_id_of(address) == camera_id


def test_thinning_goes_on_when_the_clock_jumps() -> None:
    thin = Thinning(5)
    assert [thin.takes(at) for at in (100.0, 100.1, 100.2)] == [True, False, True]
    assert thin.takes(50.0), "set back"
    assert [thin.takes(at) for at in (50.1, 50.2)] == [False, True]
    assert thin.takes(5000.0), "set forward"
    assert [thin.takes(at) for at in (5000.1, 5000.2)] == [False, True]


async def test_a_fast_reader_leaves_nothing_out(video: Path) -> None:
    found, left_out = await _read(open_source(str(video), fps=25), fast=True, slowly=0.002)
    assert (len(found), left_out) == (50, 0)


async def test_a_paced_reader_keeps_the_time_of_the_video(video: Path) -> None:
    began = time.monotonic()
    found, left_out = await _read(open_source(str(video), fps=5), fast=False)
    assert time.monotonic() - began == pytest.approx(1.8, abs=0.4)
    assert (len(found), left_out) == (10, 0)


async def test_a_paced_reader_waits_for_nobody(video: Path) -> None:
    found, left_out = await _read(open_source(str(video), fps=25), fast=False, slowly=0.3)
    assert left_out > 25
    assert len(found) + left_out == 50
    assert found[-1].captured - found[0].captured > 1.5, "the newest was taken each time"


async def test_a_source_that_fails_tells_the_reader(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no pictures"):
        await _read(open_source(str(tmp_path), fps=1), fast=True)


class _Flaky:
    """A camera that breaks after two pictures, and cannot be opened every second time."""

    name, live = "flaky", True

    def __init__(self) -> None:
        self.opened = 0

    def pictures(self) -> Iterator[Picture]:
        self.opened += 1
        if self.opened % 2 == 0:
            raise SourceError("flaky: not there")
        for _ in range(2):
            time.sleep(0.02)
            yield Picture(time.time(), file=b"x")
        raise SourceError("flaky: broken")


async def test_a_camera_that_breaks_is_opened_again() -> None:
    source = _Flaky()
    reader = Reader(source, fast=True)
    count = 0
    async for _ in reader.pictures():
        count += 1
        if count == 6:
            break
    assert source.opened >= 5


async def test_a_camera_that_cannot_be_opened_at_first_is_told() -> None:
    source = _Flaky()
    source.opened = 1
    with pytest.raises(SourceError, match="not there"):
        await _read(source, fast=False)
