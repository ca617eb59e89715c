"""Copying one gallery into another, from either kind to either kind."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from services.errors import Errors
from services.gallery import Gallery, Space
from services.gallery.copying import copy_gallery
from services.gallery.open import open_gallery
from services.settings import Settings
from tests.integration.gallery.made import NEW, OLD, face
from tests.integration.gallery.test_contract import ACME, OTHER, enrol, refused
from tests.integration.gallery.test_migration_contract import MAP, mapped

KINDS = ("sqlite", "milvus-lite")


async def contents(gallery: Gallery, space: Space) -> dict[tuple[str, str], tuple[object, ...]]:
    rows = await gallery.scan(space, 0, 1000)
    return {
        (one.tenant, one.id): (
            one.subject_id,
            one.map,
            one.confidence,
            one.quality,
            one.pictures,
            round(one.created, 3),
            np.round(one.vector, 5).tolist(),
        )
        for one in rows
    }


@pytest.mark.parametrize(
    ("old", "new"), [p for p in itertools.product(KINDS, KINDS) if len({*p}) > 1]
)
async def test_everything_comes_over_and_coming_twice_changes_nothing(
    tmp_path: Path, old: str, new: str
) -> None:
    settings = Settings(home=tmp_path)
    source = await open_gallery(settings, f"{old}:{tmp_path / 'source.db'}")
    target = await open_gallery(settings, f"{new}:{tmp_path / 'target.db'}")
    try:
        with refused(Errors.GALLERY_EMPTY):
            await copy_gallery(source, target)
        await enrol(source, *range(6))
        await enrol(source, 2, tenant=OTHER)
        await source.create_collection(NEW)
        rows = await source.scan(OLD, 0, 4)
        await source.write(NEW, [mapped(row) for row in rows], derived_from=OLD)
        await source.switch(NEW)
        await source.set_consent(ACME, "person-1", given=False)
        seen: list[int] = []
        for _ in range(2):
            copied = await copy_gallery(source, target, seen.append)
            assert (copied.tenants, copied.subjects, copied.spaces) == (2, 7, 2)
            assert copied.templates == 11
            assert await target.live() == NEW
            for space in (OLD, NEW):
                assert await contents(target, space) == await contents(source, space)
            assert await target.searchable(ACME, OLD) == 5
        assert sum(seen) == 22
        (row,) = await target.search(ACME, NEW, face(2, NEW)[None], 1)
        assert (row[0].subject_id, row[0].map) == ("person-2", MAP)
        await source.switch(OLD)
        with refused(Errors.IDENTITY_MISMATCH):
            await copy_gallery(source, target)
    finally:
        await source.close()
        await target.close()
