"""The gallery in Milvus: the contract, over tables and collections.

Milvus has no transactions. Writes of one process go one after the other; what is asked of several
processes at once holds as the documentation says in docs/gallery.md.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Sequence

from services.errors import Errors, MienError
from services.gallery.checks import (
    check_space,
    checked_id,
    checked_limit,
    checked_subject,
    checked_template,
    checked_tenant,
    checked_vectors,
    cursor_of,
    cursor_row,
    is_id,
)
from services.gallery.milvus import deleting
from services.gallery.milvus.connection import Connection, Row, quoted
from services.gallery.milvus.enrolling import Enrolling, of_keys, repeated
from services.gallery.milvus.searching import search
from services.gallery.milvus.spaces import Spaces
from services.gallery.milvus.tables import (
    FIELDS,
    JOBS,
    KEYS,
    SUBJECT_FIELDS,
    SUBJECTS,
    make_tables,
    plain_row,
    subject_key,
    subject_of,
    subject_row,
    template_of,
)
from services.gallery.milvus.templates import Key, Templates, of_subject
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
from services.settings import GallerySettings, RedisSettings
from services.shared.news import LocalNews, SharedNews
from services.shared.redis_link import RedisLink


class MilvusGallery:
    """A gallery in Milvus. Made by `open`.

    Args:
        connection: to a Milvus that has the tables.
        link: to Redis, which tells of what other processes change.
    """

    def __init__(self, connection: Connection, link: RedisLink | None = None) -> None:
        self._connection, self._link = connection, link
        self._spaces = Spaces(
            connection, LocalNews() if link is None else SharedNews(link, "collections")
        )
        self._templates = Templates(connection)
        self._writing = asyncio.Lock()

    @classmethod
    async def open(
        cls, uri: str, settings: GallerySettings, redis: RedisSettings | None = None
    ) -> MilvusGallery:
        """Connects to a server, or opens a file of Milvus Lite, and makes what is missing.

        Raises:
            MienError: nobody answers, or the answer is a refusal.
        """
        connection = await Connection.open(uri, settings)
        try:
            await make_tables(connection)
        except BaseException:
            await connection.close()
            raise
        shared = redis is not None and redis.url.get_secret_value()
        return cls(connection, RedisLink(redis) if redis is not None and shared else None)

    # Spaces.

    async def collections(self) -> list[Collection]:
        """See `Gallery.collections`."""
        return await self._spaces.collections()

    async def live(self) -> Space | None:
        """See `Gallery.live`; without Redis another's switch is seen within a second."""
        return await self._spaces.live()

    async def edition(self) -> str:
        """See `Gallery.edition`."""
        return await self._spaces.edition()

    async def create_collection(self, space: Space) -> None:
        """See `Gallery.create_collection`."""
        async with self._writing:
            await self._spaces.create(space)

    async def drop_collection(self, space: Space) -> int:
        """See `Gallery.drop_collection`."""
        async with self._writing:
            return await self._spaces.drop(space)

    async def switch(self, space: Space, *, caught_up: int | None = None) -> Space | None:
        """See `Gallery.switch`."""
        async with self._writing:
            return await self._spaces.switch(space, caught_up)

    # Subjects.

    async def put_subject(self, tenant: str, subject: Subject, *, new: bool = False) -> Subject:
        """See `Gallery.put_subject`."""
        checked_tenant(tenant)
        checked_subject(subject)
        async with self._writing:
            before = await self._subject(tenant, subject.id)
            if new and before is not None:
                raise MienError(Errors.SUBJECT_EXISTS, "There is such a subject already.")
            return await self._stored(tenant, subject, before)

    async def put_subjects(self, tenant: str, subjects: Sequence[Subject]) -> None:
        """See `Gallery.put_subjects`."""
        checked_tenant(tenant)
        latest = {one.id: checked_subject(one) for one in subjects}
        async with self._writing:
            known = await self._templates.subjects((tenant, name) for name in latest)
            changed = [
                one
                for name, one in latest.items()
                if (before := known.get((tenant, name))) is None or before.consent == one.consent
            ]
            rows = []
            for one in changed:
                before = known.get((tenant, one.id))
                created = one.created if before is None else before.created
                rows.append(subject_row(tenant, dataclasses.replace(one, created=created)))
            await self._connection.put(SUBJECTS, rows)
            for name, one in latest.items():
                if one not in changed:  # its templates leave search or come back
                    await self._stored(tenant, one, known[tenant, name])

    async def subject(self, tenant: str, subject_id: str) -> Subject | None:
        """See `Gallery.subject`."""
        checked_tenant(tenant)
        return await self._subject(tenant, subject_id)

    async def subjects(self, tenant: str, cursor: str = "", limit: int = 100) -> Page[Subject]:
        """See `Gallery.subjects`."""
        checked_tenant(tenant)
        count, after = checked_limit(limit), cursor_row(cursor)
        where = f"tenant == {quoted(tenant)}"
        if after:
            where += f" and pk > {quoted(subject_key(tenant, checked_id(after, 'cursor')))}"
        rows = await self._connection.in_order(SUBJECTS, where, SUBJECT_FIELDS, count + 1)
        shown = tuple(subject_of(row) for row in rows[:count])
        return Page(shown, cursor_of(shown[-1].id) if len(rows) > count else "")

    async def set_consent(self, tenant: str, subject_id: str, *, given: bool) -> Subject:
        """See `Gallery.set_consent`."""
        checked_tenant(tenant)
        async with self._writing:
            before = await self._subject(tenant, subject_id)
            if before is None:
                raise MienError(Errors.SUBJECT_UNKNOWN, "There is no such subject.")
            changed = dataclasses.replace(before, consent=given, updated=0.0)
            return await self._stored(tenant, changed, before)

    async def delete_subject(self, tenant: str, subject_id: str) -> DeletionReport:
        """See `Gallery.delete_subject`."""
        checked_tenant(tenant)
        async with self._writing:
            return await deleting.delete_subject(
                self._connection, self._templates, await self._spaces.all(), tenant, subject_id
            )

    # Templates.

    async def enrol(self, tenant: str, enrolments: Sequence[Enrolment]) -> list[Enrolled]:
        """See `Gallery.enrol`."""
        checked_tenant(tenant)
        for one in enrolments:
            if one.key:
                checked_id(one.key, "key")
        async with self._writing:
            live = await self._spaces.live(now=True)
            if live is None:
                raise MienError(Errors.GALLERY_EMPTY, "No model version is live in the gallery.")
            enrolling = Enrolling(
                self._connection, self._templates, tenant, live, await self._spaces.all()
            )
            return await enrolling.enrol(enrolments)

    async def enrolled(self, tenant: str, given: Enrolment) -> Enrolled | None:
        """See `Gallery.enrolled`."""
        return await repeated(self._connection, checked_tenant(tenant), given)

    async def templates(self, tenant: str, subject_id: str) -> list[Template]:
        """See `Gallery.templates`."""
        checked_tenant(tenant)
        if not is_id(subject_id):
            return []
        latest: dict[tuple[str, str], Template] = {}
        for space in await self._spaces.all():
            rows = await self._connection.query(space.key, of_subject(tenant, subject_id), FIELDS)
            for row in sorted(rows, key=_sequence):
                latest[space.key, row["id"]] = template_of(space, row)
        return sorted(latest.values(), key=lambda one: one.sequence)

    async def delete_template(
        self, tenant: str, template_id: str, *, subject_id: str = ""
    ) -> DeletionReport:
        """See `Gallery.delete_template`."""
        del subject_id  # for the audit log alone
        checked_tenant(tenant)
        checked_id(template_id, "template_id")
        async with self._writing:
            return await deleting.delete_template(
                self._connection, await self._spaces.all(), tenant, template_id
            )

    async def search(
        self, tenant: str, space: Space, vectors: Vector, limit: int = 5
    ) -> list[list[Candidate]]:
        """See `Gallery.search`."""
        checked_tenant(tenant)
        count = checked_limit(limit, most=MOST_CANDIDATES)
        probes = checked_vectors(space, vectors)
        await self._spaces.known(space)
        return await search(self._connection, tenant, space, probes, count)

    async def searchable(self, tenant: str, space: Space) -> int:
        """See `Gallery.searchable`."""
        await self._spaces.known(space)
        where = f"tenant == {quoted(checked_tenant(tenant))} and searchable == true"
        return await self._connection.count(space.key, where)

    async def idempotency_keys(self, tenant: str, subject_id: str) -> list[str]:
        """See `Gallery.idempotency_keys`."""
        where = of_keys(checked_tenant(tenant), checked_id(subject_id, "subject_id"))
        rows = await self._connection.query(KEYS, where, ("pk",))
        return sorted(row["pk"].partition("/")[2] for row in rows)

    # Streams of rows.

    async def tenants(self) -> list[str]:
        """See `Gallery.tenants`."""
        found: list[str] = []
        while True:  # from the first subject of one tenant to behind its last: 0 follows the slash
            after = f"pk > {json.dumps(found[-1] + '0')}" if found else 'pk != ""'
            rows = await self._connection.in_order(SUBJECTS, after, ("tenant",), 1)
            if not rows:
                return sorted(found)
            found.append(rows[0]["tenant"])

    async def scan(
        self, space: Space, after: int = 0, limit: int = 1000, tenant: str | None = None
    ) -> list[Template]:
        """See `Gallery.scan`."""
        count = checked_limit(limit, most=MOST_SCANNED)
        await self._spaces.known(space)
        where = f"sequence > {int(after)}"
        if tenant is not None:
            where += f" and tenant == {quoted(checked_tenant(tenant))}"
        rows = await self._connection.in_order(space.key, where, FIELDS, count)
        return [template_of(space, row) for row in rows]

    async def write(
        self,
        space: Space,
        templates: Sequence[Template],
        *,
        derived_from: Space | None = None,
        job: Job | None = None,
    ) -> Written:
        """See `Gallery.write`. What another process deletes meanwhile is looked for afterwards."""
        check_space(space, (one.space for one in templates))
        async with self._writing:
            await self._spaces.known(space)
            wanted = [
                dataclasses.replace(one, vector=checked_template(one))
                for one in templates
                if checked_id(one.id, "template_id")
            ]
            if derived_from is not None:
                wanted = await self._still(wanted, await self._spaces.known(derived_from), space)
            subjects = await self._templates.subjects((o.tenant, o.subject_id) for o in wanted)
            if any((one.tenant, one.subject_id) not in subjects for one in wanted):
                raise MienError(
                    Errors.SUBJECT_UNKNOWN, "A template belongs to a subject that is not here."
                )
            await self._templates.check_owners(await self._spaces.all(), wanted)
            hidden = {key for key, one in subjects.items() if not one.consent}
            await self._templates.put(space, wanted, hidden)
            if derived_from is not None:
                wanted = await self._withdrawn(wanted, derived_from, space)
            if job is not None:
                await self._put_job(job)
        return Written(len(wanted), len(templates) - len(wanted))

    # Jobs.

    async def jobs(self) -> list[Job]:
        """See `Gallery.jobs`."""
        rows = await self._connection.query(JOBS, 'pk != ""', ("pk", "sealed", "updated"))
        found = [Job(row["pk"], json.loads(row["sealed"]), row["updated"]) for row in rows]
        return sorted(found, key=lambda one: one.name)

    async def job(self, name: str) -> Job | None:
        """See `Gallery.job`."""
        return next((job for job in await self.jobs() if job.name == name), None)

    async def put_job(self, job: Job) -> None:
        """See `Gallery.put_job`."""
        await self._put_job(job)

    async def delete_job(self, name: str) -> None:
        """See `Gallery.delete_job`."""
        await self._connection.delete(JOBS, f"pk == {quoted(checked_id(name, 'job'))}")

    async def close(self) -> None:
        """See `Gallery.close`."""
        await self._connection.close()
        if self._link is not None:
            await self._link.close()

    async def _put_job(self, job: Job) -> None:
        name = checked_id(job.name, "job")
        await self._connection.put(JOBS, [plain_row(name, dict(job.state))])

    async def _subject(self, tenant: str, subject_id: str) -> Subject | None:
        if not is_id(subject_id):
            return None
        return (await self._templates.subjects([(tenant, subject_id)])).get((tenant, subject_id))

    async def _stored(self, tenant: str, subject: Subject, before: Subject | None) -> Subject:
        created = subject.created if before is None else before.created
        row = subject_row(tenant, dataclasses.replace(subject, created=created))
        await self._connection.put(SUBJECTS, [row])
        if before is not None and before.consent != subject.consent:
            for space in await self._spaces.all():
                await self._templates.show(space, tenant, subject.id, shown=subject.consent)
        return subject_of(row)

    async def _still(
        self, templates: Sequence[Template], source: Space, target: Space
    ) -> list[Template]:
        """The derived templates that are still wanted."""
        keys: list[Key] = [(one.tenant, one.id) for one in templates]
        origins = await self._templates.held(source, keys)
        held = await self._templates.held(target, keys)

        def wanted(one: Template) -> bool:
            rows, there = origins.get((one.tenant, one.id)), held.get((one.tenant, one.id))
            if not rows or rows[0]["sequence"] != one.sequence:
                return False
            return not (one.map and there and there[0]["map"] == "")

        return [one for one in templates if wanted(one)]

    async def _withdrawn(
        self, templates: Sequence[Template], source: Space, target: Space
    ) -> list[Template]:
        """Takes back what lost its source while it was written; gives what stays."""
        keys: list[Key] = [(one.tenant, one.id) for one in templates]
        origins = await self._templates.held(source, keys)
        lost = [key for key in keys if key not in origins]
        rows = await self._templates.held(target, lost)
        await self._templates.forget(
            target, [row["sequence"] for some in rows.values() for row in some]
        )
        return [one for one in templates if (one.tenant, one.id) in origins]


def _sequence(row: Row) -> int:
    return int(row["sequence"])
