"""Identification and verification against a subject over REST."""

from __future__ import annotations

import math
from typing import Any

import httpx
import pytest

from models.zoo import Zoo
from services.gateway.rest.gallery_schemas import IdentifyOut, VerifySubjectOut
from tests.integration.harness import Mien, mien_in_thread, settings_on_free_ports
from tests.integration.pictures import faceless
from tests.integration.rest import base64_of, problem
from tests.integration.subjects.people import (
    Identity,
    axis,
    enrolled,
    given,
    identified,
    like,
    pictures,
)


def enrol(api: httpx.Client, subject: str, *files: bytes) -> None:
    response = api.post(f"/v1/subjects/{subject}/templates", files=pictures(*files))
    assert response.status_code == 201, response.text


def identify(api: httpx.Client, *files: bytes, **fields: Any) -> dict[str, Any]:
    response = api.post("/v1/identify", files=pictures(*files), data=fields)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_who_is_seen_is_said_with_all_that_it_rests_on(
    api: httpx.Client, identity: Identity, obama: bytes, obama2: bytes, biden: bytes
) -> None:
    enrol(api, "o", obama)
    enrol(api, "b", biden)
    answer = IdentifyOut.model_validate(identify(api, obama2))
    (picture,) = answer.pictures
    (face,) = picture.faces
    assert (face.decision, face.reasons) == ("known", [])
    assert [one.subject_id for one in face.candidates] == ["o", "b"]
    first, second = face.candidates
    assert first.similarity >= first.threshold == answer.threshold > second.similarity
    assert face.margin is not None
    assert face.margin == pytest.approx(first.similarity - second.similarity, abs=1e-5)
    assert face.margin >= face.least_margin > 0
    assert first.model.model_dump() == {**identity, "map": None}
    assert (answer.fpir, answer.searched, answer.extrapolated) == (0.01, 2, False)
    assert answer.fmr == pytest.approx(1 - math.sqrt(0.99))
    detected = api.post("/v1/detect", files={"image": obama2}).json()
    assert face.face.box.model_dump() == pytest.approx(detected["faces"][0]["box"])
    assert {"decode", "detect", "inference", "search", "total"} <= set(answer.timing_ms)


def test_a_stranger_is_unknown(api: httpx.Client, obama: bytes, biden: bytes) -> None:
    enrol(api, "o", obama)
    (face,) = identify(api, biden)["pictures"][0]["faces"]
    assert face["decision"] == "unknown"
    assert face["candidates"][0]["similarity"] < face["candidates"][0]["threshold"]


def test_every_face_of_a_picture_is_identified(
    api: httpx.Client, obama: bytes, biden: bytes, both: bytes
) -> None:
    enrol(api, "o", obama)
    enrol(api, "b", biden)
    answer = identify(api, both, faceless(), biden)
    crowd, nobody, one = answer["pictures"]
    assert [face["candidates"][0]["subject_id"] for face in crowd["faces"]] == ["o", "b"]
    assert [face["decision"] for face in crowd["faces"]] == ["known", "known"]
    assert (nobody["faces"], nobody["face_count"]) == ([], 0)
    assert [face["candidates"][0]["subject_id"] for face in one["faces"]] == ["b"]
    body = {"pictures": [base64_of(data) for data in (both, faceless(), biden)]}
    by_json = api.post("/v1/identify", json=body).json()
    changing = {"timing_ms": None, "request_id": None}
    assert by_json | changing == answer | changing


@pytest.fixture(scope="module")
def strict(mien_home: Any) -> Any:
    """A Mien that finds every face too poor, and looks at one face of a picture."""
    settings = settings_on_free_ports(mien_home)
    strict = settings.model_copy(
        update={
            "decision": settings.decision.model_copy(update={"min_quality": 100.0}),
            "identification": settings.identification.model_copy(update={"max_faces": 1}),
        }
    )
    with mien_in_thread(strict) as running:
        yield running


def test_a_face_may_be_too_poor_to_decide(strict: Mien, obama: bytes, both: bytes) -> None:
    with strict.client() as api:
        response = api.post("/v1/subjects/s/templates", files=pictures(obama))
        (picture,) = response.json()["pictures"]
        assert (response.json()["outcome"], picture["reasons"]) == ("refused", ["poor_quality"])
        assert api.get("/v1/gallery").json()["collections"] == []
        identity = api.get("/v1/models").json()["models"][0]["identity"]
        enrolled(api, "s", axis(1), identity)
        found = identify(api, both)["pictures"][0]
        assert (found["face_count"], len(found["faces"])) == (2, 1)
        (face,) = found["faces"]
        assert (face["decision"], face["reasons"]) == ("too_poor", ["poor_quality"])
        assert face["candidates"][0]["subject_id"] == "s"
        probe = api.post("/v1/subjects/s/verify", files=pictures(obama)).json()
        assert probe["decision"] == "inconclusive"
        assert probe["reasons"] == ["poor_quality_in_probe"]


def test_two_who_are_alike_make_it_ambiguous(
    light_api: httpx.Client, light_identity: Identity
) -> None:
    enrolled(light_api, "first", axis(1), light_identity)
    enrolled(light_api, "second", axis(2), light_identity)
    near = identified(light_api, like((0.62, 1), (0.6, 2)), light_identity)
    assert (near["decision"], len(near["candidates"])) == ("ambiguous", 2)
    assert near["margin"] == pytest.approx(0.02, abs=1e-4)
    assert near["margin"] < near["least_margin"]
    apart = identified(light_api, like((0.7, 1), (0.5, 2)), light_identity)
    assert (apart["decision"], apart["candidates"][0]["subject_id"]) == ("known", "first")


def test_one_candidate_is_enough_to_be_told_ambiguous(
    light_api: httpx.Client, light_identity: Identity
) -> None:
    enrolled(light_api, "first", axis(1), light_identity)
    enrolled(light_api, "second", axis(2), light_identity)
    near = identified(light_api, like((0.62, 1), (0.6, 2)), light_identity, limit=1)
    assert (near["decision"], len(near["candidates"])) == ("ambiguous", 1)


def test_several_templates_of_one_subject_are_no_ambiguity(
    light_api: httpx.Client, light_identity: Identity
) -> None:
    first = enrolled(light_api, "s", axis(1), light_identity)
    enrolled(light_api, "s", axis(2), light_identity)
    found = identified(light_api, like((0.62, 1), (0.6, 2)), light_identity)
    assert found["decision"] == "known"
    assert [one["template_id"] for one in found["candidates"]] == [first]


def test_a_fuller_gallery_asks_for_more_similarity(
    light_api: httpx.Client, light_identity: Identity
) -> None:
    probe = {"vectors": [given(axis(0), light_identity)]}
    thresholds = []
    for number in range(1, 4):
        enrolled(light_api, f"s-{number}", axis(number), light_identity)
        thresholds.append(light_api.post("/v1/identify", json=probe).json()["threshold"])
    assert thresholds == sorted(thresholds)
    assert thresholds[0] < thresholds[-1]
    strict = light_api.post("/v1/identify", json=probe | {"fpir": 1e-5}).json()
    assert (strict["fpir"], strict["extrapolated"]) == (1e-5, True)
    assert strict["threshold"] > thresholds[-1]


def test_a_threshold_of_the_callers_own_decides(
    light_api: httpx.Client, light_identity: Identity
) -> None:
    enrolled(light_api, "s", axis(1), light_identity)
    for threshold, decision in ((0.1, "known"), (0.6, "unknown")):
        body = {"vectors": [given(like((0.5, 1)), light_identity)], "threshold": threshold}
        answer = light_api.post("/v1/identify", json=body).json()
        assert answer["vectors"][0]["decision"] == decision
        assert (answer["threshold"], answer["fpir"], answer["fmr"]) == (threshold, None, None)


def test_many_vectors_are_answered_in_their_order(
    light_api: httpx.Client, light_identity: Identity
) -> None:
    for number in range(1, 6):
        enrolled(light_api, f"s-{number}", axis(number), light_identity)
    body = {"vectors": [given(axis(number), light_identity) for number in (5, 1, 9, 3)]}
    answer = light_api.post("/v1/identify", json=body).json()
    told = [(one["decision"], one["candidates"][0]["subject_id"]) for one in answer["vectors"]]
    assert [told[index] for index in (0, 1, 3)] == [("known", f"s-{n}") for n in (5, 1, 3)]
    assert told[2][0] == "unknown"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"fpir": 0}, "fpir"),
        ({"fpir": 1}, "fpir"),
        ({"threshold": "nan"}, "threshold"),
        ({"fpir": 0.1, "threshold": 0.5}, None),
        ({"unheard_of": 1}, "unheard_of"),
        ({"vectors": []}, "pictures"),
        ({"pictures": ["AAAA"]}, "pictures"),
        ({"vectors": [], "pictures": ["AAAA"] * 9}, "pictures"),
    ],
)
def test_a_wrong_identification_is_refused(
    light_api: httpx.Client, light_identity: Identity, fields: dict[str, Any], field: str | None
) -> None:
    body = {"vectors": [given(axis(1), light_identity)], **fields}
    told = problem(light_api.post("/v1/identify", json=body), "invalid_request")
    assert told.get("field") == field


def test_a_picture_is_verified_against_a_subject(
    api: httpx.Client, mien_home: Any, obama: bytes, obama2: bytes, biden: bytes
) -> None:
    enrol(api, "o", obama)
    response = api.post("/v1/subjects/o/verify", files=pictures(obama2))
    answer = VerifySubjectOut.model_validate(response.json())
    assert (answer.decision, answer.fmr, answer.templates) == ("same", 1e-3, 1)
    fitted = Zoo(mien_home).embedder("poseface").threshold(1e-3)
    assert fitted is not None
    assert answer.threshold == round(fitted.similarity, 6)
    by_pair = api.post("/v1/verify", files={"probe": obama2, "reference": obama}).json()
    assert answer.similarity == pytest.approx(by_pair["similarity"], abs=1e-4)
    assert answer.probe is not None
    assert answer.probe.face is not None
    other = api.post("/v1/subjects/o/verify", files=pictures(biden)).json()
    assert (other["decision"], other["template_id"]) == ("different", answer.template_id)
    nobody = api.post("/v1/subjects/o/verify", files=pictures(faceless())).json()
    assert (nobody["decision"], nobody["similarity"]) == ("inconclusive", None)
    assert nobody["reasons"] == ["no_face_in_probe"]
    strict = api.post("/v1/subjects/o/verify", files=pictures(obama2), data={"fmr": "1e-4"}).json()
    assert strict["threshold"] > answer.threshold
    own = {"threshold": "0.99"}
    refused = api.post("/v1/subjects/o/verify", files=pictures(obama2), data=own).json()
    assert (refused["decision"], refused["fmr"]) == ("different", None)


def test_the_best_of_a_subjects_templates_decides(
    light_api: httpx.Client, light_identity: Identity
) -> None:
    enrolled(light_api, "s", axis(1), light_identity)
    best = enrolled(light_api, "s", axis(2), light_identity)
    probe = {"vector": given(like((0.2, 1), (0.9, 2)), light_identity)}
    answer = light_api.post("/v1/subjects/s/verify", json=probe).json()
    assert (answer["decision"], answer["template_id"], answer["templates"]) == ("same", best, 2)
    assert answer["similarity"] == pytest.approx(0.9, abs=1e-4)
    assert answer["probe"] is None


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({}, "invalid_request", "picture"),
        ({"picture": "AAAA", "vector": "own"}, "invalid_request", "picture"),
        ({"vector": "own", "fmr": 0.2}, "threshold_unknown", "fmr"),
        ({"vector": "own", "fmr": 2}, "invalid_request", "fmr"),
        ({"vector": "own", "fmr": 0.01, "threshold": 1}, "invalid_request", None),
        ({"picture": "AAAA"}, "image_unsupported_format", "picture"),
    ],
)
def test_a_wrong_verification_is_refused(
    light_api: httpx.Client,
    light_identity: Identity,
    body: dict[str, Any],
    code: str,
    field: str | None,
) -> None:
    enrolled(light_api, "s", axis(1), light_identity)
    own = {"vector": given(axis(1), light_identity)} if "vector" in body else {}
    response = light_api.post("/v1/subjects/s/verify", json=body | own)
    assert problem(response, code).get("field") == field


def test_a_subject_without_templates_cannot_be_verified(
    light_api: httpx.Client, light_identity: Identity
) -> None:
    enrolled(light_api, "other", axis(1), light_identity)
    light_api.post("/v1/subjects", json={"id": "s"})
    probe = {"vector": given(axis(1), light_identity)}
    problem(light_api.post("/v1/subjects/s/verify", json=probe), "template_unknown")
    problem(light_api.post("/v1/subjects/nobody/verify", json=probe), "subject_unknown")


def test_the_metrics_count_without_naming_anybody(
    light_api: httpx.Client, light_identity: Identity, tenant: str
) -> None:
    enrolled(light_api, "somebody-special", axis(1), light_identity)
    identified(light_api, axis(1), light_identity)
    problem(light_api.get("/v1/subjects/nobody-special"), "subject_unknown")
    text = light_api.get("/metrics").text
    for line in (
        'mien_enrolments_total{outcome="enrolled"}',
        'mien_identifications_total{decision="known",model="poseface@1"}',
        "mien_gallery_search_seconds_count",
        'method="/v1/subjects/{subject_id}",outcome="subject_unknown"',
    ):
        assert line in text
    (size,) = [
        line.split()[1] for line in text.splitlines() if line.startswith("mien_gallery_templates ")
    ]
    assert float(size) >= 1
    for private in ("somebody-special", "nobody-special", tenant):
        assert private not in text
