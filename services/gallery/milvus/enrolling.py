"""Enrolment in Milvus, which has no transactions: all is checked first, the key is stored last.

An enrolment that was broken off is made whole by repeating it: under a key, or with ids given by
the caller, the same templates come out.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Sequence

from services.errors import Errors, MienError
from services.gallery.checks import checked_id, checked_subject, checked_template
from services.gallery.milvus.connection import Connection, Row, any_of, quoted
from services.gallery.milvus.tables import KEYS, SUBJECTS, plain_row, subject_row
from services.gallery.milvus.templates import Templates, of_subject
from services.gallery.values import Enrolled, Enrolment, NewTemplate, Space, Subject, Template


class Enrolling:
    """Stores enrolments of one call.

    Args:
        connection: to Milvus.
        templates: its rows of templates.
        tenant: whose.
        live: the live space.
        spaces: all spaces.
    """

    def __init__(
        self,
        connection: Connection,
        templates: Templates,
        tenant: str,
        live: Space,
        spaces: Sequence[Space],
    ) -> None:
        self._connection, self._templates = connection, templates
        self._tenant, self._live, self._spaces = tenant, live, spaces

    async def enrol(self, enrolments: Sequence[Enrolment]) -> list[Enrolled]:
        """See `Gallery.enrol`."""
        for given in enrolments:
            self._check(given)
        known = await _known(self._connection, self._tenant, enrolments)
        subjects = await self._templates.subjects((self._tenant, e.subject_id) for e in enrolments)
        answers: list[Enrolled] = []
        fresh: list[tuple[Enrolment, list[Template]]] = []
        people: dict[str, Subject] = {}
        for given in enrolments:
            before = _repeated(given, known.get(given.key)) if given.key else None
            if before is not None:
                answers.append(before)
                continue
            self._check_live(given)
            subject = people.get(given.subject_id, subjects.get((self._tenant, given.subject_id)))
            people[given.subject_id] = _changed(given, subject)
            made = [self._made(given, number, one) for number, one in enumerate(given.templates)]
            fresh.append((given, made))
            answers.append(Enrolled(given.subject_id, tuple(one.id for one in made)))
            if given.key:
                known[given.key] = self._key_row(given, made)
        await self._store(fresh, people, known)
        return answers

    async def _store(
        self,
        fresh: Sequence[tuple[Enrolment, list[Template]]],
        people: dict[str, Subject],
        known: dict[str, Row],
    ) -> None:
        everything = [one for _, made in fresh for one in made]
        await self._templates.check_owners(self._spaces, everything)
        await self._connection.put(
            SUBJECTS, [subject_row(self._tenant, one) for one in people.values()]
        )
        for given, made in fresh:
            if given.replace_mapped:
                for space in {one.space for one in made}:
                    where = of_subject(self._tenant, given.subject_id) + ' and map != ""'
                    await self._connection.delete(space.key, where)
        for space in {one.space for one in everything}:
            await self._templates.put(
                space, [one for one in everything if one.space == space], set()
            )
        keys = [known[given.key] for given, _ in fresh if given.key]
        await self._connection.put(KEYS, keys)

    def _check(self, given: Enrolment) -> None:
        checked_id(given.subject_id, "subject_id")
        for one in given.templates:
            if one.id:
                checked_id(one.id, "template_id")

    def _check_live(self, given: Enrolment) -> None:
        if all(one.space != self._live for one in given.templates):
            raise MienError(
                Errors.IDENTITY_MISMATCH,
                f"{self._live.reference} is live; an enrolment needs a template of it.",
                field="model",
            )
        for one in given.templates:
            if one.space not in self._spaces:
                raise MienError(
                    Errors.COLLECTION_UNKNOWN,
                    f"The gallery has no templates of {one.space.reference}.",
                )

    def _made(self, given: Enrolment, number: int, one: NewTemplate) -> Template:
        seed = f"{self._tenant}/{given.key}/{number}"
        name = str(uuid.uuid5(uuid.NAMESPACE_URL, seed)) if given.key else uuid.uuid4().hex
        return Template(
            tenant=self._tenant,
            subject_id=given.subject_id,
            id=one.id or name,
            space=one.space,
            vector=checked_template(one),
            quality=one.quality,
            pictures=one.pictures,
        )

    def _key_row(self, given: Enrolment, made: Sequence[Template]) -> Row:
        return plain_row(
            f"{self._tenant}/{given.key}",
            [one.id for one in made],
            tenant=self._tenant,
            subject_id=given.subject_id,
            fingerprint=given.fingerprint,
        )


async def repeated(connection: Connection, tenant: str, given: Enrolment) -> Enrolled | None:
    """See `Gallery.enrolled`.

    Raises:
        MienError: the key belongs to another enrolment.
    """
    known = await _known(connection, tenant, [given])
    return _repeated(given, known.get(given.key))


async def _known(
    connection: Connection, tenant: str, enrolments: Sequence[Enrolment]
) -> dict[str, Row]:
    names = [f"{tenant}/{given.key}" for given in enrolments if given.key]
    found = {}
    fields = ("pk", "subject_id", "fingerprint", "sealed")
    for where in any_of("pk", names):
        for row in await connection.query(KEYS, where, fields):
            found[row["pk"].partition("/")[2]] = row
    return found


def of_keys(tenant: str, subject_id: str) -> str:
    """The filter of a subject's idempotency keys."""
    return f"tenant == {quoted(tenant)} and subject_id == {quoted(subject_id)}"


def _changed(given: Enrolment, subject: Subject | None) -> Subject:
    """The subject as the enrolment leaves it."""
    if subject is None:
        return checked_subject(Subject(given.subject_id, given.name or "", given.metadata or {}))
    if not subject.consent:
        raise MienError(Errors.CONSENT_WITHDRAWN, "The subject has withdrawn consent.")
    changed = dataclasses.replace(
        subject,
        name=subject.name if given.name is None else given.name,
        metadata=subject.metadata if given.metadata is None else given.metadata,
    )
    if changed != subject:
        changed = dataclasses.replace(changed, updated=0.0)
    return checked_subject(changed)


def _repeated(given: Enrolment, row: Row | None) -> Enrolled | None:
    if row is None:
        return None
    if (row["subject_id"], row["fingerprint"]) != (given.subject_id, given.fingerprint):
        raise MienError(
            Errors.IDEMPOTENCY_KEY_REUSED,
            "The idempotency key was used for another enrolment.",
            field="key",
        )
    return Enrolled(given.subject_id, tuple(json.loads(row["sealed"])), repeated=True)
