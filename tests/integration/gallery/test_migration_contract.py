"""What a migration needs of every gallery: streams, derived writes, the switch, job state."""

import dataclasses

import numpy as np
import pytest

from services.errors import Errors
from services.gallery import Enrolment, Gallery, Job, NewTemplate, Template
from tests.integration.gallery.conftest import House
from tests.integration.gallery.made import NEW, OLD, enrolment, face, stored
from tests.integration.gallery.test_contract import ACME, OTHER, enrol, found, refused

MAP = "old-to-new@1"


def mapped(source: Template) -> Template:
    """What a map would make of a template."""
    number = int(source.subject_id.rpartition("-")[2])
    return dataclasses.replace(
        source, space=NEW, vector=face(number, NEW), map=MAP, confidence=0.75
    )


async def stream(gallery: Gallery, after: int = 0, limit: int = 3) -> list[Template]:
    rows: list[Template] = []
    while some := await gallery.scan(OLD, after, limit):
        rows += some
        after = some[-1].sequence
    return rows


async def test_a_stream_gives_each_template_once_and_then_what_came_later(house: House) -> None:
    await enrol(house.gallery, *range(10))
    await enrol(house.gallery, 3, tenant=OTHER)
    rows = await stream(house.gallery)
    assert [one.sequence for one in rows] == sorted({one.sequence for one in rows})
    assert sorted((one.tenant, one.id) for one in rows) == sorted(
        [*((ACME, f"t{number}-0") for number in range(10)), (OTHER, "t3-0")]
    )
    assert all(np.allclose(one.vector, face(int(one.id[1:-2])), atol=1e-6) for one in rows)
    last = rows[-1].sequence
    gallery = await house.reopen()
    assert await gallery.scan(OLD, last) == []
    await gallery.enrol(ACME, [enrolment(20), enrolment(4)])  # one is new, one is replaced
    await gallery.delete_subject(ACME, "person-5")
    assert [one.id for one in await gallery.scan(OLD, last)] == ["t20-0", "t4-0"]
    assert [one.id for one in await gallery.scan(OLD, 0, 100, OTHER)] == ["t3-0"]


async def test_a_template_keeps_where_it_comes_from(house: House) -> None:
    await enrol(house.gallery, 1)
    await house.gallery.create_collection(NEW)
    (source,) = await house.gallery.scan(OLD)
    report = await house.gallery.write(NEW, [mapped(source)], derived_from=OLD)
    assert (report.written, report.skipped) == (1, 0)
    async for gallery in house.now_and_reopened():
        native, derived = await gallery.templates(ACME, "person-1")
        assert (native.space, native.map, native.confidence) == (OLD, "", 1.0)
        assert (derived.space, derived.map, derived.id) == (NEW, MAP, native.id)
        assert derived.confidence == pytest.approx(0.75)
        assert derived.created == pytest.approx(native.created, abs=1e-3)
        (row,) = await gallery.search(ACME, NEW, face(1, NEW)[None])
        assert [(one.subject_id, one.map) for one in row] == [("person-1", MAP)]
        assert row[0].confidence == pytest.approx(0.75)


async def test_mapping_a_batch_again_doubles_nothing(house: House) -> None:
    await enrol(house.gallery, *range(4))
    await house.gallery.create_collection(NEW)
    rows = await house.gallery.scan(OLD)
    for _ in range(2):
        await house.gallery.write(NEW, [mapped(row) for row in rows], derived_from=OLD)
    gallery = await house.reopen()
    assert await gallery.searchable(ACME, NEW) == 4
    new = next(one for one in await gallery.collections() if one.space == NEW)
    assert (new.templates, new.mapped, new.live) == (4, 4, False)


async def test_what_was_deleted_while_it_was_mapped_stays_deleted(house: House) -> None:
    await enrol(house.gallery, *range(4))
    await house.gallery.create_collection(NEW)
    rows = await house.gallery.scan(OLD)
    await house.gallery.delete_subject(ACME, "person-1")
    await house.gallery.delete_template(ACME, "t2-0")
    report = await house.gallery.write(NEW, [mapped(row) for row in rows], derived_from=OLD)
    assert (report.written, report.skipped) == (2, 2)
    gallery = await house.reopen()
    assert sorted(one.id for one in await gallery.scan(NEW)) == ["t0-0", "t3-0"]


async def test_what_was_replaced_while_it_was_mapped_is_left_for_later(gallery: Gallery) -> None:
    await enrol(gallery, 1)
    await gallery.create_collection(NEW)
    (row,) = await gallery.scan(OLD)
    await gallery.enrol(ACME, [Enrolment("person-1", [NewTemplate(OLD, face(9), "t1-0")])])
    report = await gallery.write(NEW, [mapped(row)], derived_from=OLD)
    assert report.skipped == 1
    assert await gallery.scan(NEW) == []


async def test_a_native_template_is_not_replaced_by_a_mapped_one(gallery: Gallery) -> None:
    await enrol(gallery, 1)
    await gallery.create_collection(NEW)
    (row,) = await gallery.scan(OLD)
    await gallery.switch(NEW)
    await gallery.enrol(ACME, [Enrolment("person-1", [NewTemplate(NEW, face(1, NEW), "t1-0")])])
    report = await gallery.write(NEW, [mapped(row)], derived_from=OLD)
    assert report.skipped == 1
    assert [one.map for one in await gallery.scan(NEW)] == [""]


async def test_native_templates_take_the_place_of_mapped_ones_when_a_person_is_seen_again(
    house: House,
) -> None:
    await enrol(house.gallery, 1, 2)
    await house.gallery.create_collection(NEW)
    rows = await house.gallery.scan(OLD)
    await house.gallery.write(NEW, [mapped(row) for row in rows], derived_from=OLD)
    await house.gallery.switch(NEW)
    seen = NewTemplate(NEW, face(1, NEW, 1), "fresh")
    await house.gallery.enrol(ACME, [Enrolment("person-1", [seen], replace_mapped=True)])
    async for gallery in house.now_and_reopened():
        held = {one.id: one.map for one in await gallery.scan(NEW)}
        assert held == {"fresh": "", "t2-0": MAP}
        assert await gallery.searchable(ACME, NEW) == 2
        assert len(await gallery.scan(OLD)) == 2


async def test_templates_of_who_withdrew_consent_are_mapped_but_not_found(house: House) -> None:
    await enrol(house.gallery, 1, 2)
    await house.gallery.create_collection(NEW)
    await house.gallery.set_consent(ACME, "person-1", given=False)
    rows = await house.gallery.scan(OLD)
    assert len(rows) == 2
    await house.gallery.write(NEW, [mapped(row) for row in rows], derived_from=OLD)
    async for gallery in house.now_and_reopened():
        (row,) = await gallery.search(ACME, NEW, face(1, NEW)[None])
        assert [one.subject_id for one in row] == ["person-2"]
    await house.gallery.set_consent(ACME, "person-1", given=True)
    (row,) = await house.gallery.search(ACME, NEW, face(1, NEW)[None], 1)
    assert [one.subject_id for one in row] == ["person-1"]


async def test_a_switch_is_refused_while_the_live_side_is_ahead_and_then_whole(
    house: House,
) -> None:
    await enrol(house.gallery, *range(4))
    await house.gallery.create_collection(NEW)
    rows = await house.gallery.scan(OLD)
    await house.gallery.write(NEW, [mapped(row) for row in rows], derived_from=OLD)
    await house.gallery.enrol(ACME, [enrolment(9)])
    with refused(Errors.MIGRATION_BEHIND):
        await house.gallery.switch(NEW, caught_up=rows[-1].sequence)
    assert await house.gallery.live() == OLD
    late = await house.gallery.scan(OLD, rows[-1].sequence)
    await house.gallery.write(NEW, [mapped(row) for row in late], derived_from=OLD)
    before = await house.gallery.switch(NEW, caught_up=late[-1].sequence)
    assert before == OLD
    async for gallery in house.now_and_reopened():
        assert await gallery.live() == NEW
        assert [one.space for one in await gallery.collections()] == [NEW, OLD]
        (row,) = await gallery.search(ACME, NEW, face(9, NEW)[None], 1)
        assert row[0].subject_id == "person-9"
        with refused(Errors.IDENTITY_MISMATCH):
            await gallery.enrol(ACME, [enrolment(11)])
    assert await house.gallery.switch(OLD) == NEW
    assert (await found(house.gallery, 9))[0] == "person-9"


async def test_an_enrolment_can_reach_both_sides(house: House) -> None:
    await enrol(house.gallery, 1)
    await house.gallery.create_collection(NEW)
    both = [NewTemplate(OLD, face(2), "both"), NewTemplate(NEW, face(2, NEW), "both")]
    await house.gallery.enrol(ACME, [Enrolment("person-2", both)])
    gallery = await house.reopen()
    for space in (OLD, NEW):
        (row,) = await gallery.search(ACME, space, face(2, space)[None], 1)
        assert row[0].subject_id == "person-2"
    report = await gallery.delete_subject(ACME, "person-2")
    assert report.templates == {OLD.key: 1, NEW.key: 1}


async def test_the_live_version_cannot_be_dropped_and_another_one_goes_whole(
    house: House,
) -> None:
    await enrol(house.gallery, 1, 2)
    await house.gallery.create_collection(NEW)
    rows = await house.gallery.scan(OLD)
    await house.gallery.write(NEW, [mapped(row) for row in rows], derived_from=OLD)
    with refused(Errors.COLLECTION_LIVE):
        await house.gallery.drop_collection(OLD)
    await house.gallery.switch(NEW)
    assert await house.gallery.drop_collection(OLD) == 2
    async for gallery in house.now_and_reopened():
        assert [one.space for one in await gallery.collections()] == [NEW]
        assert len(await gallery.templates(ACME, "person-1")) == 1
        for call in (gallery.scan(OLD), gallery.switch(OLD), gallery.drop_collection(OLD)):
            with refused(Errors.COLLECTION_UNKNOWN):
                await call


async def test_writes_need_the_subject_and_the_space_that_they_name(gallery: Gallery) -> None:
    await enrol(gallery, 1)
    await gallery.create_collection(NEW)
    with refused(Errors.SUBJECT_UNKNOWN):
        await gallery.write(NEW, [stored(8, NEW)])
    with refused(Errors.IDENTITY_MISMATCH):
        await gallery.write(NEW, [stored(1, OLD)])
    assert await gallery.scan(NEW) == []


async def test_a_job_is_stored_with_the_rows_that_it_wrote(house: House) -> None:
    await enrol(house.gallery, *range(3))
    await house.gallery.create_collection(NEW)
    rows = await house.gallery.scan(OLD)
    job = Job("migration", {"cursor": rows[-1].sequence, "written": 3, "phase": "run"})
    await house.gallery.write(NEW, [mapped(row) for row in rows], derived_from=OLD, job=job)
    async for gallery in house.now_and_reopened():
        kept = await gallery.job("migration")
        assert kept is not None
        assert kept.state == job.state
        assert kept.updated > 0
    await house.gallery.put_job(Job("migration", {"phase": "done"}))
    assert [one.state for one in await house.gallery.jobs()] == [{"phase": "done"}]
    await house.gallery.delete_job("migration")
    await house.gallery.delete_job("migration")
    assert await house.gallery.job("migration") is None
