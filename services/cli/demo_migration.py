"""The end of `mien demo`: a gallery of made-up people moves to another model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.zoo import MapCard, Zoo
from services.cli.migrate import progress_of
from services.gallery import Enrolment, Gallery, NewTemplate, Space
from services.gallery.open import open_gallery, throwaway
from services.gallery.values import Vector
from services.gateway.mapping_client import MappingClient
from services.local import local_mapping
from services.migration import Migrations, PlanOptions, State
from services.migration.report import summary, write_report
from services.migration.spaces import native_identity
from services.settings import Settings

MAP = "sface-to-poseface"
"""A released map whose source model spreads faces all around, as random vectors are."""

FOLDER = "demo-migration"
_TENANT = "demo"
_PEOPLE, _VIEWS = 300, 3
_SPREAD = 0.6  # of a person's views around the person, whose own vector has spread 1

Say = Callable[[str], None]


@dataclass(frozen=True)
class _People:
    """Views of people as the source model would give them: (people, views, dimension), unit."""

    enrolled: Vector
    new: Vector


async def migrate_made_up_people(settings: Settings, say: Say) -> dict[str, Any]:
    """Plans, runs and switches a small migration, and looks for people by new views.

    The people are random vectors of the source model's identity, so no weights of that model are
    needed. The map was fitted to faces; its confidence tells that these are none.

    Args:
        settings: of map and engine; the gallery that they name is not touched.
        say: takes what is to be printed, line by line.

    Returns:
        What was done, for programs.

    Raises:
        ZooError, EngineError, MienError: the map cannot be loaded, or a step fails.
        OSError: the report cannot be written.
    """
    zoo = Zoo(settings.home)
    card = zoo.map(MAP)
    source = _source(card, zoo)
    people = _made_up(source.dimension)
    with tempfile.TemporaryDirectory(prefix="mien-demo-") as folder:
        gallery = await open_gallery(throwaway(settings, Path(folder)))
        try:
            async with local_mapping(settings, (MAP,)) as mapping:
                await _enrol(gallery, source, people.enrolled)
                migrations = Migrations(gallery, mapping, settings, zoo)
                plan = await migrations.plan(PlanOptions(MAP))
                pictures = write_report(plan, settings.home / FOLDER)
                for line in ("Migration of made-up people:", *summary(plan)):
                    say(line)
                with progress_of(await migrations.get(plan.id)) as told:
                    done = await migrations.run(plan.id, told=told)
                say(f"Run: {done.written:,} templates mapped and stored in {done.seconds:.1f} s.")
                record = await migrations.switch(plan.id)
                target = record.target.space()
                say(f"Switch: {target.reference} is live.")
                found = await _found(gallery, mapping, (source, target), people.new)
                say(
                    f"{found:.1%} of new views find their person first among {_PEOPLE}. "
                    "`mien migrate rollback` would make the old model live again."
                )
        finally:
            await gallery.close()
    say(f"Report as a picture: {pictures[-1]}")
    return {
        "map": plan.map,
        "verdict": plan.judgement.answer,
        "templates": done.written,
        "seconds": round(done.seconds, 2),
        "state": record.state.value,
        "switched": record.state is State.SWITCHED,
        "found_first": round(found, 4),
        "report": [str(one) for one in pictures],
    }


def _source(card: MapCard, zoo: Zoo) -> Space:
    end = card.source
    metric = zoo.embedder(end.reference).output.metric
    return Space(
        end.name, end.version, end.weights_sha256, end.preprocessing_sha256, end.dimension, metric
    )


def _made_up(dimension: int) -> _People:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((_PEOPLE, 1, dimension))
    views = centres + _SPREAD * rng.standard_normal((_PEOPLE, _VIEWS + 1, dimension))
    views /= np.linalg.norm(views, axis=2, keepdims=True)
    made: Vector = views.astype(np.float32)
    return _People(made[:, :_VIEWS], made[:, _VIEWS])


async def _enrol(gallery: Gallery, space: Space, views: Vector) -> None:
    await gallery.create_collection(space)
    enrolments = [
        Enrolment(_name(number), [NewTemplate(space, view) for view in own])
        for number, own in enumerate(views)
    ]
    await gallery.enrol(_TENANT, enrolments)


async def _found(
    gallery: Gallery, mapping: MappingClient, ends: tuple[Space, Space], views: Vector
) -> float:
    """Share of new views that find their person first; they are mapped like the gallery."""
    info = await mapping.map_info(MAP)
    probes = await mapping.map(views, native_identity(ends[0]), info)
    answers = await gallery.search(_TENANT, ends[1], probes.vectors, 1)
    right = [one[0].subject_id == _name(number) for number, one in enumerate(answers) if one]
    return sum(right) / len(views)


def _name(number: int) -> str:
    return f"person-{number}"
