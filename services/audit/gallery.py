"""A gallery whose changes are audited: every interface and command goes through it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from services.audit.anchor import rewrapped
from services.audit.record import Action
from services.audit.trail import Trail
from services.gallery.contract import Gallery
from services.gallery.embedded import EmbeddedGallery
from services.gallery.embedded.data_keys import TenantKey
from services.gallery.embedded.master_key import new_master
from services.gallery.embedded.wrapping import KeyWrapper, wrappers
from services.gallery.values import (
    DeletionReport,
    Enrolled,
    Enrolment,
    Job,
    Space,
    Subject,
    Template,
    Written,
)
from services.settings import GallerySettings, SettingsError


def audited(gallery: Gallery, trail: Trail, *, own: bool) -> Gallery:
    """A gallery that writes down what changes; what only reads is as it was.

    Args:
        gallery: that does the work.
        trail: to write to.
        own: close the trail with the gallery.
    """
    return cast("Gallery", AuditedGallery(gallery, trail, own=own))


class AuditedGallery:
    """The contract's changes, each between two records. Made by `audited`.

    Args:
        gallery: that does the work.
        trail: to write to.
        own: close the trail with the gallery.
    """

    def __init__(self, gallery: Gallery, trail: Trail, *, own: bool) -> None:
        self._gallery, self.trail, self._own = gallery, trail, own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gallery, name)

    async def put_subject(self, tenant: str, subject: Subject, *, new: bool = False) -> Subject:
        """See `Gallery.put_subject`."""
        async with self.trail.change(Action.SUBJECT_STORE, tenant, [subject.id]):
            return await self._gallery.put_subject(tenant, subject, new=new)

    async def put_subjects(self, tenant: str, subjects: Sequence[Subject]) -> None:
        """See `Gallery.put_subjects`."""
        async with self.trail.change(Action.SUBJECT_STORE, tenant, [one.id for one in subjects]):
            await self._gallery.put_subjects(tenant, subjects)

    async def set_consent(self, tenant: str, subject_id: str, *, given: bool) -> Subject:
        """See `Gallery.set_consent`."""
        action = Action.CONSENT_GIVE if given else Action.CONSENT_WITHDRAW
        async with self.trail.change(action, tenant, [subject_id]):
            return await self._gallery.set_consent(tenant, subject_id, given=given)

    async def delete_subject(self, tenant: str, subject_id: str) -> DeletionReport:
        """See `Gallery.delete_subject`."""
        async with self.trail.change(Action.SUBJECT_DELETE, tenant, [subject_id]) as counts:
            return _counted(await self._gallery.delete_subject(tenant, subject_id), counts)

    async def delete_template(
        self, tenant: str, template_id: str, *, subject_id: str = ""
    ) -> DeletionReport:
        """See `Gallery.delete_template`."""
        change = self.trail.change(
            Action.TEMPLATE_DELETE, tenant, [subject_id], about={"template": template_id}
        )
        async with change as counts:
            return _counted(await self._gallery.delete_template(tenant, template_id), counts)

    async def enrol(self, tenant: str, enrolments: Sequence[Enrolment]) -> list[Enrolled]:
        """See `Gallery.enrol`."""
        subjects = [one.subject_id for one in enrolments]
        async with self.trail.change(Action.ENROL, tenant, subjects) as counts:
            done = await self._gallery.enrol(tenant, enrolments)
            counts["templates"] = sum(len(one.template_ids) for one in done if not one.repeated)
            return done

    async def write(
        self,
        space: Space,
        templates: Sequence[Template],
        *,
        derived_from: Space | None = None,
        job: Job | None = None,
    ) -> Written:
        """See `Gallery.write`. Rows that a migration maps are not told: it is audited itself."""
        if derived_from is not None:
            return await self._gallery.write(space, templates, derived_from=derived_from, job=job)
        tenants = sorted({one.tenant for one in templates})
        subjects = sorted({one.subject_id for one in templates})
        about = {"model": space.reference}
        tenant = tenants[0] if len(tenants) == 1 else ""
        async with self.trail.change(Action.IMPORT, tenant, subjects, about=about) as counts:
            done = await self._gallery.write(space, templates, job=job)
            counts["templates"] = done.written
            return done

    async def drop_collection(self, space: Space) -> int:
        """See `Gallery.drop_collection`."""
        about = {"model": space.reference}
        async with self.trail.change(Action.COLLECTION_DROP, about=about) as counts:
            counts["templates"] = await self._gallery.drop_collection(space)
            return counts["templates"]

    async def close(self) -> None:
        """See `Gallery.close`."""
        await self._gallery.close()
        if self._own:
            await self.trail.close()

    @property
    def embedded(self) -> EmbeddedGallery:
        """The gallery itself, where it is one with keys.

        Raises:
            SettingsError: it has none.
        """
        if not isinstance(self._gallery, EmbeddedGallery):
            raise SettingsError("Only the embedded gallery has keys of its own.")
        return self._gallery


async def note_copy(gallery: Gallery) -> None:
    """Writes down, in the log of a gallery, that all of it is about to be copied elsewhere.

    Args:
        gallery: as `open_gallery` gives it.

    Raises:
        MienError: AUDIT_UNAVAILABLE, where the log is required.
    """
    await cast("AuditedGallery", gallery).trail.note(Action.COPY, outcome="begun")


class KeyAdministration:
    """What operators do with the keys of an embedded gallery, audited.

    Args:
        gallery: as `open_gallery` gives it.
        settings: where its master key is.

    Raises:
        SettingsError: the gallery has no keys of its own.
    """

    def __init__(self, gallery: Gallery, settings: GallerySettings) -> None:
        audited = cast("AuditedGallery", gallery)
        self._gallery, self._trail = audited.embedded, audited.trail
        self._settings = settings

    async def all(self) -> list[TenantKey]:
        """The data keys of all tenants."""
        return await self._gallery.keys.all()

    async def rotate(self, tenants: Sequence[str] = ()) -> list[str]:
        """Gives tenants new data keys, and begins to seal their rows anew in the background."""
        about = {"tenants": list(tenants)}
        async with self._trail.change(Action.KEYS_ROTATE, about=about) as counts:
            done = await self._gallery.keys.rotate(tenants)
            counts["tenants"] = len(done)
            return done

    async def finished(self) -> None:
        """Waits until every row is sealed with its tenant's newest key."""
        await self._gallery.keys.finished()

    async def rewrap(self, file: Path | None = None) -> Path:
        """Wraps all data keys, and that of the audit log, with a new master key in a file."""
        place = self._trail.place
        with new_master(self._settings, place.database, file) as (master, at):
            await self.rewrap_with(master)
        return at

    async def rewrap_with(self, master: KeyWrapper) -> None:
        """Wraps all data keys, and that of the audit log, with another master key."""
        place = self._trail.place
        async with self._trail.change(Action.KEYS_REWRAP):
            old = wrappers(self._settings, place.database)
            with rewrapped(place.folder, old, master):
                await self._gallery.rewrap(master)

    async def delete_tenant(self, tenant: str) -> DeletionReport:
        """Deletes a tenant with all its rows, and destroys its keys."""
        async with self._trail.change(Action.TENANT_DELETE, tenant) as counts:
            return _counted(await self._gallery.delete_tenant(tenant), counts)


def _counted(report: DeletionReport, counts: dict[str, int]) -> DeletionReport:
    counts["subjects"] = report.subjects
    counts["templates"] = sum(report.templates.values())
    counts["remaining"] = sum(report.remaining.values())
    return report
