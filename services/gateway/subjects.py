"""Subjects: create, list, show, delete, and consent. Templates come by enrolment."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from services.errors import Errors, MienError
from services.gallery import DeletionReport, Page, Space, Subject, Template
from services.gallery.checks import checked_id, checked_subject, checked_tenant
from services.gateway.gallery_access import GalleryAccess
from services.shared import Shared
from services.telemetry import get_logger

_log = get_logger(__name__)
_ID_DIGITS = 32
CACHE = "cache"
"""The place of a `DeletionReport` that is no store of the gallery's."""


@dataclass(frozen=True)
class CreateCommand:
    """A subject that is to be stored.

    Attributes:
        subject_id: the caller's; one is made if it is empty.
        name: what to call the person.
        metadata: further texts.
        key: idempotency key, or empty.
    """

    subject_id: str = ""
    name: str = field(default="", repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    key: str = ""


@dataclass(frozen=True)
class Created:
    """A stored subject; ``repeated`` where the key's subject was there already."""

    subject: Subject
    repeated: bool


@dataclass(frozen=True)
class SubjectTemplates:
    """A subject with its templates in all spaces, and the space that is live."""

    subject: Subject
    templates: list[Template]
    live: Space | None


class Subjects:
    """What is stored of people, without their faces.

    Args:
        access: the way to the gallery.
        shared: with other gateways.

    Attributes:
        forgets: by name of a place outside the gallery, what deletes a tenant's subject there and
            gives how much is left.
    """

    def __init__(self, access: GalleryAccess, shared: Shared) -> None:
        self._access, self._shared = access, shared
        self.forgets: dict[str, Callable[[str, str], int]] = {}

    async def create(self, tenant: str, command: CreateCommand) -> Created:
        """Stores a new subject.

        A repeated call with the same key finds the subject that the first one made: without an id
        of the caller's, the id is made of the key.

        Raises:
            MienError: a field is not valid, or there is such a subject already.
        """
        checked_tenant(tenant)
        if command.key:
            checked_id(command.key, "idempotency-key")
        subject_id = command.subject_id or _made_id(tenant, command.key)
        wanted = checked_subject(Subject(subject_id, command.name, dict(command.metadata)))
        gallery = await self._access.gallery()
        try:
            async with self._shared.locks.hold("subject", tenant, subject_id):
                return Created(await gallery.put_subject(tenant, wanted, new=True), repeated=False)
        except MienError as error:
            if error.error is not Errors.SUBJECT_EXISTS or not command.key:
                raise
            there = await gallery.subject(tenant, subject_id)
            if there is not None and _same(there, wanted):
                return Created(there, repeated=True)
            if there is not None and not command.subject_id:
                raise MienError(
                    Errors.IDEMPOTENCY_KEY_REUSED,
                    "The idempotency key was used for another subject.",
                    field="idempotency-key",
                ) from error
            raise

    async def page(self, tenant: str, cursor: str, limit: int) -> Page[Subject]:
        """Subjects by id.

        Raises:
            MienError: cursor or limit are not valid.
        """
        gallery = await self._access.gallery()
        return await gallery.subjects(tenant, cursor, limit)

    async def get(self, tenant: str, subject_id: str) -> SubjectTemplates:
        """One subject with its templates.

        Raises:
            MienError: there is no such subject.
        """
        gallery = await self._access.gallery()
        found = await known_subject(self._access, tenant, subject_id)
        templates = await gallery.templates(tenant, subject_id)
        return SubjectTemplates(found, templates, await gallery.live())

    async def set_consent(self, tenant: str, subject_id: str, *, given: bool) -> Subject:
        """Withdraws consent or gives it again.

        Raises:
            MienError: there is no such subject.
        """
        gallery = await self._access.gallery()
        changed = await gallery.set_consent(
            tenant, checked_id(subject_id, "subject_id"), given=given
        )
        if not given:
            self._forget(tenant, subject_id)
        return changed

    async def delete(self, tenant: str, subject_id: str) -> DeletionReport:
        """Deletes every trace of a subject, in the gallery and wherever else something is held.

        Raises:
            MienError: there is no such subject.
        """
        gallery = await self._access.gallery()
        report = await gallery.delete_subject(tenant, checked_id(subject_id, "subject_id"))
        left = self._forget(tenant, subject_id)
        report = replace(report, remaining={**report.remaining, **left})
        return await self._without_cache(tenant, report)

    def _forget(self, tenant: str, subject_id: str) -> dict[str, int]:
        return {place: forget(tenant, subject_id) for place, forget in self.forgets.items()}

    async def delete_template(
        self, tenant: str, subject_id: str, template_id: str
    ) -> DeletionReport:
        """Deletes one of a subject's templates in all spaces.

        Raises:
            MienError: there is no such subject, or the template is not the subject's.
        """
        gallery = await self._access.gallery()
        await known_subject(self._access, tenant, subject_id)
        templates = await gallery.templates(tenant, subject_id)
        if all(one.id != template_id for one in templates):
            raise MienError(Errors.TEMPLATE_UNKNOWN, "The subject has no such template.")
        return await self._without_cache(
            tenant, await gallery.delete_template(tenant, template_id, subject_id=subject_id)
        )

    async def _without_cache(self, tenant: str, report: DeletionReport) -> DeletionReport:
        """Drops what is kept of a tenant's pictures: nobody can tell which show the subject."""
        if self._shared.faces.is_on:
            left = await self._shared.faces.forget(tenant)
            report = replace(report, remaining={**report.remaining, CACHE: left})
        return _looked_at(report)


async def known_subject(access: GalleryAccess, tenant: str, subject_id: str) -> Subject:
    """A subject that exists.

    Raises:
        MienError: it does not.
    """
    gallery = await access.gallery()
    found = await gallery.subject(tenant, checked_id(subject_id, "subject_id"))
    if found is None:
        raise MienError(Errors.SUBJECT_UNKNOWN, "There is no such subject.", field="subject_id")
    return found


def _made_id(tenant: str, key: str) -> str:
    if not key:
        return uuid.uuid4().hex
    return hashlib.sha256(f"{tenant}\n{key}".encode()).hexdigest()[:_ID_DIGITS]


def _same(there: Subject, wanted: Subject) -> bool:
    return (there.name, dict(there.metadata)) == (wanted.name, dict(wanted.metadata))


def _looked_at(report: DeletionReport) -> DeletionReport:
    if not report.verified:
        _log.error("a deletion left something behind", places=sorted(report.remaining))
    return report
