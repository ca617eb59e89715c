"""A gallery of the tiny map's source model, and migrations of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

from models.zoo import Zoo
from services.gallery import Enrolment, Gallery, NewTemplate, Space, Template
from services.gallery.open import open_gallery
from services.gallery.values import Vector
from services.local import local_mapping
from services.migration import Migrations, PlanOptions
from services.settings import Settings
from tests.integration.mapping.tiny_mapping import SOURCE, TARGET, add_map, units
from tests.tiny_networks import map_matrix

OLD = Space("old", "1", "a" * 64, "a" * 64, SOURCE)
NEW = Space("new", "1", "b" * 64, "b" * 64, TARGET)
TENANTS = ("north", "south")
MAP = "tiny-map@1"


def settings_of(home: Path, **migration: object) -> Settings:
    """Settings of a home with short times."""
    own = {"batch": 50, "lease_seconds": 2.0, "follow_seconds": 0.1, **migration}
    return Settings.model_validate(
        {"home": home, "migration": own, "engine": {"preference": "openvino", "threads": 1}}
    )


async def enrol(
    gallery: Gallery, count: int, space: Space = OLD, start: int = 0, seed: int = 1
) -> None:
    """Enrols subjects s0, s1, ... with a template t0, t1, ... each, in turn of the two tenants."""
    rows = units(count, space.dimension, seed)
    for tenant_number, tenant in enumerate(TENANTS):
        chosen = [number for number in range(count) if number % 2 == tenant_number]
        for block in range(0, len(chosen), 500):
            await gallery.enrol(
                tenant,
                [
                    Enrolment(
                        f"s{start + number}",
                        [NewTemplate(space, rows[number], f"t{start + number}", quality=70)],
                    )
                    for number in chosen[block : block + 500]
                ],
            )


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple[Gallery, Migrations]]:
    """The gallery of the settings and its migrations, with the maps of the home in this process."""
    maps = tuple(card.reference for card in Zoo(settings.home).maps())
    gallery = await open_gallery(settings)
    async with local_mapping(settings, maps) as mapping:
        migrations = Migrations(gallery, mapping, settings, Zoo(settings.home))
        try:
            yield gallery, migrations
        finally:
            await migrations.close()
            await gallery.close()


@contextlib.asynccontextmanager
async def migrating(
    home: Path, count: int, **migration: object
) -> AsyncIterator[tuple[Gallery, Migrations, str]]:
    """A gallery with so many templates, its migrations, and the id of one that is planned."""
    if not (home / "tiny-map.json").exists():
        add_map(home)
    async with opened(settings_of(home, **migration)) as (gallery, migrations):
        await gallery.create_collection(OLD)
        await enrol(gallery, count)
        plan = await migrations.plan(PlanOptions(MAP))
        yield gallery, migrations, plan.id


async def begun(migrations: Migrations, name: str) -> None:
    """Waits until a run has stored its first batch."""
    async with asyncio.timeout(30):
        while not (await migrations.get(name)).read:  # noqa: ASYNC110 - it is another's work
            await asyncio.sleep(0.02)


async def rows_of(gallery: Gallery, space: Space) -> dict[tuple[str, str], Template]:
    """All templates of a space, by tenant and id."""
    found: dict[tuple[str, str], Template] = {}
    after = 0
    while page := await gallery.scan(space, after):
        after = page[-1].sequence
        for one in page:
            assert (one.tenant, one.id) not in found, "a template is there twice"
            found[one.tenant, one.id] = one
    return found


async def check_mapped(gallery: Gallery) -> int:
    """Every native template of the source is in the target, mapped as by hand; returns how many."""
    old, new = await rows_of(gallery, OLD), await rows_of(gallery, NEW)
    native = {key: one for key, one in old.items() if not one.map}
    assert native.keys() == new.keys()
    wanted = mapped_by_hand(np.stack([one.vector for one in native.values()]))
    for (key, one), vector in zip(native.items(), wanted, strict=True):
        made = new[key]
        assert made.map == MAP
        assert (made.subject_id, made.quality, made.pictures) == (
            one.subject_id, one.quality, one.pictures,
        )  # fmt: skip
        np.testing.assert_allclose(made.vector, vector, atol=1e-5)
    return len(native)


def mapped_by_hand(vectors: Vector) -> Vector:
    """What the tiny map gives, computed without any engine: N x target dimension."""
    made = vectors @ map_matrix(SOURCE, TARGET)
    unit: Vector = made / np.linalg.norm(made, axis=1, keepdims=True)
    return unit
