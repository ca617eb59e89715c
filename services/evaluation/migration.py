"""People enrolled with one model, migrated, and identified from new photographs with the next.

The whole of it goes through the services: enrolment, plan, run, switch, identification. Then the
same people enrol anew with the next model, which is what nobody with a gallery can do, and the same
photographs are asked of that: the difference is what the map loses.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from models.evaluation.bootstrap import Interval, bootstrap_by_person
from models.evaluation.rates import FloatArray
from models.r3an.arrays import draw
from models.r3an.protocol import LIVE
from models.zoo import MapCard, Zoo
from services.errors import MienError
from services.evaluation.cross_model import Labelled
from services.evaluation.extract import Advance
from services.evaluation.pairs import PairsError
from services.gallery.open import throwaway
from services.gateway.core import PictureInput
from services.gateway.enrol_command import EnrolCommand
from services.gateway.enrolment import Outcome
from services.gateway.faces import FaceChoice, Selection, choose
from services.gateway.identification import IdentifyCommand
from services.gateway.search_decision import IdentityDecision
from services.local import LocalMien, local_mien
from services.migration import Migrations, PlanOptions
from services.settings import Settings

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")

_OLD, _ANEW = (
    "migrated",
    "native",
)  # tenants: who was migrated, and who enrolled with the next model
_CENTRAL = FaceChoice(Selection.CENTRAL)
_AT_ONCE = 4  # pictures at work


@dataclass(frozen=True)
class Photographs:
    """Who enrols with which photograph, and the new ones that they are identified by.

    Attributes:
        enrolled: (subject, path), one for each person.
        new: (subject, path) of further photographs of some of them.
    """

    enrolled: list[tuple[str, str]]
    new: list[tuple[str, str]]


@dataclass(frozen=True)
class _Seen:
    """The answer to one photograph: the first candidate, and whether it is known."""

    first: str
    known: bool


def photographs(labelled: Labelled, people: int) -> Photographs:
    """Each person enrols with the first photograph of the index.

    Args:
        labelled: photographs and who they show.
        people: most whose further photographs are asked about, drawn by their names; 0 for all.
            People with one photograph enrol besides, to be taken for.

    Raises:
        PairsError: nobody has two.
    """
    of: dict[str, list[str]] = {}
    for path, person in zip(labelled.paths, labelled.people, strict=True):
        of.setdefault(person, []).append(path)
    several = sorted(
        (name for name, paths in of.items() if len(paths) > 1),
        key=lambda name: draw(name, "migration"),
    )
    if not several:
        raise PairsError("Nobody has two photographs.")
    chosen = set(several[: people or None])
    left = {name: paths for name, paths in of.items() if name in chosen or len(paths) == 1}
    numbered = [(f"s{number}", paths) for number, paths in enumerate(left.values())]
    return Photographs(
        [(subject, paths[0]) for subject, paths in numbered],
        [(subject, path) for subject, paths in numbered for path in paths[1:]],
    )


async def evaluate_migration(
    settings: Settings, card: MapCard, images: Path, found: Photographs, advance: Advance
) -> dict[str, Any]:
    """Does it in a gallery of its own, and tells what the map loses.

    Args:
        settings: of services and decisions; the gallery that they name is not touched.
        card: of the map; both its ends must be here.
        images: folder of the photographs.
        found: who enrols, and is asked about.
        advance: told how many photographs more are done.

    Returns:
        Rank-1 and shares in percent, with intervals by person: the migrated gallery ("migrated"),
        enrolment anew with the target model ("native"), and the source model before the migration
        ("source").

    Raises:
        PairsError: no new photograph shows an enrolled person's face.
        ZooError, EngineError, MienError: a service cannot do its work.
        OSError: a photograph cannot be read.
    """
    ends = (card.source.reference, card.target.reference)
    with tempfile.TemporaryDirectory(prefix="mien-migration-") as folder:
        own = throwaway(settings, Path(folder)).model_copy(
            update={
                "enrolment": settings.enrolment.model_copy(update={"model": ends[0]}),
                # A renewed template would be a native one among the migrated.
                "migration": settings.migration.model_copy(update={"renew": False, "shadow": 0.0}),
            }
        )
        async with local_mien(own, ends, (card.reference,)) as mien:
            work = _Work(mien, images, advance)
            enrolled = await work.enrol(_OLD, found.enrolled)
            new = [one for one in found.new if one[0] in enrolled]
            source = await work.identify(_OLD, new)
            gallery = await mien.gallery.access.gallery()
            migrations = Migrations(gallery, mien.mapping, own, Zoo(own.home))
            plan = await migrations.plan(PlanOptions(card.reference))
            await migrations.run(plan.id)
            record = await migrations.switch(plan.id)
            migrated = await work.identify(_OLD, new)
            await work.enrol(_ANEW, found.enrolled)
            native = await work.identify(_ANEW, new)
    return {
        "map": card.reference,
        "source": ends[0],
        "target": ends[1],
        "enrolled": len(enrolled),
        "refused": len(found.enrolled) - len(enrolled),
        "migrated": record.written,
        "state": record.state.value,
        "plan": plan.judgement.answer,
        **_report(new, {"source": source, "migrated": migrated, "native": native}, card),
    }


class _Work:
    """Enrols and identifies, several photographs at once."""

    def __init__(self, mien: LocalMien, images: Path, advance: Advance) -> None:
        self._mien, self._images, self._advance = mien, images, advance

    async def enrol(self, tenant: str, people: Sequence[tuple[str, str]]) -> set[str]:
        """Those whose photograph was good enough."""

        async def one(person: tuple[str, str]) -> str | None:
            picture = PictureInput(await self._read(person[1]), _CENTRAL)
            command = EnrolCommand(person[0], (picture,), allow_duplicate=True)
            answer = await self._mien.gallery.enroller.enrol_row(tenant, command)
            return person[0] if answer.outcome is Outcome.ENROLLED else None

        return {name for name in await self._each(people, one) if name is not None}

    async def identify(
        self, tenant: str, photographs: Sequence[tuple[str, str]]
    ) -> list[_Seen | None]:
        """What is answered about the central face of each; None without one."""

        async def one(photograph: tuple[str, str]) -> _Seen | None:
            data = await self._read(photograph[1])
            command = IdentifyCommand(pictures=(data,))
            (picture,) = (await self._mien.gallery.identifier.identify(tenant, command)).pictures
            faces = [one.face.detection for one in picture.faces]
            place = choose(faces, _CENTRAL, picture.height, picture.width, "picture")
            if place is None:
                return None
            told = picture.faces[place].identification
            first = told.candidates[0].candidate.subject_id if told.candidates else ""
            return _Seen(first, told.decision is IdentityDecision.KNOWN)

        return await self._each(photographs, one)

    async def _read(self, path: str) -> bytes:
        return await asyncio.to_thread((self._images / path).read_bytes)

    async def _each(
        self, items: Sequence[_Item], work: Callable[[_Item], Awaitable[_Answer]]
    ) -> list[_Answer]:
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(item: _Item) -> _Answer:
            async with places:
                answer = await work(item)
            self._advance(1)
            return answer

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(item)) for item in items]
        except* (MienError, OSError) as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]


def _report(
    new: Sequence[tuple[str, str]], told: dict[str, list[_Seen | None]], card: MapCard
) -> dict[str, Any]:
    rows = [
        (subject, seen)
        for (subject, _), *seen in zip(new, *told.values(), strict=True)
        if all(one is not None for one in seen)
    ]
    if not rows:
        raise PairsError("No new photograph shows the face of somebody who could be enrolled.")
    people = [subject for subject, _ in rows]
    right = np.array([[one is not None and one.first == s for one in seen] for s, seen in rows])
    known = np.array([[one is not None and one.known for one in seen] for _, seen in rows])
    names = list(told)
    first, last = names.index("native"), names.index("migrated")
    loss = right[:, [first]].astype(np.float64) - right[:, [last]]
    spans = _shares(np.hstack([right, right & known, ~right & known, loss]), people)
    width = len(names)
    by_card = {
        name: next((m.value for m in card.metrics if m.name.startswith(f"rank1 {kind},")), None)
        for name, kind in (("native", "T|T"), ("migrated", LIVE))
    }
    native, migrated = by_card["native"], by_card["migrated"]
    lost = None if native is None or migrated is None else round(native - migrated, 4)
    return {
        "people": len(set(people)),
        "photographs": len(rows),
        "without_a_face": len(new) - len(rows),
        "rank1": dict(zip(names, spans[:width], strict=True)),
        "identified": dict(zip(names, spans[width : 2 * width], strict=True)),
        "misidentified": dict(zip(names, spans[2 * width : 3 * width], strict=True)),
        "rank1_loss": spans[-1],
        "card_rank1": by_card,
        "card_loss": lost,
        "inside_card": None if lost is None else spans[-1]["estimate"] <= lost,
    }


def _shares(values: FloatArray, people: Sequence[str]) -> list[dict[str, float]]:
    """Mean of each column in percent, with its 95 % interval by person."""

    def means(weights: FloatArray) -> FloatArray:
        made: FloatArray = 100 * (weights @ values) / weights.sum()
        return made

    return [_told(span) for span in bootstrap_by_person(means, people, people)]


def _told(span: Interval) -> dict[str, float]:
    return {name: round(asdict(span)[name], 4) for name in ("estimate", "low", "high")}
