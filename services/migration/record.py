"""What is known of a migration, kept as a job of the gallery. It holds no personal data."""

from __future__ import annotations

import re
from dataclasses import asdict
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from services.errors import Errors, MienError
from services.gallery import Gallery, Job, Space

PREFIX = "migration:"
_ID = re.compile(r"[0-9A-Za-z._-]{1,160}")


class State(StrEnum):
    """Where a migration stands."""

    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    CAUGHT_UP = "caught_up"
    SWITCHED = "switched"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"


class SpaceRecord(BaseModel):
    """A `Space` as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    version: str
    weights_sha256: str
    preprocessing_sha256: str
    dimension: int
    metric: str

    @classmethod
    def of(cls, space: Space) -> SpaceRecord:
        """Of a space."""
        return cls(**asdict(space))

    def space(self) -> Space:
        """The space."""
        return Space(**self.model_dump())


class Failure(BaseModel):
    """Why a run ended: an error's code and its sentence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str
    detail: str


class Record(BaseModel):
    """One migration. Only the holder of its lease writes it.

    Attributes:
        id: names it; made of the two spaces and the map.
        state: where it stands.
        source: space that it reads.
        target: space that it fills.
        map: "name@version".
        map_sha256: of the map's weights; another file under the same name is refused.
        weak_below: templates with a confidence below are weak.
        cursor: sequence number of the source that everything up to has been dealt with.
        total: templates of the source when the run was last started.
        read: templates read.
        written: of these, mapped and stored.
        skipped: deleted, replaced or enrolled natively before they could be stored.
        second_hand: left out because they are mapped already; nothing is mapped twice.
        weak: stored with little confidence.
        confidence_sum: of all that were stored, for their mean.
        reached_end: whether it has caught up once.
        rate: templates per second lately; 0 before there was one.
        seconds: time at work.
        failure: of the last run, where it failed.
        switched_after: sequence number of the target at the switch; what is native above it was
            enrolled since. None before.
        back: sequence number up to which such templates have been carried back by a rollback.
        carried_back: how many.
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    state: State = State.PLANNED
    source: SpaceRecord
    target: SpaceRecord
    map: str
    map_sha256: str
    weak_below: float = -1.0
    cursor: int = 0
    total: int = 0
    read: int = 0
    written: int = 0
    skipped: int = 0
    second_hand: int = 0
    weak: int = 0
    confidence_sum: float = 0.0
    reached_end: bool = False
    rate: float = 0.0
    seconds: float = 0.0
    failure: Failure | None = None
    switched_after: int | None = None
    back: int | None = None
    carried_back: int = 0

    @property
    def remaining(self) -> int:
        """Templates that are probably still to be read."""
        return 0 if self.state is State.CAUGHT_UP else max(0, self.total - self.read)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds that this will probably take; None while nobody can tell."""
        if self.remaining == 0:
            return 0.0
        return self.remaining / self.rate if self.rate > 0 else None

    @property
    def mean_confidence(self) -> float | None:
        """Of what was stored; None before."""
        return self.confidence_sum / self.written if self.written else None

    def job(self) -> Job:
        """As the gallery keeps it."""
        return Job(PREFIX + self.id, self.model_dump(mode="json"))

    def shown(self) -> dict[str, Any]:
        """As programs are shown it: the record and what follows from it."""
        return {
            **self.model_dump(mode="json"),
            "remaining": self.remaining,
            "eta_seconds": self.eta_seconds,
            "mean_confidence": self.mean_confidence,
        }


def migration_id(source: Space, target: Space, map_name: str) -> str:
    """The name of a migration: planned twice, it is still one."""
    of_map = re.sub(r"[^0-9A-Za-z.-]", "-", map_name)
    return f"{of_map}.{source.key[-6:]}{target.key[-6:]}"


async def load(gallery: Gallery, name: str) -> Record:
    """A migration by its id.

    Raises:
        MienError: MIGRATION_UNKNOWN.
    """
    found = await known(gallery, name)
    if found is None:
        raise MienError(
            Errors.MIGRATION_UNKNOWN, "No migration of that id has been planned.", field="id"
        )
    return found


async def known(gallery: Gallery, name: str) -> Record | None:
    """A migration by its id, or None."""
    if not _ID.fullmatch(name):
        return None
    job = await gallery.job(PREFIX + name)
    return None if job is None else await _settled(gallery, job)


async def every(gallery: Gallery) -> list[Record]:
    """All migrations, by id."""
    jobs = [job for job in await gallery.jobs() if job.name.startswith(PREFIX)]
    return [await _settled(gallery, job) for job in jobs]


async def _settled(gallery: Gallery, job: Job) -> Record:
    """A job as a record; what the gallery has done wins over what a killed process wrote last.

    Raises:
        MienError: GALLERY_UNAVAILABLE, where another version of Mien wrote the job.
    """
    try:
        record = Record.model_validate(job.state)
    except ValidationError as error:
        raise MienError(
            Errors.GALLERY_UNAVAILABLE, "A migration's state cannot be read by this version."
        ) from error
    live = await gallery.live()
    if record.switched_after is not None:
        if live == record.target.space():
            record.state = State.SWITCHED
        elif record.state is State.SWITCHED and live == record.source.space():
            record.state = State.ROLLED_BACK
    return record
