"""Shadow answers: live queries answered by the live model, and asked of the next one beside it.

What is kept is counts: no subject, no picture, no vector.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from services.errors import Errors, MienError
from services.gallery import Gallery, Job, Space
from services.migration.lease import now

PREFIX = "migration-shadow:"
_BINS = 40
EDGES = np.linspace(-0.5, 0.5, _BINS + 1)
_SAVE_SECONDS = 1.0


@dataclass(frozen=True)
class Shown:
    """One model's answer to a query.

    Attributes:
        subject: who it is, if the model is sure; None otherwise.
        lead: by which the first candidate exceeds its threshold; None without candidates.
    """

    subject: str | None
    lead: float | None


class Tally(BaseModel):
    """Answers of the live model beside those of the next.

    Attributes:
        looked: faces.
        same: both models know the same subject.
        other: they know different ones.
        lost: only the live model knows anybody.
        gained: only the next one does.
        neither: none does.
        live_leads: faces by 40 bins of `Shown.lead`, from -0.5 to 0.5, of the live model.
        next_leads: of the next.
    """

    model_config = ConfigDict(extra="forbid")

    looked: int = 0
    same: int = 0
    other: int = 0
    lost: int = 0
    gained: int = 0
    neither: int = 0
    live_leads: list[int] = [0] * _BINS
    next_leads: list[int] = [0] * _BINS

    @property
    def agreement(self) -> float | None:
        """Share of faces with the same answer; None before the first."""
        return (self.same + self.neither) / self.looked if self.looked else None

    def count(self, live: Shown, following: Shown) -> None:
        """Counts the two answers to one query."""
        self.looked += 1
        if live.subject is not None and following.subject is not None:
            self.same += live.subject == following.subject
            self.other += live.subject != following.subject
        else:
            self.lost += live.subject is not None
            self.gained += following.subject is not None
            self.neither += live.subject is None and following.subject is None
        for shown, bins in ((live, self.live_leads), (following, self.next_leads)):
            if shown.lead is not None:
                place = int(np.searchsorted(EDGES, shown.lead, side="right")) - 1
                bins[min(max(place, 0), _BINS - 1)] += 1

    def plus(self, more: Tally) -> Tally:
        """The sum of two tallies."""
        sums: dict[str, Any] = {}
        for name in Tally.model_fields:
            one, other = getattr(self, name), getattr(more, name)
            if isinstance(one, list):
                sums[name] = [a + b for a, b in zip(one, other, strict=True)]
            else:
                sums[name] = one + other
        return Tally(**sums)

    def shown(self) -> dict[str, Any]:
        """As programs are shown it."""
        return {**self.model_dump(), "agreement": self.agreement}


class Book:
    """One process's tally of one space; the gallery keeps it beside those of others.

    Args:
        space: that is looked at beside the live one.
    """

    def __init__(self, space: Space) -> None:
        self.tally = Tally()
        self._name = f"{PREFIX}{space.key}:{uuid.uuid4().hex}"
        self._saved = -float("inf")

    async def save(self, gallery: Gallery) -> None:
        """Stores the tally, but not more often than once a second."""
        if now() - self._saved >= _SAVE_SECONDS:
            self._saved = now()
            await gallery.put_job(Job(self._name, self.tally.model_dump()))


async def tally_of(gallery: Gallery, space: Space) -> Tally:
    """What all processes have seen of a space.

    Raises:
        MienError: GALLERY_UNAVAILABLE, where another version of Mien wrote it.
    """
    found = Tally()
    for job in await gallery.jobs():
        if job.name.startswith(f"{PREFIX}{space.key}:"):
            try:
                found = found.plus(Tally.model_validate(job.state))
            except ValidationError as error:
                raise MienError(
                    Errors.GALLERY_UNAVAILABLE, "A tally cannot be read by this version."
                ) from error
    return found


async def forget(gallery: Gallery, space: Space) -> None:
    """Forgets what was seen of a space."""
    for job in await gallery.jobs():
        if job.name.startswith(f"{PREFIX}{space.key}:"):
            await gallery.delete_job(job.name)


def tally_text(tally: Tally) -> str:
    """The tally as Markdown."""
    rows = {
        "same subject": tally.same,
        "different subjects": tally.other,
        "known to the live model only": tally.lost,
        "known to the next model only": tally.gained,
        "known to neither": tally.neither,
    }
    agreement = "unknown" if tally.agreement is None else f"{100 * tally.agreement:.1f} %"
    lines = [
        "# Live model and next model on the same queries",
        "",
        f"{tally.looked:,} faces; the same answer to {agreement} of them.",
        "",
        "| answers | faces |",
        "| --- | --- |",
        *(f"| {name} | {count:,} |" for name, count in rows.items()),
        "",
        "![Leads over the threshold](shadow.png)",
        "",
    ]
    return "\n".join(lines)


def write_tally(tally: Tally, folder: Path) -> None:
    """Writes shadow.json, shadow.md and shadow.png; the folder is made if it is missing.

    Raises:
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = json.dumps(tally.shown(), indent=2) + "\n"
    (folder / "shadow.json").write_text(told, encoding="utf-8")
    (folder / "shadow.md").write_text(tally_text(tally), encoding="utf-8")
    # Whoever writes no figures, as a gateway, does without matplotlib.
    from services.migration.figures import draw_tally  # noqa: PLC0415

    draw_tally(tally, folder / "shadow.png")
