"""Enhances the faces of a request, where an enhancer's card shows that verification gains by it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from services.gain_gate import eyes_px, gates_for, helping
from services.gateway.alignment import CropGeometry, recut
from services.gateway.enhancement_client import EnhancementClient
from services.gateway.faces import MEASURING_CROP
from services.gateway.imaging import png_of
from services.gateway.pipeline import PreparedFace
from services.rpc.mien.v1 import enhancement_pb2, model_pb2
from services.telemetry import Stopwatch
from services.telemetry.metrics import ENHANCEMENTS
from services.telemetry.tracing import spanned

Pixels = NDArray[np.uint8]


Condition = Literal["low_resolution", "near_infrared"]


class Status(StrEnum):
    """Whether a face was enhanced, and if not, why."""

    APPLIED = "applied"
    NOT_NEEDED = "not_needed"
    """No enhancer has been shown to help such a face for this model."""
    OFF = "off"
    """Mien, or the caller, does without."""
    UNAVAILABLE = "unavailable"
    """The enhancement service did not answer; the face was compared as it is."""


@dataclass(frozen=True)
class Enhancement:
    """What was done to a face before it was embedded.

    Attributes:
        status: whether it was enhanced.
        eyes_px: pixels between the eyes that the picture has, for a frontal face.
        enhancer: as name@version; empty unless applied.
        enhancer_sha256: of its weights; likewise.
        condition: what was mended; None unless applied.
        picture: what was drawn, 112 x 112 x 3, RGB, 0-255: synthetic, never to be stored as a
            photograph; None unless applied.
        thresholds: fitted for comparisons with such a face; empty where the model's own hold.
    """

    status: Status
    eyes_px: float
    enhancer: str = ""
    enhancer_sha256: str = ""
    condition: Condition | None = None
    picture: Pixels | None = None
    thresholds: tuple[model_pb2.Threshold, ...] = ()

    def png(self) -> bytes | None:
        """The picture as a file; None unless applied."""
        return None if self.picture is None else png_of(self.picture)


_CONDITIONS: dict[int, Condition] = {
    enhancement_pb2.CONDITION_LOW_RESOLUTION: "low_resolution",
    enhancement_pb2.CONDITION_NEAR_INFRARED: "near_infrared",
}


class FaceEnhancement:
    """Decides by measured gain and enhances.

    Args:
        client: the way to the enhancement service; None for a Mien without one.
    """

    def __init__(self, client: EnhancementClient | None) -> None:
        self._client = client

    async def warm_up(self) -> None:
        """Learns what is served; a service that is not there is no error."""
        if self._client is not None:
            await self._client.enhancers(wait=True)

    async def apply(
        self,
        faces: Sequence[PreparedFace],
        model: model_pb2.ModelInfo,
        geometry: CropGeometry,
        watch: Stopwatch,
        *,
        allowed: bool = True,
        bulk: bool = False,
    ) -> tuple[list[PreparedFace], list[Enhancement | None]]:
        """Enhances those faces that gain by it.

        Args:
            faces: aligned; those without a face stay as they are.
            model: what will embed them.
            geometry: the crop that it takes.
            watch: is told the time of queue and network.
            allowed: whether to enhance at all.
            bulk: nobody waits for this answer in person.

        Returns:
            The faces, and what was done to each; None where there is no face.

        Raises:
            MienError: the enhancement service is busy, or did not answer in time.
        """
        served = await self._served(allowed=allowed)
        status = Status.NOT_NEEDED
        if served is None:
            status = Status.OFF if self._client is None or not allowed else Status.UNAVAILABLE
        done: list[Enhancement | None] = [
            None if one.face is None else Enhancement(status, eyes_px(one.face.native_side))
            for one in faces
        ]
        made = list(faces)
        groups = _groups(faces, served or [], model)
        await asyncio.gather(
            *(self._enhance(group, made, done, model, geometry, watch, bulk) for group in groups)
        )
        for one in done:
            if one is not None:
                ENHANCEMENTS.labels(one.enhancer or "none", one.status).inc()
        return made, done

    async def served(self) -> list[str]:
        """SHA-256 of the weights of each enhancer that is served; empty while none answers."""
        known = await self._served(allowed=True)
        return [one.weights_sha256 for one in known or []]

    async def ground(self, *, allowed: bool) -> bytes | None:
        """What the results depend on: who mends, by which gates. None while nobody answers.

        Args:
            allowed: whether to enhance at all.
        """
        served = await self._served(allowed=allowed)
        if served is None:
            return b"off" if self._client is None or not allowed else None
        told = []
        for one in served:
            plain = enhancement_pb2.EnhancerInfo()
            plain.CopyFrom(one)
            for where in ("engine", "device", "precision"):
                plain.ClearField(where)
            told.append(plain.SerializeToString(deterministic=True))
        return b"".join(sorted(told))

    async def close(self) -> None:
        """Closes the connection."""
        if self._client is not None:
            await self._client.close()

    async def _served(self, *, allowed: bool) -> list[enhancement_pb2.EnhancerInfo] | None:
        return await self._client.enhancers() if self._client is not None and allowed else None

    async def _enhance(
        self,
        group: _Group,
        faces: list[PreparedFace],
        done: list[Enhancement | None],
        model: model_pb2.ModelInfo,
        geometry: CropGeometry,
        watch: Stopwatch,
        bulk: bool,
    ) -> None:
        """Puts a group's synthetic crops in the place of its faces' own, or before them."""
        if self._client is None:
            return
        by = group.enhancer
        (gate,) = gates_for(by, *_named(model))
        with spanned("enhance"):
            drawn = await self._client.enhance(group.crops, group.native_sides, by, bulk=bulk)
        if drawn is None:
            for place, native in zip(group.places, group.native_sides, strict=True):
                done[place] = Enhancement(Status.UNAVAILABLE, eyes_px(native))
            return
        watch.add("enhance_queue", drawn.queue_seconds)
        watch.add("enhance", drawn.inference_seconds)
        sides = zip(group.places, drawn.pictures, group.native_sides, strict=True)
        for place, picture, native in sides:
            crop = picture if geometry == MEASURING_CROP else recut(picture, geometry)
            faces[place] = replace(faces[place], crop=crop, beside=_beside(by, crop, faces[place]))
            done[place] = Enhancement(
                Status.APPLIED,
                eyes_px(native),
                enhancer=f"{by.name}@{by.version}",
                enhancer_sha256=by.weights_sha256,
                condition=_CONDITIONS[by.condition],
                picture=picture,
                thresholds=tuple(gate.thresholds),
            )


@dataclass(frozen=True)
class _Group:
    """Faces that one enhancer is to mend."""

    enhancer: enhancement_pb2.EnhancerInfo
    places: list[int]
    crops: list[Pixels]
    native_sides: list[float]


def _groups(
    faces: Sequence[PreparedFace],
    served: list[enhancement_pb2.EnhancerInfo],
    model: model_pb2.ModelInfo,
) -> list[_Group]:
    embedder, sha256 = _named(model)
    groups: dict[str, _Group] = {}
    for place, one in enumerate(faces):
        if one.face is None or one.measured is None:
            continue
        native = one.face.native_side
        chosen = helping(served, embedder, sha256, native, one.face.modality)
        if chosen is not None:
            empty = _Group(chosen, [], [], [])
            group = groups.setdefault(f"{chosen.name}@{chosen.version}", empty)
            group.places.append(place)
            group.crops.append(one.measured)
            group.native_sides.append(native)
    return list(groups.values())


def _beside(
    by: enhancement_pb2.EnhancerInfo, drawn: Pixels, face: PreparedFace
) -> tuple[Pixels, ...]:
    """What is embedded besides a redrawn face.

    One of few pixels is compared by both, as it was and as it was redrawn, each with its mirror
    image: what is lost in one of the four is often there in another
    (docs/decisions/0020-a-face-of-few-pixels-is-compared-four-times.md).
    """
    if by.condition != enhancement_pb2.CONDITION_LOW_RESOLUTION or face.crop is None:
        return ()
    return (_mirrored(drawn), face.crop, _mirrored(face.crop))


def _mirrored(crop: Pixels) -> Pixels:
    return np.ascontiguousarray(crop[:, ::-1])


def _named(model: model_pb2.ModelInfo) -> tuple[str, str]:
    """Its name@version and the SHA-256 of its weights."""
    identity = model.identity
    return f"{identity.name}@{identity.version}", identity.weights_sha256
