"""Shots of all cameras to vectors, in one batch, and tracks to decisions, in one search."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.cameras.camera import Camera
from services.cameras.identity_check import place
from services.cameras.messages import Box, FrameOf, Why
from services.cameras.search import Searcher
from services.cameras.shots import TakenShot
from services.cameras.track import Shot, Track, make_shot
from services.cameras.verdict import Look
from services.errors import Errors, MienError
from services.gateway.enhancement import Enhancement
from services.gateway.face_work import FaceWork
from services.gateway.gallery_models import GalleryModel, GalleryModels
from services.gateway.pipeline import PreparedFace
from services.telemetry import Stopwatch, get_logger
from services.telemetry.metrics import QUALITY

_log = get_logger(__name__)
_BATCH = 32  # shots that are embedded at once
_MODEL_SECONDS = 1.0  # for which the live model is not asked for again
_PAUSE = 1.0  # seconds after a failure


@dataclass(eq=False)
class WaitingShot:
    """A shot that is to be embedded.

    Attributes:
        camera: whose.
        track: that it is of.
        of: the frame that it is in.
        taken: the face, measured.
        done: called when all that comes of it was told.
    """

    camera: Camera
    track: Track
    of: FrameOf
    taken: TakenShot
    done: Callable[[], None]


@dataclass(frozen=True)
class _Asked:
    """A track that is to be looked at, and the frame, with the face in it, that asks for it."""

    track: Track
    of: FrameOf
    box: Box
    camera: Camera


class Looker:
    """Embeds the shots that wait and decides for their tracks. It belongs to one event loop.

    Args:
        work: the way to enhancement and embedding.
        models: of the gallery.
        told: called for each camera of which something happened.
    """

    def __init__(
        self, work: FaceWork, models: GalleryModels, told: Callable[[Camera], None]
    ) -> None:
        self._work, self._models, self._told = work, models, told
        self.searcher = Searcher(work.settings, models)
        self._waiting: list[WaitingShot] = []
        self._news = asyncio.Event()
        self._model: GalleryModel | None = None
        self._model_until = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to work."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stops."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def model(self) -> GalleryModel | None:
        """The model that shots are embedded with; None while none can be had."""
        if time.monotonic() > self._model_until:
            self._model_until = time.monotonic() + _MODEL_SECONDS
            try:
                self._model = await self._live_or_first()
            except MienError as error:
                _log.warning("cameras have no model", code=error.kind.code)
                self._model = None
        return self._model

    def put(self, shot: WaitingShot) -> None:
        """Adds a shot to the next batch."""
        shot.track.pending = True
        self._waiting.append(shot)
        self._news.set()

    async def _live_or_first(self) -> GalleryModel:
        try:
            return await self._models.live()
        except MienError as error:
            if error.error is not Errors.GALLERY_EMPTY:
                raise
        return await self._models.first()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                try:
                    await self._look(batch)
                except MienError as error:
                    _log.warning("shots could not be looked at", code=error.kind.code)
                    self._model_until = 0.0
                    self._give_up(batch)
                except Exception:  # noqa: BLE001 - one bad batch must not end all cameras
                    _log.exception("shots could not be looked at")
                    self._give_up(batch)
                finally:
                    for shot in batch:
                        shot.track.pending = False
                        self._told(shot.camera)
                        shot.done()

    def _give_up(self, batch: Sequence[WaitingShot]) -> None:
        for shot in batch:
            if not shot.track.shots:
                shot.track.why_not = Why.UNAVAILABLE
            shot.track.next_shot = shot.camera.now + _PAUSE
            if shot.camera.has(shot.track):
                shot.camera.appear(shot.track)

    async def _look(self, batch: Sequence[WaitingShot]) -> None:
        started = time.monotonic()
        model = await self.model()
        if model is None:
            self._give_up(batch)
            return
        made = await self._embedded(batch, model)
        looks: list[_Asked] = []
        for waiting, shot in zip(batch, made, strict=True):
            track = self._taken(waiting, shot, model)
            if track is not None and all(track is not one.track for one in looks):
                box = waiting.taken.face.detection.box
                looks.append(_Asked(track, waiting.of, box, waiting.camera))
        await self._decide(looks, model, started)

    async def _embedded(self, batch: Sequence[WaitingShot], model: GalleryModel) -> list[Shot]:
        faces = [shot.taken.prepared for shot in batch]
        done: list[Enhancement | None] = [None] * len(batch)
        for allowed in (True, False):
            places = [row for row, one in enumerate(batch) if one.camera.policy.enhance is allowed]
            if places:
                await self._enhance(places, faces, done, model, allowed=allowed)
        crops = [face.crops for face in faces if face.crop is not None]
        made = await self._work.embedding.embed_faces(crops, model.info)
        return [
            make_shot(
                made.vectors[row].copy(),
                None if made.lengths is None else float(made.lengths[row]),
                None if made.weights is None else float(made.weights[row]),
                shot.taken.face,
                done[row],
            )
            for row, shot in enumerate(batch)
        ]

    async def _enhance(
        self,
        places: Sequence[int],
        faces: list[PreparedFace],
        done: list[Enhancement | None],
        model: GalleryModel,
        *,
        allowed: bool,
    ) -> None:
        chosen = [faces[index] for index in places]
        made, told = await self._work.enhanced(chosen, model, Stopwatch(), allowed=allowed)
        for index, face, one in zip(places, made, told, strict=True):
            faces[index] = face
            # The drawn picture is not kept: it is synthetic, and nobody asks for it here.
            done[index] = None if one is None else replace(one, picture=None)

    def _taken(self, waiting: WaitingShot, shot: Shot, model: GalleryModel) -> Track | None:
        """Gives a shot to the track whose face it shows; None where it fits none."""
        QUALITY.observe(shot.quality)
        if not waiting.camera.has(waiting.track):
            return None
        track = place(waiting.camera, waiting.track, shot, model)
        if track is None:
            return None
        track.add(shot, model, self._work.settings.cameras.max_shots)
        track.why_not = None
        best = track.best
        if best is not None and best.of == waiting.of:
            track.best = replace(best, enhancement=shot.enhancement)
        waiting.camera.appear(track)
        return track

    async def _decide(
        self,
        looks: Sequence[_Asked],
        model: GalleryModel,
        started: float,
    ) -> None:
        by_tenant: dict[str, list[_Asked]] = {}
        for one in looks:
            by_tenant.setdefault(one.track.tenant, []).append(one)
        for tenant, group in by_tenant.items():
            pairs = [(one, row) for one in group if (row := one.track.template()) is not None]
            if not pairs:
                continue
            asked = [(one.track, one.camera.policy) for one, _ in pairs]
            rows = np.stack([row for _, row in pairs])
            found = await self.searcher.looks(tenant, model, asked, rows)
            for (one, _), look in zip(pairs, found, strict=True):
                self._tell(one, look, started)

    def _tell(self, one: _Asked, look: Look | None, started: float) -> None:
        track, camera = one.track, one.camera
        if not camera.has(track):
            return
        if look is None:
            track.why_not = Why.EMPTY_GALLERY
            track.verdict.settle()
            camera.nobody(track, one.of, one.box)
        elif self.searcher.is_forgotten(track.tenant, look.subject_id, started):
            track.forget()
        else:
            track.verdict.take(look)
            camera.decide(track, one.of, one.box)
