"""The gallery's contract: what both adapters do, and all that the rest of Mien may ask of one.

Every call names its tenant, save those for operators, which see the gallery as a whole. Every
acknowledged write has reached the disk, and every later search sees it. All calls raise `MienError`
and nothing else that a caller would have to know:

=========================  =====================================================================
INVALID_REQUEST            a name, cursor or number is not valid; ``field`` says which
TEMPLATE_INVALID           a vector is not finite, has no direction, or its numbers are not valid
IDENTITY_MISMATCH          vectors of another identity than those they would be compared with
COLLECTION_UNKNOWN         no collection of that space
COLLECTION_LIVE            the live collection cannot be dropped
GALLERY_EMPTY              no collection is live yet
MIGRATION_BEHIND           the switch came too early: templates are newer than the cursor given
SUBJECT_UNKNOWN            no such subject
SUBJECT_EXISTS             there is such a subject already
TEMPLATE_UNKNOWN           no such template
CONSENT_WITHDRAWN          the subject has withdrawn consent, so nothing is enrolled
IDEMPOTENCY_KEY_REUSED     the key belongs to another enrolment
GALLERY_UNAVAILABLE        the store cannot be opened, is held by another process, or fails
=========================  =====================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.gallery.values import (
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


class Gallery(Protocol):
    """Subjects, their templates by space, and search."""

    # Spaces: for operators and for migration.

    async def collections(self) -> list[Collection]:
        """All collections, the live one first."""
        ...

    async def live(self) -> Space | None:
        """The space that is searched; None before the first collection is made. Costs nothing."""
        ...

    async def edition(self) -> str:
        """Changes with every collection that is made, dropped or switched to.

        What was read of `collections` holds while this stays. Changes by other processes are seen
        at once where Redis tells of them, and otherwise not here. Costs next to nothing.
        """
        ...

    async def create_collection(self, space: Space) -> None:
        """Makes room for a space's templates; the first space becomes live. Safe to repeat."""
        ...

    async def drop_collection(self, space: Space) -> int:
        """Deletes a collection that is not live; returns how many templates went with it."""
        ...

    async def switch(self, space: Space, *, caught_up: int | None = None) -> Space | None:
        """Makes a space live, in one step; a rollback is a switch to the earlier space.

        Args:
            space: to become live.
            caught_up: refuse if the live collection was written to after this sequence number.

        Returns:
            The space that was live before.
        """
        ...

    # Subjects.

    async def put_subject(self, tenant: str, subject: Subject, *, new: bool = False) -> Subject:
        """Stores a subject's name, metadata and consent, as they are given.

        Args:
            tenant: whose.
            subject: to store; an earlier ``created`` is kept.
            new: refuse if it exists.
        """
        ...

    async def put_subjects(self, tenant: str, subjects: Sequence[Subject]) -> None:
        """Stores many subjects as `put_subject` does, all or none."""
        ...

    async def subject(self, tenant: str, subject_id: str) -> Subject | None:
        """One subject, or None."""
        ...

    async def subjects(self, tenant: str, cursor: str = "", limit: int = 100) -> Page[Subject]:
        """Subjects by id. A subject that stays is seen once, whoever comes and goes meanwhile."""
        ...

    async def set_consent(self, tenant: str, subject_id: str, *, given: bool) -> Subject:
        """Withdraws consent or gives it again: templates leave search and come back."""
        ...

    async def delete_subject(self, tenant: str, subject_id: str) -> DeletionReport:
        """Deletes every trace of a subject in all spaces, and looks again."""
        ...

    # Templates.

    async def enrol(self, tenant: str, enrolments: Sequence[Enrolment]) -> list[Enrolled]:
        """Stores enrolments, all or none.

        Each must hold a template of the live space, or what is enrolled during a switch would
        never be found; the error is IDENTITY_MISMATCH, and embedding again with `live` mends it.
        """
        ...

    async def enrolled(self, tenant: str, given: Enrolment) -> Enrolled | None:
        """What an earlier enrolment has stored under this one's key; its templates do not matter.

        Returns:
            None where the key was not used yet.
        """
        ...

    async def templates(self, tenant: str, subject_id: str) -> list[Template]:
        """A subject's templates in all spaces, oldest first; empty for an unknown subject."""
        ...

    async def delete_template(
        self, tenant: str, template_id: str, *, subject_id: str = ""
    ) -> DeletionReport:
        """Deletes a template in all spaces, and looks again.

        Args:
            tenant: whose.
            template_id: which.
            subject_id: of the subject that it belongs to, for the audit log.
        """
        ...

    async def search(
        self, tenant: str, space: Space, vectors: Vector, limit: int = 5
    ) -> list[list[Candidate]]:
        """The subjects that resemble each probe most.

        Args:
            tenant: whose subjects.
            space: of the probes. It need not be live, so that a migration can be watched; a
                caller that means the live one compares with `live` first.
            vectors: N x dimension float32.
            limit: most subjects for each probe.

        Returns:
            For each probe at most ``limit`` candidates of different subjects, most similar first.
        """
        ...

    async def searchable(self, tenant: str, space: Space) -> int:
        """How many templates a search compares a probe with."""
        ...

    async def idempotency_keys(self, tenant: str, subject_id: str) -> list[str]:
        """The idempotency keys that are kept for a subject, in order."""
        ...

    # Streams of rows: for migration, copy and import.

    async def tenants(self) -> list[str]:
        """All tenants, by name."""
        ...

    async def scan(
        self, space: Space, after: int = 0, limit: int = 1000, tenant: str | None = None
    ) -> list[Template]:
        """Templates of a collection whose sequence number is above ``after``, in that order.

        New and replaced templates get higher numbers, so a reader that goes on from the last
        number it saw misses nothing; an empty answer means that it has caught up.

        Args:
            space: whose collection.
            after: sequence number that the last answer ended with.
            limit: most templates.
            tenant: only this one's.
        """
        ...

    async def write(
        self,
        space: Space,
        templates: Sequence[Template],
        *,
        derived_from: Space | None = None,
        job: Job | None = None,
    ) -> Written:
        """Stores templates of existing subjects, replacing those of the same tenant and id.

        Args:
            space: whose collection; the templates' own space must be the same.
            templates: at most a few thousand.
            derived_from: the space that they were mapped from. A template is then stored only if
                that collection still holds its id under its ``sequence`` (the number that `scan`
                gave), and no native template is replaced: what was deleted or enrolled anew
                meanwhile wins.
            job: state that is stored with the rows: in the same transaction where the store has
                transactions, after them where it has none.
        """
        ...

    # Jobs.

    async def jobs(self) -> list[Job]:
        """All jobs, by name."""
        ...

    async def job(self, name: str) -> Job | None:
        """One job, or None."""
        ...

    async def put_job(self, job: Job) -> None:
        """Stores a job's state."""
        ...

    async def delete_job(self, name: str) -> None:
        """Forgets a job; nothing happens where there is none."""
        ...

    async def close(self) -> None:
        """Lets running work finish and frees what is held."""
        ...
