"""Enrolment and bulk writes, inside one transaction each."""

from __future__ import annotations

import dataclasses
import json
import time
import uuid
from collections.abc import Sequence

from services.errors import Errors, MienError
from services.gallery.checks import checked_id, checked_subject, checked_template
from services.gallery.embedded.database import Connection
from services.gallery.embedded.rows import CollectionRow, Rows, TenantRow
from services.gallery.embedded.template_rows import Changes, TemplateRows
from services.gallery.values import (
    Enrolled,
    Enrolment,
    Job,
    NewTemplate,
    Space,
    Subject,
    Template,
    Written,
)


class Enrolling:
    """Stores templates.

    Args:
        rows: of subjects.
        templates: rows of templates.
        connection: in a transaction.
        changes: what search must follow.
    """

    def __init__(
        self, rows: Rows, templates: TemplateRows, connection: Connection, changes: Changes
    ) -> None:
        self._rows, self._templates = rows, templates
        self._connection, self._changes = connection, changes

    def enrol(self, tenant_name: str, enrolments: Sequence[Enrolment]) -> list[Enrolled]:
        """Stores enrolments; see `Gallery.enrol`."""
        tenant = self._rows.made_tenant(self._connection, tenant_name)
        live = self._rows.live(self._connection)
        if live is None:
            raise MienError(Errors.GALLERY_EMPTY, "No model version is live in the gallery yet.")
        return [self._enrol_one(tenant, live.space, one) for one in enrolments]

    def write(
        self, space: Space, templates: Sequence[Template], source: Space | None, job: Job | None
    ) -> Written:
        """Stores templates of existing subjects; see `Gallery.write`."""
        target = self._rows.collection(self._connection, space)
        origin = None if source is None else self._rows.collection(self._connection, source)
        written = 0
        for template in templates:
            tenant = self._rows.tenant(self._connection, template.tenant)
            if origin is not None and not self._still(tenant, origin, target, template):
                continue
            known = None
            if tenant is not None:
                known = self._rows.subject(self._connection, tenant, template.subject_id)
            if tenant is None or known is None:
                raise MienError(
                    Errors.SUBJECT_UNKNOWN, "A template belongs to a subject that is not here."
                )
            self._put(tenant, target, (known[0], known[1].consent), template)
            written += 1
        if job is not None:
            put_job(self._connection, job)
        return Written(written, len(templates) - written)

    def _still(
        self,
        tenant: TenantRow | None,
        origin: CollectionRow,
        target: CollectionRow,
        template: Template,
    ) -> bool:
        """Whether a derived template is still wanted."""
        if tenant is None:
            return False
        source = self._templates.held(self._connection, tenant, origin, template.id)
        if source is None or source[0] != template.sequence:
            return False
        held = self._templates.held(self._connection, tenant, target, template.id)
        return not (held is not None and held[1] == "" and template.map)

    def _enrol_one(self, tenant: TenantRow, live: Space, given: Enrolment) -> Enrolled:
        before = repeated(self._connection, tenant, given)
        if before is not None:
            return before
        if all(one.space != live for one in given.templates):
            raise MienError(
                Errors.IDENTITY_MISMATCH,
                f"{live.reference} is live; an enrolment needs a template of it.",
                field="model",
            )
        number = self._subject(tenant, given)
        ids = []
        for one in given.templates:
            collection = self._rows.collection(self._connection, one.space)
            if given.replace_mapped:
                self._templates.drop_mapped(
                    self._connection, tenant, collection, number, self._changes
                )
            ids.append(self._add(tenant, collection, number, given.subject_id, one))
        if given.key:
            self._connection.execute(
                "INSERT INTO idempotency VALUES (?, ?, ?, ?, ?)",
                (tenant.number, given.key, number, given.fingerprint, json.dumps(ids)),
            )
        return Enrolled(given.subject_id, tuple(ids))

    def _subject(self, tenant: TenantRow, given: Enrolment) -> int:
        known = self._rows.subject(self._connection, tenant, given.subject_id)
        if known is None:
            fresh = Subject(given.subject_id, given.name or "", given.metadata or {})
            return self._rows.put_subject(self._connection, tenant, checked_subject(fresh))
        number, subject = known
        if not subject.consent:
            raise MienError(Errors.CONSENT_WITHDRAWN, "The subject has withdrawn consent.")
        if given.name is not None or given.metadata is not None:
            changed = dataclasses.replace(
                subject,
                name=subject.name if given.name is None else given.name,
                metadata=subject.metadata if given.metadata is None else given.metadata,
                updated=0.0,
            )
            self._rows.put_subject(self._connection, tenant, checked_subject(changed))
        return number

    def _add(
        self,
        tenant: TenantRow,
        collection: CollectionRow,
        subject: int,
        subject_id: str,
        given: NewTemplate,
    ) -> str:
        template = Template(
            tenant=tenant.name,
            subject_id=subject_id,
            id=given.id or uuid.uuid4().hex,
            space=given.space,
            vector=given.vector,
            quality=given.quality,
            pictures=given.pictures,
        )
        self._put(tenant, collection, (subject, True), template)
        return template.id

    def _put(
        self,
        tenant: TenantRow,
        collection: CollectionRow,
        subject: tuple[int, bool],
        template: Template,
    ) -> None:
        checked_id(template.id, "template_id")
        ready = dataclasses.replace(template, vector=checked_template(template))
        owner = self._templates.owner(self._connection, tenant, template.id)
        if owner not in (None, subject[0]):
            raise MienError(
                Errors.INVALID_REQUEST,
                "The template's id belongs to another subject.",
                field="template_id",
            )
        self._templates.put(self._connection, tenant, collection, subject, ready, self._changes)


def repeated(connection: Connection, tenant: TenantRow, given: Enrolment) -> Enrolled | None:
    """What an enrolment under the same key has stored before; None where there is none.

    Raises:
        MienError: the key belongs to another enrolment.
    """
    if not given.key:
        return None
    row = connection.execute(
        "SELECT s.id, i.fingerprint, i.template_ids FROM idempotency i "
        "JOIN subjects s ON s.number = i.subject WHERE i.tenant = ? AND i.key = ?",
        (tenant.number, given.key),
    ).fetchone()
    if row is None:
        return None
    if (row[0], row[1]) != (given.subject_id, given.fingerprint):
        raise MienError(
            Errors.IDEMPOTENCY_KEY_REUSED,
            "The idempotency key was used for another enrolment.",
            field="key",
        )
    return Enrolled(given.subject_id, tuple(json.loads(row[2])), repeated=True)


def put_job(connection: Connection, job: Job) -> None:
    """Stores a job's state."""
    connection.execute(
        "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?)",
        (job.name, json.dumps(dict(job.state)), time.time()),
    )
