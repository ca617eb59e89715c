"""All that is stored of one person, for whoever has the right to know it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.audit.read import about_subject
from services.audit.record import Action
from services.audit.trail import Trail
from services.gallery import Space, Subject, Template
from services.gateway.gallery_access import GalleryAccess
from services.gateway.subjects import known_subject


@dataclass(frozen=True, eq=False)
class SubjectExport:
    """What is stored of a person.

    Attributes:
        subject: name, metadata, consent, times.
        templates: of all model versions, oldest first.
        live: the space that is searched.
        keys: idempotency keys.
        audit: records of the audit log that name the subject, oldest first.
        vectors: whether the templates' vectors are to be told.
        at: seconds since the epoch.
    """

    subject: Subject
    templates: list[Template]
    live: Space | None
    keys: list[str]
    audit: list[dict[str, Any]]
    vectors: bool
    at: float


def vector_bytes(template: Template) -> bytes:
    """A vector as interfaces give it: dimension x 4 bytes, little-endian single precision."""
    return np.asarray(template.vector).astype("<f4").tobytes()


class SubjectExporter:
    """Collects what is stored of a person.

    Args:
        access: the way to the gallery.
        trail: the way to the audit log.
    """

    def __init__(self, access: GalleryAccess, trail: Trail) -> None:
        self._access, self._trail = access, trail

    async def export(self, tenant: str, subject_id: str, *, vectors: bool = False) -> SubjectExport:
        """All that is stored of a subject; the export itself is audited.

        Args:
            tenant: whose subject.
            subject_id: of the subject.
            vectors: tell the vectors too. A vector is a face: see docs/privacy.md.

        Raises:
            MienError: there is no such subject.
        """
        gallery = await self._access.gallery()
        subject = await known_subject(self._access, tenant, subject_id)
        templates = await gallery.templates(tenant, subject_id)
        counts = {"templates": len(templates), "vectors": len(templates) if vectors else 0}
        await self._trail.note(Action.EXPORT, tenant, [subject_id], counts=counts)
        return SubjectExport(
            subject,
            templates,
            await gallery.live(),
            await gallery.idempotency_keys(tenant, subject_id),
            await asyncio.to_thread(self._audit, tenant, subject_id),
            vectors,
            time.time(),
        )

    def _audit(self, tenant: str, subject_id: str) -> list[dict[str, Any]]:
        if not self._trail.place.folder.is_dir():
            return []
        return about_subject(self._trail.place.folder, tenant, subject_id, self._trail.key())
