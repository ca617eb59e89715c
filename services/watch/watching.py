"""A source, the service and the outputs put together."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc

from services.rpc.mien.v1 import camera_pb2
from services.watch.delivery import Delivery, Payload
from services.watch.drawing import Tracks
from services.watch.payload import error_payload, event_payload
from services.watch.reading import Reader
from services.watch.sources import Picture, Source
from services.watch.stream import CameraStream, Counts
from services.watch.view import View

_KEPT_FOR_VIEW = 32  # pictures that wait for their answers; more than may be under way
_SESSION_LENGTH = 6

Shown = Callable[[Payload], None]


@dataclass(frozen=True)
class Watched:
    """One camera to be watched.

    Attributes:
        camera_id: as the service is to know it.
        source: of its pictures.
        fast: a file or folder as fast as it is answered, in place of its own pace.
        raw: pictures are sent as pixels, not as JPEG.
        in_flight: most frames that are sent and not answered.
        view: takes drawn pictures.
    """

    camera_id: str
    source: Source
    fast: bool = False
    raw: bool = False
    in_flight: int = 4
    view: View | None = None


@dataclass
class Summary:
    """What became of the pictures of one camera.

    Attributes:
        read: pictures from the source that were due.
        counts: of the stream.
    """

    read: int = 0
    counts: Counts = field(default_factory=Counts)

    def shown(self) -> dict[str, Any]:
        """By name."""
        return {"read": self.read, **self.counts.shown()}


async def watch(
    camera: Watched,
    channel: grpc.aio.Channel,
    metadata: Sequence[tuple[str, str]],
    shown: Shown,
    deliveries: Sequence[Delivery],
    summary: Summary,
) -> None:
    """Sends a camera's pictures until the source ends, and hands on what is told.

    Args:
        camera: what is watched, and how.
        channel: to the gateway.
        metadata: of the calls.
        shown: prints an event or the error of a frame.
        deliveries: take events beside it.
        summary: is kept up to date, so that it holds even if this is interrupted.

    Raises:
        SourceError: the source cannot be read.
        MienError: the service refuses the stream for good.
    """
    drawer = _Drawer(camera.view) if camera.view is not None else None

    def told(message: camera_pb2.RecognizeResponse) -> None:
        kind = message.WhichOneof("message")
        if kind == "event":
            payload = event_payload(message.event)
            shown(payload)
            for one in deliveries:
                one.put(payload)
            if drawer is not None:
                drawer.tracks.take(message.event)
        elif kind == "error":
            shown(error_payload(message.error))
        elif kind == "report" and drawer is not None:
            drawer.tracks.see(message.report)
            drawer.answered(message.report.frame_id)

    stream = CameraStream(channel, metadata, camera.in_flight, told)
    summary.counts = stream.counts
    reader = Reader(camera.source, fast=camera.fast)
    session = uuid.uuid4().hex[:_SESSION_LENGTH]
    with contextlib.ExitStack() as stack:
        if drawer is not None:
            stack.callback(drawer.close)
        async with stream, contextlib.aclosing(reader.pictures()) as pictures:
            numbers = itertools.count()
            async for picture in pictures:
                summary.read += 1
                frame_id = f"{session}-{next(numbers)}"
                frame = await asyncio.to_thread(_frame, camera, frame_id, picture)
                if drawer is not None:
                    drawer.wait_for(frame_id, picture)
                await stream.send(frame, wait=reader.waits)
            await stream.finish()
    summary.read += reader.left_out
    summary.counts.not_sent += reader.left_out


def _frame(camera: Watched, frame_id: str, picture: Picture) -> camera_pb2.Frame:
    frame = camera_pb2.Frame(
        camera_id=camera.camera_id, frame_id=frame_id, captured=picture.captured
    )
    if camera.raw and picture.pixels is not None:
        frame.format = camera_pb2.FRAME_FORMAT_BGR
        frame.height, frame.width = picture.pixels.shape[:2]
        frame.content = picture.pixels.tobytes()
    else:
        frame.format = camera_pb2.FRAME_FORMAT_ENCODED
        frame.content = picture.encoded()
    return frame


class _Drawer:
    """Keeps pictures until they are answered, and draws them in a thread, in their order."""

    def __init__(self, view: View) -> None:
        self.tracks = Tracks()
        self._view = view
        self._waiting: OrderedDict[str, Picture] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mien-watch-view")

    def wait_for(self, frame_id: str, picture: Picture) -> None:
        self._waiting[frame_id] = picture
        while len(self._waiting) > _KEPT_FOR_VIEW:
            self._waiting.popitem(last=False)

    def answered(self, frame_id: str) -> None:
        picture = self._waiting.pop(frame_id, None)
        if picture is not None and picture.shown is not None:
            drawn = self.tracks.drawn(picture.shown, frame_id)
            self._thread.submit(self._view.add, drawn, picture.captured)

    def close(self) -> None:
        self._thread.submit(self._view.close)
        self._thread.shutdown(wait=True)
