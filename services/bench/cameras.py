"""Camera streams against the camera service, beside a plain detect-and-embed loop."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from models.zoo import Zoo
from services.bench.camera_clips import Clip, divided, make_clips
from services.bench.camera_play import Told, play_fast, play_live
from services.bench.camera_single import best_single_frames, plain_rate
from services.bench.camera_truth import ClipResults, judge, share
from services.bench.plain import PlainLoop
from services.bench.process import Served, cpu_seconds, resident_bytes, served
from services.bench.result import BenchResult
from services.bench.scene import Person, SceneOptions, demo_people, people_of
from services.gateway.server import load_detector
from services.rpc.mien.v1 import (
    camera_pb2,
    camera_pb2_grpc,
    face_pb2,
    gallery_pb2,
    gallery_pb2_grpc,
)
from services.settings import Settings
from services.watch.stream import open_channel

_METADATA = (("x-mien-tenant", "bench"),)
_FPS = 5.0
_CLIP_SECONDS = 12.0
_TURNS = 2
_SEED = 20
_MOST_CAMERAS = 256  # those of all parts are known at once
_MEBIBYTE = 2**20


@dataclass(frozen=True)
class CameraBench:
    """What is measured.

    Attributes:
        seconds: of the streams at their own pace.
        streams: at once.
        clips: for tracks and decisions; 0 for none.
        fpir: false-positive identification rate of all decisions.
        faces: folder `PERSON/*.jpg`; None for the demo's photographs.
    """

    seconds: float = 30.0
    streams: int = 8
    clips: int = 40
    fpir: float = 0.01
    faces: Path | None = None


def bench_cameras(settings: Settings, bench: CameraBench) -> BenchResult:
    """Measures a Mien in a process of its own with clips that are made for it.

    1. Streams of 640 x 480 at 5 frames per second with two people each, at their own pace: the time
       from the moment a frame is due to the arrival of each event that it brings about
       (``p95_ms``), frames that wait and that are dropped, and CPU.
    2. The same clips as fast as they are answered (``value``), in turns with a plain loop that
       detects and embeds every face of every frame with the same engines (``reference``), both in
       frames per second. ``reference_two_threads`` is that loop shared by two threads.
    3. Further clips for tracks and decisions. The best single frame is the one of a person's frames
       with the best quality score, identified by itself at the same rate.

    Args:
        settings: of Mien.
        bench: what is measured.

    Raises:
        FetchError: the demo's photographs cannot be downloaded.
        RuntimeError: Mien does not start.
        ValueError: the folder holds no usable pictures.
    """
    people = people_of(bench.faces) if bench.faces else demo_people(settings.home)
    wanted = 2 * max(bench.clips, bench.streams)
    enrolled, strangers = divided(people[:wanted])
    detector = load_detector(Zoo(settings.home), settings)
    options = SceneOptions(fps=_FPS, seconds=_CLIP_SECONDS)
    loop = PlainLoop(settings)
    with (
        tempfile.TemporaryDirectory(prefix="mien-bench-") as folder,
        served(
            settings,
            environment={
                "MIEN_GALLERY__URI": f"sqlite:{folder}/gallery.sqlite3",
                "MIEN_CAMERAS__MAX_CAMERAS": str(_MOST_CAMERAS),
            },
        ) as server,
    ):

        async def measured() -> _Measured:
            async with open_channel(f"127.0.0.1:{server.grpc_port}") as channel:
                known = await _enrol(channel, enrolled)
                unknown = [*strangers, *(one for one in enrolled if one not in known)]
                streams = make_clips(known, unknown, bench.streams, detector, options, _SEED)
                clips = make_clips(
                    known, unknown, bench.clips, detector, options, _SEED + bench.streams
                )
                work = _Work(channel, server, bench, streams, clips, loop)
                return await work.measured(len(known), len(unknown))

        found = asyncio.run(measured())
    return BenchResult(
        value=statistics.median(found.rates),
        reference=statistics.median(found.plain),
        unit="frames/s",
        details={
            **found.details,
            "value_range": [round(min(found.rates), 1), round(max(found.rates), 1)],
            "reference_range": [round(min(found.plain), 1), round(max(found.plain), 1)],
            "engine": loop.engine,
            "cpus": len(os.sched_getaffinity(0)),
        },
    )


@dataclass
class _Measured:
    rates: list[float]
    plain: list[float]
    details: dict[str, Any]


async def _enrol(channel: grpc.aio.Channel, people: Sequence[Person]) -> list[Person]:
    """Enrols the first picture of each; who was refused for a poor picture is a stranger."""
    stub = gallery_pb2_grpc.GalleryServiceStub(channel)
    taken = []
    for person in people:
        image = face_pb2.Image(content=person.enrolled.read_bytes())
        image.selection = face_pb2.FACE_SELECTION_LARGEST
        answer = await stub.Enrol(
            gallery_pb2.EnrolRequest(subject_id=person.key, pictures=[image], allow_duplicate=True),
            metadata=_METADATA,
        )
        if answer.outcome != gallery_pb2.ENROLMENT_OUTCOME_REFUSED:
            taken.append(person)
    return taken


class _Work:
    """The three parts, one after the other."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        server: Served,
        bench: CameraBench,
        streams: Sequence[Clip],
        clips: Sequence[Clip],
        loop: PlainLoop,
    ) -> None:
        self._channel, self._server, self._bench = channel, server, bench
        self._streams, self._clips, self._loop = streams, clips, loop
        self._cameras = camera_pb2_grpc.CameraServiceStub(channel)

    async def measured(self, enrolled: int, strangers: int) -> _Measured:
        await self._fast("warm")
        details = await self._live()
        rates, plain, shared = [], [], []
        for turn in range(_TURNS):
            rates.append(await self._fast(f"turn{turn}"))
            plain.append(plain_rate(self._loop, self._streams, 1))
            shared.append(plain_rate(self._loop, self._streams, 2))
        details["reference_two_threads"] = round(statistics.median(shared), 1)
        details |= {"enrolled": enrolled, "strangers": strangers, "fpir": self._bench.fpir}
        if self._clips:
            details |= await self._accuracy()
        return _Measured(rates, plain, details)

    async def _live(self) -> dict[str, Any]:
        names = [f"live-{number}" for number in range(len(self._streams))]
        await self._policies(names)
        cpu, own, began = cpu_seconds(self._server.pid), time.process_time(), time.monotonic()
        told = await play_live(self._channel, _METADATA, self._streams, names, self._bench.seconds)
        spent = time.monotonic() - began
        latencies = [1e3 * one for camera in told for one in camera.latencies]
        waiting = [[report.waiting for report in camera.reports] for camera in told]
        return {
            **{f"p{p}_ms": _percentile(latencies, p) for p in (50, 95, 99)},
            "streams": len(told),
            "seconds": round(spent, 1),
            "events": len(latencies),
            **_summed(told),
            "waiting_first_third": _mean_part(waiting, 0),
            "waiting_last_third": _mean_part(waiting, 2),
            "waiting_most": max((max(one) for one in waiting if one), default=0),
            "waiting_at_end": max((one[-1] for one in waiting if one), default=0),
            "server_cpus": round((cpu_seconds(self._server.pid) - cpu) / spent, 2),
            "client_cpus": round((time.process_time() - own) / spent, 2),
            "server_resident_mib": round(resident_bytes(self._server.pid) / _MEBIBYTE, 1),
        }

    async def _fast(self, turn: str) -> float:
        names = [f"{turn}-{number}" for number in range(len(self._streams))]
        await self._policies(names)
        began = time.monotonic()
        told = await play_fast(self._channel, _METADATA, self._streams, names, len(self._streams))
        return sum(one.counts.answered for one in told) / (time.monotonic() - began)

    async def _accuracy(self) -> dict[str, Any]:
        names = [f"clip-{number}" for number in range(len(self._clips))]
        least_eyes = await self._policies(names)
        told = await play_fast(
            self._channel, _METADATA, self._clips, names, len(os.sched_getaffinity(0))
        )
        results = ClipResults()
        for clip, one in zip(self._clips, told, strict=True):
            results.add(judge(clip, one, least_eyes))
        single = await best_single_frames(
            self._channel, _METADATA, self._clips, self._bench.fpir, least_eyes
        )
        return {
            "clips": len(self._clips),
            "clip_frames_dropped": sum(one.counts.dropped for one in told),
            "least_eyes": least_eyes,
            **results.shown(),
            "single_frame_errors": sum(single),
            "single_frame_error_rate": share(sum(single), len(single)),
        }

    async def _policies(self, names: Sequence[str]) -> float:
        """Sets the rate of cameras; gives the least distance of eyes that they have by default."""
        least = 0.0
        for name in names:
            asked = camera_pb2.SetCameraPolicyRequest(
                camera_id=name, policy=camera_pb2.CameraPolicy(fpir=self._bench.fpir)
            )
            answer = await self._cameras.SetCameraPolicy(asked, metadata=_METADATA)
            least = answer.policy.min_inter_eye_distance
        return least


def _summed(told: Sequence[Told]) -> dict[str, int]:
    rows = [one.counts.shown() for one in told]
    names = ("sent", "answered", "refused", "dropped", "not_sent", "lost")
    return {name: sum(row[name] for row in rows) for name in names}


def _mean_part(waiting: Sequence[Sequence[int]], third: int) -> float:
    """Mean number of waiting frames in one third of the time."""
    parts = [one[len(one) * third // 3 : len(one) * (third + 1) // 3] for one in waiting]
    values = [value for part in parts for value in part]
    return round(statistics.fmean(values), 3) if values else 0.0


def _percentile(values: Sequence[float], percent: float) -> float:
    return round(float(np.percentile(values, percent)), 1) if values else 0.0
