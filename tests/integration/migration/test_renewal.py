"""Native templates in place of mapped ones, for subjects that are seen again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from services.gallery import Candidate, NewTemplate
from services.migration.renewal import Renewal
from services.settings import MigrationSettings
from tests.integration.mapping.tiny_mapping import units
from tests.integration.migration.migrating import MAP, NEW, OLD, migrating, rows_of

_MAPPED = Candidate("s4", "t4", 0.9, MAP, 0.8)


def test_only_a_sure_match_of_a_good_picture_with_a_mapped_template_is_renewed() -> None:
    renewal = Renewal(MigrationSettings(renew=True, renew_min_quality=60))
    assert renewal.is_due(_MAPPED, 60, 0.9)
    assert not renewal.is_due(_MAPPED, 59, 0.9)
    assert not renewal.is_due(_MAPPED, 60, 0.91)
    assert not renewal.is_due(Candidate("s4", "t4", 0.9), 60, 0.5)


def test_nothing_is_renewed_unless_it_is_chosen() -> None:
    assert not Renewal(MigrationSettings()).is_due(_MAPPED, 100, 0.1)


async def test_a_renewed_subject_is_found_by_the_native_template_and_by_a_rollback(
    tmp_path: Path,
) -> None:
    async with migrating(tmp_path, 40) as (gallery, migrations, name):
        await migrations.run(name)
        await migrations.switch(name)
        own = units(1, NEW.dimension, 5)[0]
        renewal = Renewal(MigrationSettings(renew=True))
        await renewal.renew(gallery, "north", "s4", NewTemplate(NEW, own, quality=80))
        ((best, *_),) = await gallery.search("north", NEW, own[None])
        assert (best.subject_id, best.map, best.quality) == ("s4", "", 80)
        mine = [one for one in (await rows_of(gallery, NEW)).values() if one.subject_id == "s4"]
        assert [one.map for one in mine] == [""]
        old = (await rows_of(gallery, OLD))["north", "t4"]
        await migrations.rollback(name)
        ((best, *_),) = await gallery.search("north", OLD, np.stack([old.vector]))
        assert best.subject_id == "s4"
