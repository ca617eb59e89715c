"""Where pictures come from: network cameras, webcams, video files and folders of pictures."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import urlsplit

import av
import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from services.picture_files import is_picture

Pixels = NDArray[np.uint8]

_NETWORK = ("rtsp", "rtsps", "http", "https")
_TIMEOUT = (10.0, 10.0)  # seconds to open, and between two frames
_QUALITY = 90  # of JPEG; below, small faces lose what recognition needs
_LONGEST_ID = 128
_NEARLY = 1e-3  # of a step: seconds since the epoch are no rounder than that


class SourceError(Exception):
    """A source cannot be opened or read; the message names it without any password."""


@dataclass(frozen=True)
class Picture:
    """One picture; it holds pixels, or a file as it was found.

    Attributes:
        captured: seconds since the epoch.
        pixels: height x width x 3, BGR, 0-255.
        file: a picture file's bytes.
    """

    captured: float
    pixels: Pixels | None = None
    file: bytes = b""

    def encoded(self) -> bytes:
        """A picture file: the one that was found, or a JPEG of the pixels."""
        if self.pixels is None:
            return self.file
        data: bytes = simplejpeg.encode_jpeg(
            np.ascontiguousarray(self.pixels), quality=_QUALITY, colorspace="BGR"
        )
        return data

    @cached_property
    def shown(self) -> Pixels | None:
        """The pixels, for drawing; None where the file cannot be read."""
        if self.pixels is not None:
            return self.pixels
        data = np.frombuffer(self.file, np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None


class Source(Protocol):
    """Gives pictures, one after the other; each may take its time.

    Attributes:
        name: for people; without passwords.
        live: it goes on whether somebody looks or not, and may be opened again when it breaks.
    """

    name: str
    live: bool

    def pictures(self) -> Iterator[Picture]:
        """The pictures, with times that rise by at least one part in ``fps``.

        Raises:
            SourceError: it cannot be opened or read.
        """
        ...


def open_source(address: str, fps: float) -> Source:
    """The source that is meant.

    Args:
        address: a URL (rtsp, rtsps, http, https), a webcam (`webcam`, `webcam:1`, /dev/video1), a
            video file, or a folder of pictures, which are taken in the order of their names.
        fps: most pictures per second of a video or camera; pictures per second of a folder.

    Raises:
        SourceError: there is no such file or folder.
    """
    if urlsplit(address).scheme in _NETWORK:
        return VideoSource(address, fps, name=_without_password(address), live=True)
    webcam = re.fullmatch(r"(?:webcam:?|/dev/video)(\d*)", address)
    if webcam:
        device = f"/dev/video{webcam[1] or 0}"
        return VideoSource(device, fps, name=device, live=True, container="v4l2")
    path = Path(address)
    if path.is_dir():
        return FolderSource(path, fps)
    if not path.is_file():
        raise SourceError(f"{address}: there is no such file or folder")
    return VideoSource(str(path), fps, name=str(path), live=False)


def camera_id_of(address: str) -> str:
    """An id for a camera that was given none: of the host and path of a URL, or the file's name."""
    parts = urlsplit(address)
    network = parts.scheme in _NETWORK
    text = f"{parts.hostname or ''}{parts.path}" if network else Path(address).stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")[:_LONGEST_ID] or "camera"


class VideoSource:
    """A video file or a camera, read with FFmpeg.

    Args:
        address: what FFmpeg opens.
        fps: most pictures per second; the others are left out before they are converted.
        name: for people.
        live: a camera; its pictures bear the time at which they arrived.
        container: FFmpeg's name of the format where it cannot tell it.
    """

    def __init__(
        self, address: str, fps: float, *, name: str, live: bool, container: str | None = None
    ) -> None:
        self.name, self.live = name, live
        self._address, self._fps, self._container = address, fps, container

    def pictures(self) -> Iterator[Picture]:
        """See `Source`."""
        options = {"rtsp_transport": "tcp"} if self._address.startswith("rtsp") else {}
        began = time.time()
        thin = Thinning(self._fps)
        try:
            with av.open(
                self._address, format=self._container, options=options, timeout=_TIMEOUT
            ) as opened:
                if not opened.streams.video:
                    raise SourceError(f"{self.name}: it holds no video")
                for frame in opened.decode(video=0):
                    captured = time.time() if self.live else began + (frame.time or 0.0)
                    if thin.takes(captured):
                        yield Picture(captured, cast("Pixels", frame.to_ndarray(format="bgr24")))
        except (av.FFmpegError, OSError) as error:
            # Their full text quotes the address, passwords included.
            raise SourceError(f"{self.name}: {error.strerror or 'cannot be read'}") from None


class FolderSource:
    """The picture files of a folder in the order of their names, sent as they are.

    Args:
        path: of the folder.
        fps: pictures per second.
    """

    live = False

    def __init__(self, path: Path, fps: float) -> None:
        self.name = str(path)
        self._path, self._fps = path, fps

    def pictures(self) -> Iterator[Picture]:
        """See `Source`."""
        files = sorted(one for one in self._path.iterdir() if is_picture(one) and one.is_file())
        if not files:
            raise SourceError(f"{self.name}: there are no pictures in this folder")
        began = time.time()
        for number, file in enumerate(files):
            yield Picture(began + number / self._fps, file=file.read_bytes())


class Thinning:
    """Takes so many pictures per second, evenly, whatever the source's own rate.

    Args:
        fps: most pictures per second.
    """

    def __init__(self, fps: float) -> None:
        self._step = 1.0 / fps
        self._due = -math.inf

    def takes(self, captured: float) -> bool:
        """True if the picture of this time, in seconds, is due."""
        late = captured - self._due
        if late < -self._step:  # the clock was set back
            self._due = captured
        elif late < -_NEARLY * self._step:
            return False
        elif late > self._step:
            self._due = captured
        self._due += self._step
        return True


def _without_password(address: str) -> str:
    parts = urlsplit(address)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"
