"""Decisions from single frames, and the plain loop, on the clips that the service was played."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import simplejpeg

from services.bench.camera_clips import Clip, ClipFrame
from services.bench.camera_truth import in_view, is_wrong, nearest
from services.bench.plain import PlainLoop
from services.gateway.alignment import CropGeometry, align
from services.rpc.mien.v1 import gallery_pb2, gallery_pb2_grpc

_TOGETHER = 2
_KNOWN = gallery_pb2.IDENTIFICATION_DECISION_KNOWN


async def best_single_frames(
    channel: grpc.aio.Channel,
    metadata: Sequence[tuple[str, str]],
    clips: Sequence[Clip],
    fpir: float,
    least_eyes: float,
) -> list[bool]:
    """Whether the best single frame of each person in view is decided wrongly.

    Each frame of a clip is identified by itself, at the same false-positive identification rate. Of
    a person's frames, the one with the best quality score is taken, which is the one that a service
    without tracks would trust. A person in no frame's answer is not named.

    Returns:
        One for each person in view, in the order of `judge`.
    """
    stub = gallery_pb2_grpc.GalleryServiceStub(channel)
    permits = asyncio.Semaphore(_TOGETHER)

    async def identified(frame: ClipFrame) -> dict[str, tuple[float, str | None]]:
        request = gallery_pb2.IdentifyRequest(pictures=[frame.jpeg], fpir=fpir, limit=1)
        async with permits:
            answer = await stub.Identify(request, metadata=tuple(metadata))
        found: dict[str, tuple[float, str | None]] = {}
        for face in answer.pictures[0].faces:
            seen = nearest(frame, face.face.box)
            if seen is not None:
                known = face.identification.decision == _KNOWN
                named = face.identification.candidates[0].subject_id if known else None
                found[seen.person] = (face.face.quality.unified, named)
        return found

    wrong = []
    for clip in clips:
        wanted = [frame for frame in clip.frames if frame.people]
        answers = await asyncio.gather(*(identified(frame) for frame in wanted))
        for person in sorted(in_view(clip, least_eyes)):
            mine = [one[person] for one in answers if person in one]
            named = max(mine, key=lambda one: one[0])[1] if mine else None
            wrong.append(is_wrong(person, named, enrolled=person in clip.enrolled))
    return wrong


def plain_rate(loop: PlainLoop, clips: Sequence[Clip], threads: int) -> float:
    """Frames per second of a plain loop that detects and embeds every face of every frame.

    Args:
        loop: holds detector and embedder.
        clips: whose frames are taken.
        threads: that share the frames; 1 is the plain loop.
    """
    spec = loop.embedder.card.input
    geometry = CropGeometry(spec.width, spec.height, spec.template, spec.template_scale)

    def work(frame: ClipFrame) -> None:
        pixels = simplejpeg.decode_jpeg(frame.jpeg, colorspace="RGB")
        faces = loop.detector.detect(pixels)
        if faces:
            loop.embedder.embed(np.stack([align(pixels, face.points, geometry) for face in faces]))

    frames = [frame for clip in clips for frame in clip.frames]
    began = time.perf_counter()
    if threads == 1:
        for frame in frames:
            work(frame)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, frames))
    return len(frames) / (time.perf_counter() - began)
