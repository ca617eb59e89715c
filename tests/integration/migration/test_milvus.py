"""The same migration where the gallery lies in Milvus."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.migration import PlanOptions, State
from tests.integration.mapping.tiny_mapping import add_map
from tests.integration.migration.migrating import (
    MAP,
    NEW,
    OLD,
    check_mapped,
    enrol,
    opened,
    settings_of,
)


@pytest.mark.slow
async def test_a_gallery_in_milvus_is_migrated_switched_and_rolled_back(tmp_path: Path) -> None:
    add_map(tmp_path)
    settings = settings_of(tmp_path)
    milvus = settings.gallery.model_copy(update={"uri": f"milvus-lite:{tmp_path / 'gallery.db'}"})
    async with opened(settings.model_copy(update={"gallery": milvus})) as (gallery, migrations):
        await gallery.create_collection(OLD)
        await enrol(gallery, 300)
        plan = await migrations.plan(PlanOptions(MAP))
        done = await migrations.run(plan.id)
        assert (done.state, done.written) == (State.CAUGHT_UP, 300)
        await enrol(gallery, 20, start=300, seed=4)
        assert (await migrations.switch(plan.id)).state is State.SWITCHED
        assert await gallery.live() == NEW
        assert await check_mapped(gallery) == 320
        assert (await migrations.rollback(plan.id)).state is State.ROLLED_BACK
        assert await gallery.live() == OLD
