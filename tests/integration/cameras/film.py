"""Films of people who walk through a picture, made of photographs, and a client that sends them."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import grpc
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from services.rpc.mien.v1 import camera_pb2, camera_pb2_grpc

Pixels = NDArray[np.uint8]
Way = Callable[[float], tuple[float, float]]
Metadata = tuple[tuple[str, str], ...]

APPEARED = camera_pb2.TRACK_EVENT_KIND_APPEARED
RECOGNISED = camera_pb2.TRACK_EVENT_KIND_RECOGNISED
UNKNOWN = camera_pb2.TRACK_EVENT_KIND_UNKNOWN
LEFT = camera_pb2.TRACK_EVENT_KIND_LEFT
FPS = 5.0
PATIENCE = 60.0  # seconds


@dataclass(frozen=True)
class Walker:
    """A person: a photograph, where its middle is (shares of the frame), and from when to when."""

    picture: Image.Image
    path: Way
    begins: float = 0.0
    ends: float = 1e9
    height: int = 240


def standing(x: float, y: float = 0.5) -> Way:
    """Somebody who moves a little on the spot."""
    return lambda t: (x + 0.006 * np.sin(3 * t), y + 0.004 * np.sin(5 * t))


def walking(start: float, end: float, seconds: float, y: float = 0.5) -> Way:
    """Somebody who crosses the picture."""
    return lambda t: (start + (end - start) * t / seconds, y)


def filmed(
    walkers: Sequence[Walker], seconds: float, width: int = 640, height: int = 480
) -> list[Pixels]:
    """Frames, height x width x 3, RGB, at `FPS`."""
    noise = np.random.default_rng(7)
    ground = cv2.resize(noise.integers(90, 150, (12, 16, 3)).astype(np.uint8), (width, height))
    frames = []
    for number in range(round(seconds * FPS)):
        moment = number / FPS
        canvas = Image.fromarray(ground)
        for one in walkers:
            if one.begins <= moment < one.ends:
                tall = round(one.height * height / 480)
                person = one.picture.resize((tall, tall))
                x, y = one.path(moment)
                canvas.paste(person, (round(x * width - tall / 2), round(y * height - tall / 2)))
        grain = noise.normal(0, 2, (height, width, 1))
        frames.append(np.clip(np.asarray(canvas) + grain, 0, 255).astype(np.uint8))
    return frames


def jpeg(pixels: Pixels) -> bytes:
    encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=88)
    return encoded


def frame(
    camera: str, number: int, pixels: Pixels, captured: float | None = None
) -> camera_pb2.RecognizeRequest:
    return raw_frame(camera, str(number), jpeg(pixels), captured or 1000.0 + number / FPS)


def raw_frame(
    camera: str,
    frame_id: str,
    content: bytes,
    captured: float,
    layout: camera_pb2.FrameFormat.ValueType = camera_pb2.FRAME_FORMAT_UNSPECIFIED,
    width: int = 0,
    height: int = 0,
) -> camera_pb2.RecognizeRequest:
    sent = camera_pb2.Frame(
        camera_id=camera,
        frame_id=frame_id,
        captured=captured,
        format=layout,
        width=width,
        height=height,
        content=content,
    )
    return camera_pb2.RecognizeRequest(frame=sent)


def a_camera() -> str:
    return f"cam-{uuid.uuid4().hex[:8]}"


@dataclass
class Stream:
    """An open stream; each frame is sent when the one before was answered."""

    stub: camera_pb2_grpc.CameraServiceStub
    metadata: Metadata
    events: list[camera_pb2.TrackEvent] = field(default_factory=list)
    reports: list[camera_pb2.FrameReport] = field(default_factory=list)
    errors: list[camera_pb2.FrameError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._requests: queue.Queue[camera_pb2.RecognizeRequest | None] = queue.Queue()
        self._news = threading.Condition()
        self.failure: grpc.RpcError | None = None
        self.ended = False
        self.call = self.stub.Recognize(self._sending(), metadata=self.metadata)
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, request: camera_pb2.RecognizeRequest) -> None:
        self._requests.put(request)

    def show(self, requests: Sequence[camera_pb2.RecognizeRequest]) -> None:
        """Sends frames one by one, waiting for each one's report or error."""
        for request in requests:
            with self._news:
                before = len(self.reports) + len(self.errors)
            self.send(request)
            self.wait(lambda n=before: len(self.reports) + len(self.errors) > n)  # type: ignore[misc]

    def wait(self, ready: Callable[[], bool]) -> None:
        with self._news:
            if not self._news.wait_for(lambda: ready() or self.ended, PATIENCE):
                raise TimeoutError("the service said nothing")
            if self.failure is not None and not ready():
                raise self.failure

    def finish(self) -> None:
        """Sends no more and waits for the end."""
        self._requests.put(None)
        self.wait(lambda: self.ended)

    def kinds(self, track: str = "") -> list[int]:
        return [one.kind for one in self.events if not track or one.track_id == track]

    def of_kind(self, kind: int) -> list[camera_pb2.TrackEvent]:
        return [one for one in self.events if one.kind == kind]

    def tracks(self) -> set[str]:
        return {one.track_id for one in self.events}

    def _sending(self) -> Iterator[camera_pb2.RecognizeRequest]:
        while (request := self._requests.get()) is not None:
            yield request

    def _listen(self) -> None:
        try:
            for message in self.call:
                with self._news:
                    if message.HasField("event"):
                        self.events.append(message.event)
                    elif message.HasField("report"):
                        self.reports.append(message.report)
                    else:
                        self.errors.append(message.error)
                    self._news.notify_all()
        except grpc.RpcError as error:
            self.failure = error
        finally:
            with self._news:
                self.ended = True
                self._news.notify_all()


@contextlib.contextmanager
def streaming(stub: camera_pb2_grpc.CameraServiceStub, metadata: Metadata) -> Iterator[Stream]:
    """A stream that is cut off at the end of the block, if it was not finished."""
    stream = Stream(stub, metadata)
    try:
        yield stream
    finally:
        stream.call.cancel()
        stream._requests.put(None)


def settle(stream: Stream, seconds: float = 1.0) -> None:
    """Waits for events of frames that were reported already."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.05)
