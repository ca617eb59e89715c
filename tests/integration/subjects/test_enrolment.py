"""Enrolment over REST: what becomes a template, what is refused, and that nothing is half-done."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from services.gateway.rest.gallery_schemas import EnrolOut
from tests.integration.pictures import faceless
from tests.integration.rest import base64_of, problem
from tests.integration.subjects.people import (
    DIMENSION,
    Identity,
    Vector,
    axis,
    enrol_vectors,
    enrolled,
    given,
    identified,
    like,
    pictures,
)


def enrol(api: httpx.Client, subject: str, *files: bytes, **fields: Any) -> httpx.Response:
    return api.post(f"/v1/subjects/{subject}/templates", files=pictures(*files), data=fields)


def stored(api: httpx.Client, subject: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"/v1/subjects/{subject}").json()["templates"]
    return found


def test_several_pictures_become_one_template(
    api: httpx.Client, identity: Identity, obama: bytes, obama2: bytes
) -> None:
    response = enrol(api, "s", obama, obama2, name="Barack", metadata='{"door": "north"}')
    assert response.status_code == 201, response.text
    answer = EnrolOut.model_validate(response.json())
    assert (answer.outcome, answer.subject_id) == ("enrolled", "s")
    assert [(one.used, one.reasons) for one in answer.pictures] == [(True, [])] * 2
    assert answer.model.model_dump() == {**identity, "map": None}
    (template,) = stored(api, "s")
    assert [template["id"]] == answer.template_ids
    assert (template["pictures"], template["confidence"], template["live"]) == (2, 1.0, True)
    qualities = [one.chosen.face.quality.unified for one in answer.pictures if one.chosen.face]
    assert template["quality"] == pytest.approx(max(qualities), abs=0.1)
    subject = api.get("/v1/subjects/s").json()["subject"]
    assert (subject["name"], subject["metadata"]) == ("Barack", {"door": "north"})


def test_json_enrols_as_multipart_does(api: httpx.Client, obama: bytes) -> None:
    enrol(api, "form", obama)
    body = {"pictures": [base64_of(obama)], "allow_duplicate": True}
    assert api.post("/v1/subjects/json/templates", json=body).status_code == 201
    found = api.post("/v1/identify", files=pictures(obama)).json()["pictures"][0]["faces"][0]
    similarities = {one["subject_id"]: one["similarity"] for one in found["candidates"]}
    assert similarities["json"] == pytest.approx(similarities["form"], abs=1e-5)
    assert similarities["json"] > 0.99


def test_one_poor_picture_refuses_them_all(api: httpx.Client, obama: bytes, both: bytes) -> None:
    response = enrol(api, "s", obama, faceless(), both)
    assert response.status_code == 200
    answer = response.json()
    assert (answer["outcome"], answer["template_ids"]) == ("refused", [])
    reasons = [one["reasons"] for one in answer["pictures"]]
    assert reasons == [[], ["no_face"], ["several_faces"]]
    assert not any(one["used"] for one in answer["pictures"])
    problem(api.get("/v1/subjects/s"), "subject_unknown")


def test_poor_pictures_can_be_left_out(api: httpx.Client, obama: bytes) -> None:
    answer = enrol(api, "s", faceless(), obama, poor="leave_out").json()
    assert answer["outcome"] == "enrolled"
    assert [one["used"] for one in answer["pictures"]] == [False, True]
    (template,) = stored(api, "s")
    assert template["pictures"] == 1
    answer = enrol(api, "t", faceless(), faceless(), poor="leave_out").json()
    assert answer["outcome"] == "refused"
    problem(api.get("/v1/subjects/t"), "subject_unknown")


def test_the_face_can_be_chosen(api: httpx.Client, both: bytes, biden: bytes) -> None:
    assert enrol(api, "s", both, face="index", face_index="1").json()["outcome"] == "enrolled"
    probe = api.post("/v1/subjects/s/verify", files=pictures(biden)).json()
    assert probe["decision"] == "same"
    told = problem(enrol(api, "s", both, face="index", face_index="2"), "face_index_out_of_range")
    assert (told["field"], told["face_count"]) == ("picture", 2)


def test_a_face_is_not_enrolled_for_two(
    api: httpx.Client, obama: bytes, obama2: bytes, biden: bytes
) -> None:
    enrol(api, "first", obama)
    told = problem(enrol(api, "second", obama2), "duplicate_subject")
    assert told["subject_id"] == "first"
    assert "first" not in told["detail"]
    problem(api.get("/v1/subjects/second"), "subject_unknown")
    assert enrol(api, "first", obama2).status_code == 201
    assert enrol(api, "second", biden).status_code == 201
    assert enrol(api, "third", obama2, allow_duplicate="true").status_code == 201
    assert len(api.get("/v1/subjects").json()["subjects"]) == 3


def test_another_tenants_face_is_no_duplicate(api: httpx.Client, obama: bytes) -> None:
    enrol(api, "first", obama)
    api.headers["x-mien-tenant"] = f"{api.headers['x-mien-tenant']}-2"
    assert enrol(api, "second", obama).status_code == 201


def test_an_enrolment_is_repeated_safely_under_its_key(api: httpx.Client, obama: bytes) -> None:
    api.headers["idempotency-key"] = "k-1"
    first, again = enrol(api, "s", obama), enrol(api, "s", obama)
    assert (first.status_code, again.status_code) == (201, 200)
    assert (first.json()["outcome"], again.json()["outcome"]) == ("enrolled", "repeated")
    assert again.json()["template_ids"] == first.json()["template_ids"]
    assert len(stored(api, "s")) == 1


def test_a_key_belongs_to_one_enrolment(light_api: httpx.Client, light_identity: Identity) -> None:
    light_api.headers["idempotency-key"] = "k-1"
    enrol_vectors(light_api, "s", [axis(1)], light_identity)
    for subject, vector, fields in (
        ("s", axis(2), {}),
        ("t", axis(1), {"allow_duplicate": True}),
        ("s", axis(1), {"name": "Ada"}),
    ):
        response = enrol_vectors(light_api, subject, [vector], light_identity, **fields)
        problem(response, "idempotency_key_reused")
    assert len(stored(light_api, "s")) == 1
    light_api.headers["idempotency-key"] = "has space"
    response = enrol_vectors(light_api, "s", [axis(1)], light_identity)
    assert problem(response, "invalid_request")["field"] == "idempotency-key"


def test_vectors_are_taken_as_numbers_and_as_base64(
    light_api: httpx.Client, light_identity: Identity
) -> None:
    vector = like((0.6, 1), (0.5, 2))
    body = {
        "vectors": [
            {"model": light_identity, "values": [float(v) for v in vector], "quality": 71.5},
            given(vector, light_identity, pictures=3),
        ]
    }
    answer = light_api.post("/v1/subjects/s/templates", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["pictures"] == []
    templates = stored(light_api, "s")
    assert [(one["quality"], one["pictures"]) for one in templates] == [(71.5, 1), (0.0, 3)]
    for one in answer.json()["template_ids"]:
        light_api.delete(f"/v1/subjects/s/templates/{one}")
        left = identified(light_api, vector, light_identity)["candidates"]
        assert all(candidate["similarity"] > 0.9999 for candidate in left)


@pytest.mark.parametrize(
    "other",
    [
        {"name": "sface"},
        {"version": "9"},
        {"weights_sha256": "0" * 64},
        {"preprocessing_sha256": "0" * 64},
        {"origin": "mapped"},
    ],
)
def test_vectors_of_another_identity_are_refused(
    light_api: httpx.Client, light_identity: Identity, other: dict[str, str]
) -> None:
    foreign = light_identity | other
    vectors = [given(axis(1), light_identity), given(axis(2), foreign)]
    enrolment = light_api.post("/v1/subjects/s/templates", json={"vectors": vectors})
    assert problem(enrolment, "identity_mismatch")["field"] == "vectors[1].model"
    problem(light_api.get("/v1/subjects/s"), "subject_unknown")
    enrolled(light_api, "s", axis(1), light_identity)
    search = light_api.post("/v1/identify", json={"vectors": vectors})
    assert problem(search, "identity_mismatch")["field"] == "vectors[1].model"
    probe = {"vector": given(axis(1), foreign)}
    verification = light_api.post("/v1/subjects/s/verify", json=probe)
    assert problem(verification, "identity_mismatch")["field"] == "vector.model"


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(DIMENSION, np.float32),
        np.full(DIMENSION, np.nan, np.float32),
        np.full(DIMENSION, np.inf, np.float32),
        np.ones(DIMENSION - 1, np.float32),
        np.ones(0, np.float32),
    ],
    ids=["zero", "nan", "infinite", "short", "empty"],
)
def test_vectors_that_cannot_be_compared_are_refused(
    light_api: httpx.Client, light_identity: Identity, vector: Vector
) -> None:
    response = enrol_vectors(light_api, "s", [vector], light_identity)
    assert problem(response, "template_invalid")["field"] == "vector"
    enrolled(light_api, "t", axis(1), light_identity)
    response = light_api.post("/v1/identify", json={"vectors": [given(vector, light_identity)]})
    assert problem(response, "template_invalid")["field"] == "vector"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "pictures"),
        ({"pictures": ["AAAA"], "vectors": "both"}, "pictures"),
        ({"pictures": ["AAAA"] * 17}, "pictures"),
        ({"pictures": ["AAAA", "*"]}, "pictures[1]"),
        ({"pictures": ["AAAA"], "poor": "perhaps"}, "poor"),
        ({"pictures": ["AAAA"], "metadata": "text"}, "metadata"),
        ({"pictures": ["AAAA"], "unheard_of": 1}, "unheard_of"),
    ],
)
def test_a_wrong_enrolment_is_refused(
    light_api: httpx.Client, light_identity: Identity, body: dict[str, Any], field: str
) -> None:
    if body.get("vectors") == "both":
        body = body | {"vectors": [given(axis(1), light_identity)]}
    response = light_api.post("/v1/subjects/s/templates", json=body)
    assert problem(response, "invalid_request")["field"] == field


def test_a_picture_that_cannot_be_used_is_named(light_api: httpx.Client) -> None:
    good = faceless()
    for file, code in (
        (b"", "image_empty"),
        (b"text", "image_unsupported_format"),
        (good[:500], "image_truncated"),
    ):
        told = problem(enrol(light_api, "s", good, file), code)
        assert told["field"] == "pictures[1]"
    problem(light_api.get("/v1/subjects/s"), "subject_unknown")
    response = enrol(light_api, "has space", good)
    assert problem(response, "invalid_request")["field"] == "subject_id"
