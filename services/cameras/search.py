"""Looks of tracks at the gallery, with the watch list of each camera."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from services.cameras.policy import Policy
from services.cameras.track import Track, Vector
from services.cameras.verdict import PER_LOOK, STRONG, Look, look_of
from services.gallery import Gallery
from services.gallery.identify import Identity
from services.gateway.gallery_models import GalleryModel, GalleryModels
from services.gateway.search_decision import face_identity, search_point
from services.settings import Settings
from services.telemetry.metrics import SEARCH

_CANDIDATES = 5  # subjects of a search; the second decides whether the first is ambiguous
_MEMBER_SECONDS = 5.0  # for which what a subject's metadata hold is not asked again
_FORGOTTEN_SECONDS = 60.0  # longer than any look takes
_MOST_MEMBERS = 10_000


class Searcher:
    """Searches for templates of tracks.

    The gallery cannot search a part of the subjects, and need not: whoever is nearest of all is
    named if the watch list holds them, and nobody if it does not. So a person on the list can be
    missed only for somebody outside it who is nearer still, and the threshold is that of a search
    among all.

    Args:
        settings: rates and margins.
        models: of the gallery.
    """

    def __init__(self, settings: Settings, models: GalleryModels) -> None:
        self._settings, self._models = settings, models
        self._members: dict[tuple[str, str], tuple[Mapping[str, str] | None, float]] = {}
        self._forgotten: dict[tuple[str, str], float] = {}

    async def looks(
        self,
        tenant: str,
        model: GalleryModel,
        asked: Sequence[tuple[Track, Policy]],
        rows: Vector,
    ) -> list[Look | None]:
        """Who each template is of; None where nobody is enrolled.

        Args:
            tenant: whose subjects.
            model: of the vectors.
            asked: the tracks, with the policies of their cameras.
            rows: their templates, N x dimension float32.

        Raises:
            MienError: the gallery cannot be used, or the model's thresholds do not allow a search.
        """
        gallery = await self._models.gallery()
        if await gallery.live() is None:
            return [None] * len(asked)
        searched = await gallery.searchable(tenant, model.space)
        if not searched:
            return [None] * len(asked)
        with SEARCH.time():
            found = await gallery.search(tenant, model.space, rows, _CANDIDATES)
        made: list[Look | None] = []
        for (track, policy), candidates in zip(asked, found, strict=True):
            rates = (policy.fpir * PER_LOOK, policy.fpir * PER_LOOK * STRONG)
            fitted = [t for s in track.fused() if s.enhancement for t in s.enhancement.thresholds]
            usual, strict = (
                search_point(
                    model.info,
                    searched,
                    self._settings.gallery,
                    self._models.map_thresholds,
                    fpir=rate,
                ).for_enhanced(fitted)
                for rate in rates
            )
            look = look_of(
                face_identity(candidates, usual, [], 2),
                face_identity(candidates, strict, [], 2),
                usual,
                policy.fpir,
                model.info.identity,
            )
            near = [one.subject_id for one in candidates[:2]]
            if policy.watch_list and not await self._on_list(gallery, tenant, look, near, policy):
                look = look.as_nobody()
            made.append(look)
        return made

    def forget(self, tenant: str, subject_id: str) -> None:
        """Takes no more looks at a subject that were begun before now."""
        now = time.monotonic()
        self._members.pop((tenant, subject_id), None)
        self._forgotten[tenant, subject_id] = now
        self._forgotten = {
            one: when for one, when in self._forgotten.items() if when > now - _FORGOTTEN_SECONDS
        }

    def is_forgotten(self, tenant: str, subject_id: str, since: float) -> bool:
        """Whether a subject was deleted after a moment of `time.monotonic`."""
        return self._forgotten.get((tenant, subject_id), 0.0) >= since > 0.0

    async def exists(self, tenant: str, subject_id: str) -> bool:
        """Whether a subject is still there and consents.

        Raises:
            MienError: the gallery cannot be used.
        """
        gallery = await self._models.gallery()
        return await self._metadata(gallery, tenant, subject_id) is not None

    async def _on_list(
        self, gallery: Gallery, tenant: str, look: Look, near: Sequence[str], policy: Policy
    ) -> bool:
        subjects = [look.subject_id] if look.subject_id else near
        if look.identity is Identity.UNKNOWN:
            return True  # it is nobody as it is
        for one in subjects:
            told = await self._metadata(gallery, tenant, one)
            if told is not None and policy.watch_list.items() <= told.items():
                return True
        return False

    async def _metadata(
        self, gallery: Gallery, tenant: str, subject_id: str
    ) -> Mapping[str, str] | None:
        known = self._members.get((tenant, subject_id))
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        found = await gallery.subject(tenant, subject_id)
        told = dict(found.metadata) if found is not None and found.consent else None
        if len(self._members) >= _MOST_MEMBERS:
            self._members.clear()
        self._members[tenant, subject_id] = (told, time.monotonic() + _MEMBER_SECONDS)
        return told
