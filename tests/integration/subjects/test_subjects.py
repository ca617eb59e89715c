"""Subjects over REST: what an app stores of people, and how it gets rid of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.harness import (
    fresh_gallery,
    mien_in_thread,
    settings_on_free_ports,
    weightless_loader,
)
from tests.integration.rest import problem
from tests.integration.subjects.people import (
    Identity,
    axis,
    enrol_vectors,
    enrolled,
    given,
    identified,
    pictures,
)


def test_a_subject_is_stored_as_it_was_sent(light_api: httpx.Client) -> None:
    body = {"id": "s-1", "name": "Ada Ö.", "metadata": {"door": "north"}}
    made = light_api.post("/v1/subjects", json=body)
    assert made.status_code == 201, made.text
    shown = light_api.get("/v1/subjects/s-1").json()
    assert shown["subject"] == made.json()["subject"]
    assert {name: shown["subject"][name] for name in body} == body
    assert (shown["subject"]["consent"], shown["templates"]) == (True, [])


def test_a_subject_without_an_id_gets_one(light_api: httpx.Client) -> None:
    made = [light_api.post("/v1/subjects", json={"name": "Ada"}).json() for _ in range(2)]
    ids = {one["subject"]["id"] for one in made}
    assert len(ids) == 2
    assert {one["id"] for one in light_api.get("/v1/subjects").json()["subjects"]} == ids


def test_a_subject_is_not_created_twice(light_api: httpx.Client) -> None:
    light_api.post("/v1/subjects", json={"id": "s-1", "name": "Ada"})
    problem(light_api.post("/v1/subjects", json={"id": "s-1"}), "subject_exists")
    assert light_api.get("/v1/subjects/s-1").json()["subject"]["name"] == "Ada"


def test_creation_is_repeated_safely_under_its_key(light_api: httpx.Client) -> None:
    key = {"idempotency-key": "k-1"}
    first = light_api.post("/v1/subjects", json={"name": "Ada"}, headers=key)
    again = light_api.post("/v1/subjects", json={"name": "Ada"}, headers=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["subject"] == first.json()["subject"]
    assert (first.json()["repeated"], again.json()["repeated"]) == (False, True)
    assert len(light_api.get("/v1/subjects").json()["subjects"]) == 1
    other = light_api.post("/v1/subjects", json={"name": "Bob"}, headers=key)
    assert problem(other, "idempotency_key_reused")["field"] == "idempotency-key"


def test_pages_hold_every_subject_once(light_api: httpx.Client) -> None:
    ids = [f"s-{number}" for number in range(5)]
    for one in ids:
        light_api.post("/v1/subjects", json={"id": one})
    seen: list[str] = []
    cursor: str | None = ""
    for _ in range(3):
        page = light_api.get("/v1/subjects", params={"limit": 2, "cursor": cursor}).json()
        assert len(page["subjects"]) <= 2
        seen += [one["id"] for one in page["subjects"]]
        cursor = page["cursor"]
    assert seen == ids
    assert cursor is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"id": "has space"}, "subject_id"),
        ({"id": "x" * 129}, "subject_id"),
        ({"id": 7}, "id"),
        ({"id": "s", "colour": "blue"}, "colour"),
        ({"id": "s", "metadata": {"a": 1}}, "metadata.a"),
        ({"id": "s", "name": "x" * 20_000}, "metadata"),
        ([], None),
    ],
)
def test_a_wrong_subject_is_refused(
    light_api: httpx.Client, body: object, field: str | None
) -> None:
    told = problem(light_api.post("/v1/subjects", json=body), "invalid_request")
    assert told.get("field") == field
    assert light_api.get("/v1/subjects").json()["subjects"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"cursor": "*"}, "cursor"),
    ],
)
def test_a_wrong_page_is_refused(
    light_api: httpx.Client, query: dict[str, str], field: str
) -> None:
    told = problem(light_api.get("/v1/subjects", params=query), "invalid_request")
    assert told["field"] == field


@pytest.mark.parametrize("name", ["", "with space", "-first", "x" * 65, "a/b"])
def test_a_wrong_tenant_is_refused(light_api: httpx.Client, name: str) -> None:
    headers = {"x-mien-tenant": name}
    for response in (
        light_api.get("/v1/subjects", headers=headers),
        light_api.post("/v1/subjects", json={"id": "s"}, headers=headers),
        light_api.get("/v1/gallery", headers=headers),
    ):
        assert problem(response, "invalid_request")["field"] == "tenant"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("DELETE", "", None),
        ("PUT", "/consent", {"given": False}),
        ("DELETE", "/templates/t", None),
    ],
)
def test_an_unknown_subject_is_an_error(
    light_api: httpx.Client, method: str, path: str, body: Any
) -> None:
    response = light_api.request(method, f"/v1/subjects/nobody{path}", json=body)
    problem(response, "subject_unknown")


@pytest.mark.parametrize("body", [{}, {"given": "perhaps"}, {"given": True, "why": "x"}])
def test_consent_is_plain(light_api: httpx.Client, body: dict[str, Any]) -> None:
    light_api.post("/v1/subjects", json={"id": "s"})
    problem(light_api.put("/v1/subjects/s/consent", json=body), "invalid_request")
    assert light_api.get("/v1/subjects/s").json()["subject"]["consent"] is True


def test_bodies_that_cannot_be_read(light_api: httpx.Client) -> None:
    for method, path in (("POST", "/v1/subjects"), ("PUT", "/v1/subjects/s/consent")):
        headers = {"content-type": "application/json"}
        problem(light_api.request(method, path, content=b"{", headers=headers), "malformed_body")
        problem(light_api.request(method, path, content=b"{}"), "unsupported_media_type")


def test_a_deleted_subject_is_never_found_again(
    light_api: httpx.Client, light_identity: Identity
) -> None:
    for number in (1, 2):
        enrolled(light_api, "gone", axis(number), light_identity)
    enrolled(light_api, "stays", axis(3), light_identity)
    report = light_api.delete("/v1/subjects/gone").json()
    assert (report["subject_id"], report["subjects"]) == ("gone", 1)
    assert sum(report["templates"].values()) == sum(report["searchable"].values()) == 2
    assert report["verified"] is True
    assert report["remaining"]
    assert not any(report["remaining"].values())
    problem(light_api.get("/v1/subjects/gone"), "subject_unknown")
    problem(light_api.delete("/v1/subjects/gone"), "subject_unknown")
    answer = identified(light_api, axis(1), light_identity)
    assert answer["decision"] == "unknown"
    assert [one["subject_id"] for one in answer["candidates"]] == ["stays"]


def test_deletion_forgets_the_keys_too(light_api: httpx.Client, light_identity: Identity) -> None:
    light_api.headers["idempotency-key"] = "k-1"
    first = enrol_vectors(light_api, "s", [axis(1)], light_identity)
    assert first.json()["outcome"] == "enrolled"
    assert light_api.delete("/v1/subjects/s").json()["keys"] == 1
    again = enrol_vectors(light_api, "s", [axis(1)], light_identity)
    assert again.json()["outcome"] == "enrolled"
    assert again.json()["template_ids"] != first.json()["template_ids"]


def test_one_template_is_deleted_alone(light_api: httpx.Client, light_identity: Identity) -> None:
    first = enrolled(light_api, "s", axis(1), light_identity)
    second = enrolled(light_api, "s", axis(2), light_identity)
    enrolled(light_api, "other", axis(3), light_identity)
    problem(light_api.delete(f"/v1/subjects/other/templates/{first}"), "template_unknown")
    report = light_api.delete(f"/v1/subjects/s/templates/{first}").json()
    assert (report["verified"], report["subject_id"]) == (True, None)
    shown = light_api.get("/v1/subjects/s").json()
    assert [one["id"] for one in shown["templates"]] == [second]
    assert identified(light_api, axis(1), light_identity)["decision"] == "unknown"
    assert identified(light_api, axis(2), light_identity)["decision"] == "known"


def test_without_consent_nothing_finds_or_uses_a_subject(
    light_api: httpx.Client, light_identity: Identity
) -> None:
    enrolled(light_api, "s", axis(1), light_identity)
    withdrawn = light_api.put("/v1/subjects/s/consent", json={"given": False}).json()
    assert withdrawn["subject"]["consent"] is False
    assert identified(light_api, axis(1), light_identity)["candidates"] == []
    probe = {"vector": given(axis(1), light_identity)}
    problem(light_api.post("/v1/subjects/s/verify", json=probe), "consent_withdrawn")
    response = enrol_vectors(light_api, "s", [axis(2)], light_identity)
    problem(response, "consent_withdrawn")
    assert len(light_api.get("/v1/subjects/s").json()["templates"]) == 1
    light_api.put("/v1/subjects/s/consent", json={"given": True})
    assert identified(light_api, axis(1), light_identity)["decision"] == "known"
    assert light_api.post("/v1/subjects/s/verify", json=probe).json()["decision"] == "same"


def test_another_tenant_sees_nothing(light_api: httpx.Client, light_identity: Identity) -> None:
    template = enrolled(light_api, "s", axis(1), light_identity)
    other = {"x-mien-tenant": "somebody-else"}
    assert light_api.get("/v1/subjects", headers=other).json()["subjects"] == []
    for response in (
        light_api.get("/v1/subjects/s", headers=other),
        light_api.delete("/v1/subjects/s", headers=other),
        light_api.delete(f"/v1/subjects/s/templates/{template}", headers=other),
        light_api.put("/v1/subjects/s/consent", json={"given": False}, headers=other),
        light_api.post(
            "/v1/subjects/s/verify",
            json={"vector": given(axis(1), light_identity)},
            headers=other,
        ),
    ):
        problem(response, "subject_unknown")
    body = {"vectors": [given(axis(1), light_identity)]}
    answer = light_api.post("/v1/identify", json=body, headers=other).json()
    assert (answer["searched"], answer["vectors"][0]["candidates"]) == (0, [])
    (collection,) = light_api.get("/v1/gallery", headers=other).json()["collections"]
    assert collection["searchable"] == 0
    assert light_api.get("/v1/gallery").json()["collections"][0]["searchable"] == 1
    assert identified(light_api, axis(1), light_identity)["decision"] == "known"


def test_a_restart_keeps_everything(mien_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.serve.load_configured", weightless_loader())
    gallery = fresh_gallery()
    with (
        mien_in_thread(settings_on_free_ports(mien_home, gallery)) as first,
        first.client() as api,
    ):
        told = api.get("/v1/gallery").json()
        assert (told["collections"], told["first_model"]) == ([], "poseface@1")
        problem(api.post("/v1/identify", files=pictures(b"never read")), "gallery_empty")
        identity = api.get("/v1/models").json()["models"][0]["identity"]
        template = enrolled(api, "s", axis(1), identity)
        api.post("/v1/subjects", json={"id": "t", "name": "Ada"})
        enrolled(api, "gone", axis(2), identity)
        api.delete("/v1/subjects/gone")
    with (
        mien_in_thread(settings_on_free_ports(mien_home, gallery)) as second,
        second.client() as api,
    ):
        subjects = api.get("/v1/subjects").json()["subjects"]
        assert [(one["id"], one["name"]) for one in subjects] == [("s", ""), ("t", "Ada")]
        answer = identified(api, axis(1), identity)
        assert (answer["decision"], answer["candidates"][0]["template_id"]) == ("known", template)
        assert identified(api, axis(2), identity)["decision"] == "unknown"
        told = api.get("/v1/gallery").json()
        assert (told["first_model"], len(told["collections"])) == (None, 1)
