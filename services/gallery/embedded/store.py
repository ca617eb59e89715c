"""The embedded gallery: the contract, over database and indexes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from services.gallery.checks import (
    check_space,
    checked_id,
    checked_limit,
    checked_subject,
    checked_tenant,
    checked_vectors,
    cursor_row,
)
from services.gallery.embedded import deleting, searching, spaces
from services.gallery.embedded import subjects as subject_calls
from services.gallery.embedded.core import Core
from services.gallery.embedded.data_keys import DataKeys
from services.gallery.embedded.database import Connection
from services.gallery.embedded.enrolling import Enrolling, put_job, repeated
from services.gallery.embedded.master_key import new_master, rewrap
from services.gallery.embedded.template_rows import Changes
from services.gallery.embedded.tenants import delete_tenant
from services.gallery.embedded.wrapping import KeyWrapper
from services.gallery.values import (
    MOST_CANDIDATES,
    MOST_SCANNED,
    Candidate,
    Collection,
    DeletionReport,
    Enrolled,
    Enrolment,
    Job,
    Page,
    Space,
    Subject,
    Template,
    Vector,
    Written,
)
from services.settings import GallerySettings


class EmbeddedGallery:
    """A gallery in one SQLite file, searched in memory. Made by `open`.

    Args:
        core: an open database.

    Attributes:
        keys: of its tenants.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self.keys = DataKeys(core)
        self.keys.go_on()  # with what a process that was killed left

    @classmethod
    async def open(cls, path: Path, settings: GallerySettings) -> EmbeddedGallery:
        """Opens a gallery and reads the live templates into memory; makes it if it is not there.

        Raises:
            MienError: another process holds it, or the master key is missing or not its own.
        """
        core = Core(path, settings)
        try:
            await core.open()
        except BaseException:
            await core.close()
            raise
        return cls(core)

    # Spaces.

    async def collections(self) -> list[Collection]:
        """See `Gallery.collections`."""
        return await spaces.collections(self._core)

    async def live(self) -> Space | None:
        """See `Gallery.live`."""
        return self._core.live

    async def edition(self) -> str:
        """See `Gallery.edition`; no other process can change what this one holds."""
        return str(self._core.edition)

    async def create_collection(self, space: Space) -> None:
        """See `Gallery.create_collection`."""
        await spaces.create(self._core, space)

    async def drop_collection(self, space: Space) -> int:
        """See `Gallery.drop_collection`."""
        return await spaces.drop(self._core, space)

    async def switch(self, space: Space, *, caught_up: int | None = None) -> Space | None:
        """See `Gallery.switch`."""
        return await spaces.switch(self._core, space, caught_up)

    # Subjects.

    async def put_subject(self, tenant: str, subject: Subject, *, new: bool = False) -> Subject:
        """See `Gallery.put_subject`."""
        return await subject_calls.put(
            self._core, checked_tenant(tenant), checked_subject(subject), new=new
        )

    async def put_subjects(self, tenant: str, subjects: Sequence[Subject]) -> None:
        """See `Gallery.put_subjects`."""
        checked_tenant(tenant)
        await subject_calls.put_all(self._core, tenant, [checked_subject(one) for one in subjects])

    async def subject(self, tenant: str, subject_id: str) -> Subject | None:
        """See `Gallery.subject`."""
        return await subject_calls.get(self._core, checked_tenant(tenant), subject_id)

    async def subjects(self, tenant: str, cursor: str = "", limit: int = 100) -> Page[Subject]:
        """See `Gallery.subjects`."""
        checked_tenant(tenant)
        return await subject_calls.page(
            self._core, tenant, cursor_row(cursor), checked_limit(limit)
        )

    async def set_consent(self, tenant: str, subject_id: str, *, given: bool) -> Subject:
        """See `Gallery.set_consent`."""
        return await subject_calls.set_consent(
            self._core, checked_tenant(tenant), subject_id, given=given
        )

    async def delete_subject(self, tenant: str, subject_id: str) -> DeletionReport:
        """See `Gallery.delete_subject`."""
        return await deleting.delete_subject(self._core, checked_tenant(tenant), subject_id)

    # Templates.

    async def enrol(self, tenant: str, enrolments: Sequence[Enrolment]) -> list[Enrolled]:
        """See `Gallery.enrol`."""
        checked_tenant(tenant)
        for one in enrolments:
            if one.key:
                checked_id(one.key, "key")
        return await self._core.commit(
            lambda connection, changes: Enrolling(
                self._core.rows, self._core.templates, connection, changes
            ).enrol(tenant, enrolments)
        )

    async def enrolled(self, tenant: str, given: Enrolment) -> Enrolled | None:
        """See `Gallery.enrolled`."""
        checked_tenant(tenant)

        def work(connection: Connection) -> Enrolled | None:
            row = self._core.rows.tenant(connection, tenant)
            return None if row is None else repeated(connection, row, given)

        return await self._core.database.read(work)

    async def templates(self, tenant: str, subject_id: str) -> list[Template]:
        """See `Gallery.templates`."""
        return await subject_calls.templates(self._core, checked_tenant(tenant), subject_id)

    async def delete_template(
        self, tenant: str, template_id: str, *, subject_id: str = ""
    ) -> DeletionReport:
        """See `Gallery.delete_template`."""
        del subject_id  # for the audit log alone
        return await deleting.delete_template(self._core, checked_tenant(tenant), template_id)

    async def search(
        self, tenant: str, space: Space, vectors: Vector, limit: int = 5
    ) -> list[list[Candidate]]:
        """See `Gallery.search`."""
        checked_tenant(tenant)
        count = checked_limit(limit, most=MOST_CANDIDATES)
        return await searching.search(
            self._core, tenant, space, checked_vectors(space, vectors), count
        )

    async def searchable(self, tenant: str, space: Space) -> int:
        """See `Gallery.searchable`."""
        return await searching.searchable(self._core, checked_tenant(tenant), space)

    # Streams of rows.

    async def tenants(self) -> list[str]:
        """See `Gallery.tenants`."""
        return await self._core.database.read(
            lambda connection: [
                name for (name,) in connection.execute("SELECT name FROM tenants ORDER BY name")
            ]
        )

    async def scan(
        self, space: Space, after: int = 0, limit: int = 1000, tenant: str | None = None
    ) -> list[Template]:
        """See `Gallery.scan`."""
        count = checked_limit(limit, most=MOST_SCANNED)
        return await self._core.database.read(
            lambda connection: self._core.templates.scan(
                connection, self._core.rows.collection(connection, space), after, count, tenant
            )
        )

    async def write(
        self,
        space: Space,
        templates: Sequence[Template],
        *,
        derived_from: Space | None = None,
        job: Job | None = None,
    ) -> Written:
        """See `Gallery.write`."""
        check_space(space, (one.space for one in templates))
        return await self._core.commit(
            lambda connection, changes: Enrolling(
                self._core.rows, self._core.templates, connection, changes
            ).write(space, templates, derived_from, job)
        )

    # Jobs.

    async def jobs(self) -> list[Job]:
        """See `Gallery.jobs`."""
        return await self._core.database.read(
            lambda connection: [
                Job(name, json.loads(state), updated)
                for name, state, updated in connection.execute("SELECT * FROM jobs ORDER BY name")
            ]
        )

    async def job(self, name: str) -> Job | None:
        """See `Gallery.job`."""
        return next((job for job in await self.jobs() if job.name == name), None)

    async def put_job(self, job: Job) -> None:
        """See `Gallery.put_job`."""
        await self._core.commit(lambda connection, _: put_job(connection, job))

    async def delete_job(self, name: str) -> None:
        """See `Gallery.delete_job`."""

        def work(connection: Connection, _: Changes) -> None:
            connection.execute("DELETE FROM jobs WHERE name = ?", (name,))

        await self._core.commit(work)

    async def idempotency_keys(self, tenant: str, subject_id: str) -> list[str]:
        """See `Gallery.idempotency_keys`."""
        return await subject_calls.keys(self._core, checked_tenant(tenant), subject_id)

    # Keys: only this gallery has any.

    async def rotate_master_key(self, new_file: Path | None = None) -> Path:
        """Wraps all data keys with a new master key; gives the file that holds it."""
        core = self._core
        with new_master(core.settings, core.database.path, new_file) as (master, file):
            await rewrap(core, master)
        return file

    async def rewrap(self, master: KeyWrapper) -> None:
        """Wraps all data keys with another master key; see `rewrap`."""
        await rewrap(self._core, master)

    async def delete_tenant(self, tenant: str) -> DeletionReport:
        """Deletes a tenant and destroys its keys; see `delete_tenant`."""
        return await delete_tenant(self._core, checked_tenant(tenant))

    async def close(self) -> None:
        """See `Gallery.close`."""
        await self.keys.close()
        await self._core.close()
