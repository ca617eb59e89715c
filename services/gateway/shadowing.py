"""Asks a migration's next model what it would have answered to live identifications."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.errors import MienError
from services.gateway.face_work import FaceWork
from services.gateway.gallery_models import GalleryModel, GalleryModels
from services.gateway.search_decision import (
    FaceIdentity,
    IdentityDecision,
    face_identity,
    search_point,
)
from services.migration.shadow import Book, Shown
from services.telemetry import get_logger

_log = get_logger(__name__)


class Shadowing:
    """Looks at a share of the identifications, one at a time, after they have been answered.

    Args:
        work: on pictures.
        models: of the gallery.
    """

    def __init__(self, work: FaceWork, models: GalleryModels) -> None:
        self._work, self._models = work, models
        self._share = work.settings.migration.shadow
        self._books: dict[str, Book] = {}
        self._task: asyncio.Task[None] | None = None

    def look(
        self,
        tenant: str,
        live: GalleryModel,
        crops: Sequence[NDArray[np.uint8]],
        told: Sequence[FaceIdentity],
        fpir: float,
    ) -> None:
        """Looks at an identification, if its turn comes and no other is looked at.

        Args:
            tenant: whose subjects were searched.
            live: model that answered.
            crops: the faces.
            told: its answers, one for each.
            fpir: that they were given for.
        """
        busy = self._task is not None and not self._task.done()
        # Chance that nobody could gain by foreseeing.
        if busy or not crops or random.random() >= self._share:  # noqa: S311
            return
        self._task = asyncio.create_task(self._compare(tenant, live, crops, told, fpir))
        self._task.add_done_callback(_ended)

    async def _compare(
        self,
        tenant: str,
        live: GalleryModel,
        crops: Sequence[NDArray[np.uint8]],
        told: Sequence[FaceIdentity],
        fpir: float,
    ) -> None:
        try:
            for other in (await self._models.to_enrol())[1:]:
                if other.geometry == live.geometry:  # else there is no such crop any more
                    await self._ask(tenant, other, crops, told, fpir)
        except MienError as error:
            _log.warning("the next model could not be asked", code=error.kind.code)

    async def _ask(
        self,
        tenant: str,
        other: GalleryModel,
        crops: Sequence[NDArray[np.uint8]],
        told: Sequence[FaceIdentity],
        fpir: float,
    ) -> None:
        gallery = await self._models.gallery()
        searched = await gallery.searchable(tenant, other.space)
        if not searched:
            return
        maps = self._models.map_thresholds
        point = search_point(other.info, searched, self._work.settings.gallery, maps, fpir=fpir)
        embedded = await self._work.embedding.embed(list(crops), other.info, bulk=True)
        found = await gallery.search(tenant, other.space, embedded.vectors, 2)
        book = self._books.setdefault(other.space.key, Book(other.space))
        for one, candidates in zip(told, found, strict=True):
            book.tally.count(_shown(one), _shown(face_identity(candidates, point, one.faults, 2)))
        await book.save(gallery)


def _shown(one: FaceIdentity) -> Shown:
    first = one.candidates[0] if one.candidates else None
    known = one.decision is IdentityDecision.KNOWN and first is not None
    return Shown(
        first.candidate.subject_id if first is not None and known else None,
        None if first is None else first.candidate.similarity - first.threshold,
    )


def _ended(task: asyncio.Task[None]) -> None:
    """Logs a look that failed for no reason of the catalogue; its caller has long been answered."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a look at the next model failed", error=type(error).__name__)
