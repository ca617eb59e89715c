"""Plays clips to the camera service with the reference client, and notes what it tells."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import grpc

from services.bench.camera_clips import Clip, ClipFrame
from services.rpc.mien.v1 import camera_pb2
from services.watch.stream import CameraStream, Counts

_LIVE_IN_FLIGHT = 8
_FAST_IN_FLIGHT = 2


@dataclass
class Told:
    """What the service told of one camera.

    Attributes:
        counts: of frames.
        events: in their order.
        reports: in their order.
        latencies: seconds from the moment a frame was due to the arrival of each of its events.
        seconds: that it took.
    """

    counts: Counts = field(default_factory=Counts)
    events: list[camera_pb2.TrackEvent] = field(default_factory=list)
    reports: list[camera_pb2.FrameReport] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0


async def play_live(
    channel: grpc.aio.Channel,
    metadata: Sequence[tuple[str, str]],
    clips: Sequence[Clip],
    names: Sequence[str],
    seconds: float,
) -> list[Told]:
    """Plays clips again and again at their own pace, all at once, as cameras do.

    A frame is sent when it is due, or not at all. Cameras start a part of a frame after each other.
    """
    start = time.monotonic() + 0.2

    async def one(clip: Clip, name: str, number: int) -> Told:
        told = Told()
        due: dict[str, float] = {}
        async with CameraStream(channel, metadata, _LIVE_IN_FLIGHT, _noting(told, due)) as stream:
            told.counts = stream.counts
            began = start + number / len(clips) / clip.fps
            for index, (frame, at) in enumerate(_endless(clip)):
                if at >= seconds:
                    break
                await asyncio.sleep(max(began + at - time.monotonic(), 0))
                message = _message(name, index, time.time(), frame)
                due[message.frame_id] = began + at
                await stream.send(message, wait=False)
            await stream.finish()
        told.seconds = time.monotonic() - began
        return told

    cameras = enumerate(zip(clips, names, strict=True))
    return await asyncio.gather(*(one(clip, name, number) for number, (clip, name) in cameras))


async def play_fast(
    channel: grpc.aio.Channel,
    metadata: Sequence[tuple[str, str]],
    clips: Sequence[Clip],
    names: Sequence[str],
    together: int,
) -> list[Told]:
    """Plays each clip once, as fast as it is answered; frames bear the times that they show.

    Args:
        channel: to the gateway.
        metadata: of the calls.
        clips: to be played.
        names: of their cameras.
        together: cameras at once.
    """
    permits = asyncio.Semaphore(together)
    epoch = time.time()

    async def one(clip: Clip, name: str) -> Told:
        told = Told()
        async with permits:
            began = time.monotonic()
            noting = _noting(told, {})
            async with CameraStream(channel, metadata, _FAST_IN_FLIGHT, noting) as stream:
                told.counts = stream.counts
                for index, frame in enumerate(clip.frames):
                    message = _message(name, index, epoch + frame.seconds, frame)
                    await stream.send(message, wait=True)
                await stream.finish()
            told.seconds = time.monotonic() - began
        return told

    return await asyncio.gather(*(one(*pair) for pair in zip(clips, names, strict=True)))


def _endless(clip: Clip) -> Iterator[tuple[ClipFrame, float]]:
    """The frames again and again, and when each is due in seconds."""
    for number, frame in enumerate(itertools.cycle(clip.frames)):
        yield frame, number / clip.fps


def _message(name: str, index: int, captured: float, frame: ClipFrame) -> camera_pb2.Frame:
    return camera_pb2.Frame(
        camera_id=name,
        frame_id=str(index),
        captured=captured,
        format=camera_pb2.FRAME_FORMAT_ENCODED,
        content=frame.jpeg,
    )


def _noting(told: Told, due: dict[str, float]) -> Callable[[camera_pb2.RecognizeResponse], None]:
    """What notes messages, and how long after its frame was due each event came."""

    def note(message: camera_pb2.RecognizeResponse) -> None:
        kind = message.WhichOneof("message")
        if kind == "event":
            told.events.append(message.event)
            if message.event.frame_id in due:
                told.latencies.append(time.monotonic() - due[message.event.frame_id])
        elif kind == "report":
            told.reports.append(message.report)

    return note
