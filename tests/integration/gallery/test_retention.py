"""Retention: what is too old goes by itself, and never because of a clock that jumped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.audit.read import Filter, read
from services.audit.trail import Trail
from services.audit.verify import verify
from services.gallery import Enrolment, Gallery, Job, NewTemplate, Subject
from services.gallery.open import open_gallery
from services.retention import Retention
from services.retention.clock import Clock
from services.settings import RetentionSettings, Settings
from tests.integration.gallery.made import NEW, OLD, enrolment, face, stored

ACME, OTHER = "acme", "other"
DAY = 86_400.0
NOW = 2_000_000_000.0


@dataclass
class Hands:
    """Clocks that a test sets."""

    wall: float = NOW
    steady: float = 1000.0
    boot: str = "one"

    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.steady, lambda: self.boot)

    def go_on(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@dataclass
class House:
    gallery: Gallery
    trail: Trail
    hands: Hands

    def retention(self, **rules: object) -> Retention:
        settings = RetentionSettings.model_validate(rules)
        return Retention(self.gallery, settings, self.trail, self.hands.clock())

    async def ids(self, tenant: str = ACME) -> list[str]:
        return [one.id for one in (await self.gallery.subjects(tenant)).rows]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    settings = Settings(home=tmp_path)
    trail = Trail(settings)
    gallery = await open_gallery(settings, trail=trail)
    await gallery.create_collection(OLD)
    for tenant in (ACME, OTHER):
        for name, days in (("fresh", 1), ("old", 40), ("seen", 40), ("gone", 40)):
            at = NOW - days * DAY
            subject = Subject(name, consent=name != "gone", created=at, updated=at)
            await gallery.put_subject(tenant, subject)
    yield House(gallery, trail, Hands())
    await gallery.close()
    await trail.close()
    assert verify(trail.place.folder, trail.key()).holds


async def test_nothing_is_deleted_without_rules(house: House) -> None:
    retention = house.retention()
    await retention.run()
    house.hands.go_on(3600)
    run = await retention.run()
    assert (run.due, run.held) == ([], "")
    assert len(await house.ids()) == 4


async def test_old_subjects_go_and_those_with_a_newer_template_stay(house: House) -> None:
    template = NewTemplate(OLD, face(1), "t")  # made now, by the clock of the gallery
    await house.gallery.enrol(ACME, [Enrolment("seen", [template])])
    created = (await house.gallery.templates(ACME, "seen"))[0].created
    house.hands.wall = created + 20 * DAY
    for name in ("old", "seen", "gone", "fresh"):
        at = created - (1 if name == "fresh" else 40) * DAY
        await house.gallery.put_subject(ACME, Subject(name, updated=at, consent=name != "gone"))
    retention = house.retention(subject_days=30, tenants={OTHER: {"subject_days": 0}})
    assert {one.subject_id for one in (await retention.run(dry=True)).due} == {"old", "gone"}
    assert len(await house.ids()) == 4, "a dry run deletes nothing"
    assert "first run" in (await retention.run()).held
    house.hands.go_on(3600)
    run = await retention.run()
    assert all(one.verified for one in run.deleted)
    assert sorted(await house.ids()) == ["fresh", "seen"]
    assert len(await house.ids(OTHER)) == 4, "a tenant's own rules stand in place of the usual"
    told = list(read(house.trail.place.folder, Filter(ACME, "old")))
    assert [(one["action"], one["outcome"]) for one in told[-2:]] == [
        ("subject.delete", "begun"),
        ("subject.delete", "done"),
    ]
    assert told[-1]["who"] == "mien:retention"


async def test_those_who_withdrew_consent_go_after_their_time(house: House) -> None:
    retention = house.retention(withdrawn_days=30)
    await retention.run()
    house.hands.go_on(3600)
    await retention.run()
    assert sorted(await house.ids()) == ["fresh", "old", "seen"]


@pytest.mark.parametrize("days", [400.0, -400.0])
async def test_a_clock_that_jumped_deletes_nothing_until_it_is_right_again(
    house: House, days: float
) -> None:
    retention = house.retention(subject_days=30)
    await retention.run(accept_clock=True)
    assert await house.ids() == ["fresh"]
    house.hands.go_on(3600)
    house.hands.wall += days * DAY
    for _ in range(3):  # however often it looks
        run = await retention.run()
        assert "jumped" in run.held
        assert not run.deleted
        house.hands.go_on(3600)
    assert await house.ids() == ["fresh"]
    house.hands.wall -= days * DAY
    house.hands.go_on(40 * DAY)
    run = await retention.run()
    assert not run.held
    assert await house.ids() == []


async def test_an_operator_may_vouch_for_the_clock(house: House) -> None:
    retention = house.retention(subject_days=30)
    await retention.run()
    house.hands.wall += 400 * DAY
    assert (await retention.run()).held
    assert len((await retention.run(accept_clock=True)).deleted) == 4 * 2
    assert await house.ids() == []


async def test_a_machine_that_was_off_for_long_is_not_trusted_blindly(house: House) -> None:
    retention = house.retention(subject_days=30)
    await retention.run(accept_clock=True)
    house.hands.boot, house.hands.steady = "two", 5.0
    house.hands.wall += 2 * DAY
    assert not (await retention.run()).held, "two days off are nothing special"
    house.hands.boot = "three"
    house.hands.wall += 60 * DAY
    assert "60.0 days" in (await retention.run()).held
    assert await house.ids() == ["fresh"]


async def test_a_superseded_version_goes_when_no_migration_needs_it(house: House) -> None:
    gallery = house.gallery
    await gallery.enrol(ACME, [enrolment(1)])
    await gallery.create_collection(NEW)
    await gallery.write(NEW, [stored(1, NEW)])
    await gallery.switch(NEW)
    house.hands.wall = (await gallery.templates(ACME, "person-1"))[0].created + 20 * DAY
    retention = house.retention(superseded_days=30)
    assert (await retention.run(dry=True)).due == []
    house.hands.go_on(15 * DAY)
    await gallery.put_job(Job("migration:m", {"state": "caught_up"}))
    assert (await retention.run(dry=True)).due == [], "a migration is at work"
    await gallery.put_job(Job("migration:m", {"state": "switched"}))
    (due,) = (await retention.run(dry=True)).due
    assert (due.space, due.rule) == (OLD, "superseded_days")
    run = await retention.run(accept_clock=True)
    assert run.dropped == {OLD.reference: 1}
    assert [one.space for one in await gallery.collections()] == [NEW]
    assert [one.space for one in await gallery.templates(ACME, "person-1")] == [NEW]
