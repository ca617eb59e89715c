"""The look for a subject who has the face already, before it is enrolled for another."""

from __future__ import annotations

from services.errors import Errors, MienError
from services.gallery import Gallery
from services.gateway.gallery_models import GalleryModel
from services.gateway.given_vectors import Vector
from services.gateway.search_decision import MapThresholds, search_point
from services.settings import Settings

_CANDIDATES = 5  # the subject's own may come first


async def refuse_duplicates(
    gallery: Gallery,
    tenant: str,
    live: GalleryModel,
    vectors: Vector,
    subject_id: str,
    maps: MapThresholds,
    settings: Settings,
) -> None:
    """Refuses vectors that another subject would be identified by.

    Args:
        gallery: to look in.
        tenant: whose subjects.
        live: the model of the vectors.
        vectors: N x dimension float32.
        subject_id: whom they are to be enrolled for; resembling oneself is no fault.
        maps: thresholds of mapped templates.
        settings: the rate at which one is found by chance.

    Raises:
        MienError: another subject has this face; the error names it.
    """
    searched = await gallery.searchable(tenant, live.space)
    if not searched:
        return
    point = search_point(live.info, searched, settings.gallery, maps)
    for candidates in await gallery.search(tenant, live.space, vectors, _CANDIDATES):
        for one in candidates:
            needed = point.of(one.map)
            if needed is None or one.subject_id == subject_id:
                continue
            if one.similarity >= needed.threshold:
                raise MienError(
                    Errors.DUPLICATE_SUBJECT,
                    "Another subject would be identified by this face.",
                    field="subject_id",
                    subject_id=one.subject_id,
                )
