"""An annotated video, or annotated frames in a folder."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".webm"})
_MILLISECONDS = Fraction(1, 1000)
_EVEN = 2  # video codecs take even sides only


class View(Protocol):
    """Takes drawn pictures."""

    def add(self, picture: Pixels, captured: float) -> None:
        """Adds one.

        Args:
            picture: height x width x 3, BGR, 0-255.
            captured: seconds since the epoch.
        """
        ...

    def close(self) -> None:
        """Writes the end."""
        ...


def open_view(path: Path, fps: float) -> View:
    """A video where the path ends like one; else a folder, which is made."""
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoView(path, fps)
    path.mkdir(parents=True, exist_ok=True)
    return FolderView(path)


class FolderView:
    """Writes JPEG files that are numbered from 000000.

    Args:
        path: of the folder, which is there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0

    def add(self, picture: Pixels, captured: float) -> None:
        """See `View`."""
        done, data = cv2.imencode(".jpg", picture)
        if done:
            (self._path / f"{self._count:06}.jpg").write_bytes(data.tobytes())
            self._count += 1

    def close(self) -> None:
        """See `View`."""


class VideoView:
    """Writes a video of the first picture's size; others are scaled to it.

    Args:
        path: of the file; its ending chooses the container.
        fps: usual pictures per second; each picture keeps its own time.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._file: av.container.OutputContainer | None = None
        self._stream: av.VideoStream | None = None
        self._began, self._last = 0.0, -1

    def add(self, picture: Pixels, captured: float) -> None:
        """See `View`."""
        if self._file is None or self._stream is None:
            self._open(picture, captured)
        assert self._file is not None  # noqa: S101 - opened above
        assert self._stream is not None  # noqa: S101 - opened above
        size = (self._stream.width, self._stream.height)
        if (picture.shape[1], picture.shape[0]) != size:
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="bgr24")
        # A clock that is set back must not bring the video to an end.
        self._last = max(round((captured - self._began) * 1000), self._last + 1)
        frame.pts, frame.time_base = self._last, _MILLISECONDS
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        """See `View`."""
        if self._file is not None and self._stream is not None:
            self._file.mux(self._stream.encode())
            self._file.close()
        self._file = None

    def _open(self, picture: Pixels, captured: float) -> None:
        codec = "libvpx-vp9" if self._path.suffix.lower() == ".webm" else "h264"
        self._file = av.open(str(self._path), "w")
        stream = self._file.add_stream(codec, rate=Fraction(self._fps).limit_denominator(1000))
        assert isinstance(stream, av.VideoStream)  # noqa: S101 - both codecs are of video
        stream.height = picture.shape[0] - picture.shape[0] % _EVEN
        stream.width = picture.shape[1] - picture.shape[1] % _EVEN
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _MILLISECONDS
        self._stream = stream
        self._began = captured
