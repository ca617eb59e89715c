"""What every gallery must do, asked of both."""

import asyncio
import dataclasses

import numpy as np
import pytest

from services.errors import Errors, MienError
from services.gallery import Candidate, Enrolment, Gallery, NewTemplate, Subject
from tests.integration.gallery.conftest import House
from tests.integration.gallery.made import NEW, OLD, enrolment, face, space_of

ACME, OTHER = "acme", "other"


async def enrol(gallery: Gallery, *numbers: int, tenant: str = ACME) -> None:
    await gallery.create_collection(OLD)
    await gallery.enrol(tenant, [enrolment(number) for number in numbers])


async def found(gallery: Gallery, number: int, tenant: str = ACME, limit: int = 5) -> list[str]:
    (candidates,) = await gallery.search(tenant, OLD, face(number, OLD, 7)[None], limit)
    return [one.subject_id for one in candidates]


def refused(error: Errors) -> pytest.RaisesExc[MienError]:
    return pytest.RaisesExc(MienError, check=lambda raised: raised.error is error)


async def test_an_enrolled_person_is_found_with_the_similarity_of_the_vectors(
    gallery: Gallery,
) -> None:
    await enrol(gallery, *range(20))
    probe = face(3, OLD, 7)
    (candidates,) = await gallery.search(ACME, OLD, probe[None], 4)
    assert len(candidates) == 4
    best = candidates[0]
    assert (best.subject_id, best.template_id, best.quality) == ("person-3", "t3-0", 50.0)
    assert best.similarity == pytest.approx(float(probe @ face(3)), abs=1e-5)
    assert [one.similarity for one in candidates] == sorted(
        (one.similarity for one in candidates), reverse=True
    )


async def test_several_probes_get_answers_of_their_own(gallery: Gallery) -> None:
    await enrol(gallery, *range(20))
    probes = np.stack([face(number, OLD, 7) for number in (5, 11, 2)])
    answers = await gallery.search(ACME, OLD, probes, 1)
    assert [row[0].subject_id for row in answers] == ["person-5", "person-11", "person-2"]


async def test_searches_that_come_at_once_each_get_their_own_answer(gallery: Gallery) -> None:
    await enrol(gallery, *range(20))
    answers = await asyncio.gather(*(found(gallery, number, limit=1) for number in range(20)))
    assert answers == [[f"person-{number}"] for number in range(20)]


async def test_a_subject_with_many_templates_takes_one_place_among_the_candidates(
    gallery: Gallery,
) -> None:
    await enrol(gallery, *range(3))
    views = [NewTemplate(OLD, face(0, OLD, view)) for view in range(1, 40)]
    await gallery.enrol(ACME, [Enrolment("person-0", views)])
    assert sorted(await found(gallery, 0, limit=3)) == ["person-0", "person-1", "person-2"]
    assert (await found(gallery, 0, limit=3))[0] == "person-0"


async def test_distance_is_told_as_a_negative_number_and_lengths_count(gallery: Gallery) -> None:
    space = space_of("lengths", metric="euclidean")
    await gallery.create_collection(space)
    for name, factor in (("near", 2.0), ("far", 6.0)):
        await gallery.enrol(ACME, [Enrolment(name, [NewTemplate(space, factor * face(1))])])
    (row,) = await gallery.search(ACME, space, face(1)[None], 2)
    assert [(one.subject_id, round(one.similarity, 3)) for one in row] == [
        ("near", -1.0),
        ("far", -5.0),
    ]


async def test_a_vector_that_cannot_be_compared_is_refused_and_nothing_is_kept(
    gallery: Gallery,
) -> None:
    await enrol(gallery, 1)
    spoilt = face(2).copy()
    spoilt[3] = np.nan
    for vector in (spoilt, face(2)[:-1], np.zeros(16, np.float32)):
        given = Enrolment("person-2", [NewTemplate(OLD, face(2)), NewTemplate(OLD, vector)])
        with refused(Errors.TEMPLATE_INVALID):
            await gallery.enrol(ACME, [given])
        with refused(Errors.TEMPLATE_INVALID):
            await gallery.search(ACME, OLD, vector[None])
    assert await gallery.subject(ACME, "person-2") is None
    assert await gallery.searchable(ACME, OLD) == 1


async def test_vectors_of_another_model_are_not_compared(gallery: Gallery) -> None:
    await enrol(gallery, 1)
    with refused(Errors.COLLECTION_UNKNOWN):
        await gallery.search(ACME, NEW, face(1)[None])
    with refused(Errors.IDENTITY_MISMATCH):
        await gallery.enrol(ACME, [enrolment(2, NEW)])
    await gallery.create_collection(NEW)
    with refused(Errors.IDENTITY_MISMATCH):
        await gallery.enrol(ACME, [enrolment(2, NEW)])
    assert await gallery.subject(ACME, "person-2") is None
    assert await gallery.searchable(ACME, NEW) == 0


async def test_an_empty_gallery_says_so(gallery: Gallery) -> None:
    assert await gallery.live() is None
    with refused(Errors.GALLERY_EMPTY):
        await gallery.enrol(ACME, [enrolment(1)])
    await gallery.create_collection(OLD)
    assert await gallery.search(ACME, OLD, face(1)[None]) == [[]]


async def test_tenants_do_not_see_each_other(gallery: Gallery) -> None:
    await enrol(gallery, 1, 2)
    await enrol(gallery, 3, tenant=OTHER)
    assert await found(gallery, 3) != ["person-3"]
    assert await found(gallery, 1, OTHER) == ["person-3"]
    assert await gallery.subject(OTHER, "person-1") is None
    assert await gallery.templates(OTHER, "person-1") == []
    with refused(Errors.SUBJECT_UNKNOWN):
        await gallery.delete_subject(OTHER, "person-1")
    with refused(Errors.TEMPLATE_UNKNOWN):
        await gallery.delete_template(OTHER, "t1-0")
    assert [row.id for row in (await gallery.subjects(OTHER)).rows] == ["person-3"]
    assert await gallery.tenants() == [ACME, OTHER]


async def test_the_same_ids_in_two_tenants_are_two_people(house: House) -> None:
    await enrol(house.gallery, 1)
    await enrol(house.gallery, 1, tenant=OTHER)
    await house.gallery.delete_subject(OTHER, "person-1")
    gallery = await house.reopen()
    assert await found(gallery, 1) == ["person-1"]
    assert await found(gallery, 1, OTHER) == []


async def test_a_deleted_subject_is_never_found_again(house: House) -> None:
    await enrol(house.gallery, *range(8))
    await house.gallery.create_collection(NEW)
    await house.gallery.enrol(
        ACME,
        [
            Enrolment(
                "person-2", [NewTemplate(OLD, face(2, OLD, 1)), NewTemplate(NEW, face(2, NEW))]
            )
        ],
    )
    report = await house.gallery.delete_subject(ACME, "person-2")
    assert report.verified
    assert (report.subjects, sum(report.templates.values())) == (1, 3)
    assert report.templates == {OLD.key: 2, NEW.key: 1}
    assert set(report.remaining) >= {"subjects", "templates", "keys", "jobs", "search"}
    async for gallery in house.now_and_reopened():
        assert "person-2" not in await found(gallery, 2, limit=8)
        assert await gallery.subject(ACME, "person-2") is None
        assert await gallery.templates(ACME, "person-2") == []
        assert await gallery.searchable(ACME, OLD) == 7
        assert all(one.subject_id != "person-2" for one in await gallery.scan(NEW))
    with refused(Errors.SUBJECT_UNKNOWN):
        await house.gallery.delete_subject(ACME, "person-2")


async def test_a_deleted_template_leaves_the_others(house: House) -> None:
    await enrol(house.gallery, 1, 2)
    await house.gallery.enrol(ACME, [enrolment(1, view=1)])
    report = await house.gallery.delete_template(ACME, "t1-0")
    assert report.verified
    assert report.templates == {OLD.key: 1}
    gallery = await house.reopen()
    assert [one.id for one in await gallery.templates(ACME, "person-1")] == ["t1-1"]
    with refused(Errors.TEMPLATE_UNKNOWN):
        await gallery.delete_template(ACME, "t1-0")


async def test_who_withdraws_consent_is_not_found_until_it_is_given_again(house: House) -> None:
    await enrol(house.gallery, 1, 2)
    before = await house.gallery.subject(ACME, "person-1")
    changed = await house.gallery.set_consent(ACME, "person-1", given=False)
    assert before is not None
    assert not changed.consent
    assert changed.created == before.created
    async for gallery in house.now_and_reopened():
        assert await found(gallery, 1) == ["person-2"]
        assert await gallery.searchable(ACME, OLD) == 1
        assert len(await gallery.templates(ACME, "person-1")) == 1
        with refused(Errors.CONSENT_WITHDRAWN):
            await gallery.enrol(ACME, [enrolment(1, view=1)])
    await house.gallery.set_consent(ACME, "person-1", given=True)
    async for gallery in house.now_and_reopened():
        assert (await found(gallery, 1))[0] == "person-1"
    with refused(Errors.SUBJECT_UNKNOWN):
        await gallery.set_consent(ACME, "nobody", given=False)
    assert await gallery.subject(ACME, "nobody") is None


async def test_an_enrolment_repeated_under_its_key_is_stored_once(house: House) -> None:
    await house.gallery.create_collection(OLD)
    given = Enrolment("ann", [NewTemplate(OLD, face(1))], key="k-1", fingerprint="f")
    (first,) = await house.gallery.enrol(ACME, [given])
    gallery = await house.reopen()
    again, twice = await gallery.enrol(ACME, [given, given])
    assert not first.repeated
    assert again.repeated
    assert twice.repeated
    assert first.template_ids == again.template_ids == twice.template_ids
    assert len(await gallery.templates(ACME, "ann")) == 1
    with refused(Errors.IDEMPOTENCY_KEY_REUSED):
        await gallery.enrol(ACME, [enrolment(9, key="k-1")])
    assert await gallery.subject(ACME, "person-9") is None
    await gallery.delete_subject(ACME, "ann")
    (fresh,) = await gallery.enrol(ACME, [given])
    assert not fresh.repeated


async def test_a_template_of_the_same_id_is_replaced(house: House) -> None:
    await enrol(house.gallery, 1, 2)
    changed = Enrolment("person-1", [NewTemplate(OLD, face(50), "t1-0", quality=80.0)])
    await house.gallery.enrol(ACME, [changed])
    async for gallery in house.now_and_reopened():
        (held,) = await gallery.templates(ACME, "person-1")
        assert np.allclose(held.vector, face(50), atol=1e-6)
        assert held.quality == 80.0
        (candidates,) = await gallery.search(ACME, OLD, face(50)[None], 1)
        assert candidates[0].similarity == pytest.approx(1.0, abs=1e-5)
        assert await gallery.searchable(ACME, OLD) == 2
    stolen = Enrolment("person-2", [NewTemplate(OLD, face(51), "t1-0")])
    with refused(Errors.INVALID_REQUEST):
        await house.gallery.enrol(ACME, [stolen])


async def test_a_bulk_enrolment_is_stored_whole_or_not_at_all(gallery: Gallery) -> None:
    await enrol(gallery, 1)
    with refused(Errors.TEMPLATE_INVALID):
        await gallery.enrol(
            ACME,
            [
                *(enrolment(number) for number in range(2, 9)),
                Enrolment("person-9", [NewTemplate(OLD, np.full(16, np.inf, np.float32))]),
            ],
        )
    assert [one.id for one in (await gallery.subjects(ACME)).rows] == ["person-1"]
    assert await gallery.searchable(ACME, OLD) == 1
    assert await found(gallery, 5) == ["person-1"]


async def test_names_and_metadata_come_back_as_they_were_given(house: House) -> None:
    ann = Subject("ann", "Ann Müller", {"door": "7", "note": "käfig"})
    stored = await house.gallery.put_subject(ACME, ann, new=True)
    assert stored.created > 0
    with refused(Errors.SUBJECT_EXISTS):
        await house.gallery.put_subject(ACME, ann, new=True)
    gallery = await house.reopen()
    kept = await gallery.subject(ACME, "ann")
    assert kept is not None
    assert (kept.name, dict(kept.metadata), kept.consent) == (ann.name, dict(ann.metadata), True)
    await gallery.put_subject(ACME, Subject("ann", "Ann", {}))
    renamed = await gallery.subject(ACME, "ann")
    assert renamed is not None
    assert (renamed.name, renamed.created) == ("Ann", stored.created)


async def test_many_subjects_are_stored_at_once_with_their_consent(house: House) -> None:
    await enrol(house.gallery, 1, 2)
    many = [Subject(f"person-{number}", "N", {}, number != 1, 5.0) for number in range(4)]
    await house.gallery.put_subjects(ACME, many)
    async for gallery in house.now_and_reopened():
        page = await gallery.subjects(ACME)
        assert [(one.id, one.consent) for one in page.rows] == [
            ("person-0", True),
            ("person-1", False),
            ("person-2", True),
            ("person-3", True),
        ]
        assert page.rows[0].created == 5.0
        assert page.rows[1].created > 5.0, "who was here before keeps the time of that"
        assert await found(gallery, 1) == ["person-2"]
    with refused(Errors.INVALID_REQUEST):
        await house.gallery.put_subjects(ACME, [Subject("fine"), Subject("not fine")])
    assert await house.gallery.subject(ACME, "fine") is None


async def test_paging_shows_each_that_stays_once_while_others_come_and_go(
    gallery: Gallery,
) -> None:
    stay = [f"s{number:03d}" for number in range(0, 40, 2)]
    for name in stay:
        await gallery.put_subject(ACME, Subject(name))
    await gallery.put_subject(ACME, Subject("s001"))
    seen: list[str] = []
    cursor = ""
    for step in range(100):
        page = await gallery.subjects(ACME, cursor, 7)
        seen += [one.id for one in page.rows]
        cursor = page.cursor
        if not cursor:
            break
        await gallery.put_subject(ACME, Subject(f"a{step}"))  # before what was seen
        await gallery.put_subject(ACME, Subject(f"s{step:03d}x"))
        if step == 0:
            await gallery.delete_subject(ACME, "s001")
    assert not cursor
    assert [name for name in seen if name in stay] == stay
    assert len(seen) == len(set(seen))
    with refused(Errors.INVALID_REQUEST):
        await gallery.subjects(ACME, "%%%")


@pytest.mark.parametrize("name", ["", "a b", 'x" or ""=="', "../up", "é", "a" * 129])
async def test_ids_that_could_be_taken_for_something_else_are_refused(
    gallery: Gallery, name: str
) -> None:
    await enrol(gallery, 1)
    with refused(Errors.INVALID_REQUEST):
        await gallery.put_subject(ACME, Subject(name))
    with refused(Errors.INVALID_REQUEST):
        await gallery.enrol(ACME, [Enrolment(name, [NewTemplate(OLD, face(1))])])
    with refused(Errors.INVALID_REQUEST):
        await gallery.subjects(name)
    if name:  # none means: make one
        with refused(Errors.INVALID_REQUEST):
            await gallery.enrol(ACME, [Enrolment("ann", [NewTemplate(OLD, face(1), name)])])
    assert await gallery.subject(ACME, name) is None
    assert await gallery.templates(ACME, name) == []


async def test_a_candidate_tells_nothing_of_a_template_that_is_gone(gallery: Gallery) -> None:
    await enrol(gallery, *range(30))

    async def ask() -> list[Candidate]:
        (row,) = await gallery.search(ACME, OLD, face(4)[None], 30)
        return row

    async def delete(number: int) -> str:
        return (await gallery.delete_subject(ACME, f"person-{number}")).subject_id

    gone: set[str] = set()
    for number in range(0, 30, 3):
        gone.add(await delete(number))
        rows = await asyncio.gather(*(ask() for _ in range(3)))
        assert not gone & {one.subject_id for row in rows for one in row}


async def test_the_keys_that_are_kept_for_a_subject_are_told(gallery: Gallery) -> None:
    await gallery.create_collection(OLD)
    for view, key in enumerate(("k-2", "k-1")):
        await gallery.enrol(ACME, [enrolment(1, view=view, key=key)])
    await gallery.enrol(ACME, [enrolment(2, key="k-3")])
    assert await gallery.idempotency_keys(ACME, "person-1") == ["k-1", "k-2"]
    assert await gallery.idempotency_keys("other", "person-1") == []
    await gallery.delete_subject(ACME, "person-1")
    assert await gallery.idempotency_keys(ACME, "person-1") == []


async def test_an_enrolment_is_found_by_its_key_without_its_templates(gallery: Gallery) -> None:
    await gallery.create_collection(OLD)
    wanted = enrolment(1, key="k-1")
    asked = dataclasses.replace(wanted, templates=[])
    assert await gallery.enrolled(ACME, asked) is None
    (first,) = await gallery.enrol(ACME, [wanted])
    assert await gallery.enrolled(ACME, asked) == dataclasses.replace(first, repeated=True)
    assert await gallery.enrolled(OTHER, asked) is None
    assert await gallery.enrolled(ACME, dataclasses.replace(asked, key="")) is None
    with refused(Errors.IDEMPOTENCY_KEY_REUSED):
        await gallery.enrolled(ACME, dataclasses.replace(asked, fingerprint="another"))
    await gallery.delete_subject(ACME, "person-1")
    assert await gallery.enrolled(ACME, asked) is None


async def test_the_edition_changes_with_the_collections_and_with_nothing_else(
    gallery: Gallery,
) -> None:
    editions = [await gallery.edition()]
    await gallery.create_collection(OLD)
    editions.append(await gallery.edition())
    await gallery.enrol(ACME, [enrolment(1)])
    assert await gallery.edition() == editions[-1]
    await gallery.create_collection(NEW)
    editions.append(await gallery.edition())
    await gallery.switch(NEW)
    editions.append(await gallery.edition())
    await gallery.drop_collection(OLD)
    editions.append(await gallery.edition())
    assert len(set(editions)) == len(editions)
