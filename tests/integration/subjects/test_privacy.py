"""What a person, an auditor and an operator may ask of a running Mien."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from services.audit.read import Filter, read
from services.audit.trail import anchor_key, place_of
from services.audit.verify import verify
from services.rpc.mien.v1 import gallery_pb2
from services.settings import Settings
from tests.integration.harness import (
    Mien,
    mien_in_thread,
    run_mien,
    settings_on_free_ports,
    weightless_loader,
)
from tests.integration.rest import problem
from tests.integration.subjects.people import (
    DIMENSION,
    Identity,
    axis,
    enrol_vectors,
    enrolled,
    given,
    identified,
)

ACME = {"x-mien-tenant": "acme"}


@pytest.fixture
def settings(mien_home: Path) -> Settings:
    plain = settings_on_free_ports(mien_home)
    retention = plain.retention.model_copy(update={"subject_days": 30})
    audit = plain.audit.model_copy(update={"candidates": True})
    return plain.model_copy(update={"retention": retention, "audit": audit})


@pytest.fixture
def own(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mien]:
    """A Mien without weights, whose gallery and log no other test sees."""
    monkeypatch.setattr("services.serve.load_configured", weightless_loader())
    with mien_in_thread(settings) as running:
        yield running


@pytest.fixture
def api(own: Mien) -> Iterator[httpx.Client]:
    with own.client() as client:
        client.headers.update(ACME)
        yield client


@pytest.fixture
def own_identity(api: httpx.Client) -> Identity:
    told: Identity = api.get("/v1/models").json()["models"][0]["identity"]
    return told


def records(settings: Settings, subject: str = "") -> list[tuple[str, str]]:
    found = read(place_of(settings).folder, Filter("", subject))
    return [(one["action"], one["outcome"]) for one in found]


def test_every_change_and_every_search_is_written_down(
    settings: Settings, api: httpx.Client, own_identity: Identity
) -> None:
    asked = {"x-request-id": "r-1"}
    api.post("/v1/subjects", json={"id": "ann", "name": "Ann Secret"}, headers=asked)
    template = enrolled(api, "ann", axis(1), own_identity)
    assert identified(api, axis(1), own_identity)["decision"] == "known"
    body = {"vector": given(axis(1), own_identity)}
    api.post("/v1/subjects/ann/verify", json=body)
    api.put("/v1/subjects/ann/consent", json={"given": False})
    api.put("/v1/subjects/ann/consent", json={"given": True})
    api.delete(f"/v1/subjects/ann/templates/{template}")
    api.delete("/v1/subjects/ann")
    problem(api.delete("/v1/subjects/ann"), "subject_unknown")
    told = [action for action, outcome in records(settings, "ann") if outcome == "done"]
    assert told == [
        "subject.store",
        "enrol",
        "identify",
        "verify",
        "consent.withdraw",
        "consent.give",
        "template.delete",
        "subject.delete",
    ]
    assert records(settings, "ann")[-1] == ("subject.delete", "subject_unknown")
    place = place_of(settings)
    first = next(iter(read(place.folder, Filter("acme", "ann"))))
    assert (first["who"], first["request"], first["tenant"]) == ("anonymous", "r-1", "acme")
    everything = b"".join(one.read_bytes() for one in place.folder.iterdir())
    assert b"Secret" not in everything, "no name goes in"
    assert verify(place.folder, anchor_key(settings, place)).holds


def test_a_person_gets_all_that_is_stored_of_them(
    own: Mien, api: httpx.Client, own_identity: Identity
) -> None:
    api.post("/v1/subjects", json={"id": "ann", "name": "Ann", "metadata": {"door": "north"}})
    key = {"idempotency-key": "k-1"}
    vectors = [given(axis(1), own_identity)]
    made = api.post("/v1/subjects/ann/templates", json={"vectors": vectors}, headers=key)
    assert made.status_code == 201, made.text
    enrolled(api, "bob", axis(2), own_identity)
    told = api.get("/v1/subjects/ann/export").json()
    shown = api.get("/v1/subjects/ann").json()
    assert told["subject"] == shown["subject"]
    assert [{**one, "vector": None} for one in shown["templates"]] == told["templates"]
    assert told["idempotency_keys"] == ["k-1"]
    assert {one["subject"] for one in told["audit"]} == {"ann"}
    assert {one["action"] for one in told["audit"]} == {"subject.store", "enrol", "export"}
    full = api.get("/v1/subjects/ann/export", params={"vectors": "true"}).json()
    values = base64.b64decode(full["templates"][0]["vector"])
    assert np.allclose(np.frombuffer(values, "<f4"), axis(1))
    assert full["templates"][0]["model"]["weights_sha256"] == own_identity["weights_sha256"]
    with own.gallery() as stub:
        request = gallery_pb2.ExportSubjectRequest(subject_id="ann", vectors=True)
        over_grpc = stub.ExportSubject(request, metadata=(("x-mien-tenant", "acme"),))
    assert (over_grpc.subject.name, list(over_grpc.idempotency_keys)) == ("Ann", ["k-1"])
    assert over_grpc.templates[0].vector == values
    assert len(values) == 4 * DIMENSION
    assert json.loads(over_grpc.audit[0])["action"] == "subject.store"
    problem(api.get("/v1/subjects/nobody/export"), "subject_unknown")
    wrong = api.get("/v1/subjects/ann/export", params={"vectors": "perhaps"})
    assert problem(wrong, "invalid_request")["field"] == "vectors"


def test_an_operator_renews_keys_and_ends_a_tenant_while_mien_runs(
    settings: Settings, own: Mien, api: httpx.Client, own_identity: Identity
) -> None:
    for number in range(1, 4):
        enrolled(api, f"s-{number}", axis(number), own_identity)
    # A process of its own: what Mien logs meanwhile in this one is no part of its answer.
    words = ["rotate", "--tenant", "acme", "--url", own.rest_url, "--json"]
    rotated = run_mien(settings.home, "gallery", "keys", *words)
    assert json.loads(rotated.stdout)["keys"][0]["version"] == 2
    assert api.post("/v1/gallery/keys/rewrap").status_code == 200
    while api.get("/v1/gallery/keys").json()["keys"][0]["behind"]:
        assert identified(api, axis(2), own_identity)["decision"] == "known"
    assert api.get("/v1/subjects/s-1").status_code == 200
    named = problem(api.post("/v1/gallery/keys/rotate", json={"tenants": ["x"]}), "invalid_request")
    assert named["field"] == "tenant"
    report = api.delete("/v1/gallery/tenants/acme").json()
    assert (report["subjects"], report["verified"]) == (3, True)
    assert api.get("/v1/subjects").json()["subjects"] == []
    done = [action for action, outcome in records(settings) if outcome == "done"]
    assert {"keys.rotate", "keys.rewrap", "tenant.delete"} <= {*done}
    place = place_of(settings)
    assert verify(place.folder, anchor_key(settings, place)).holds, "under the new master key too"


def test_retention_is_looked_at_before_it_is_let_loose(
    api: httpx.Client, own_identity: Identity
) -> None:
    enrolled(api, "s-1", axis(1), own_identity)
    told = api.post("/v1/gallery/retention", json={}).json()
    assert (told["due"], told["dry_run"], told["held"]) == ([], True, None)
    told = api.post("/v1/gallery/retention", json={"dry_run": False, "accept_clock": True}).json()
    assert (told["deleted"], told["dry_run"]) == (0, False)
    assert api.get("/v1/subjects/s-1").status_code == 200


def test_without_an_audit_log_nothing_is_changed_and_nobody_is_named(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.serve.load_configured", weightless_loader())
    (tmp_path / "file").touch()
    audit = settings.audit.model_copy(update={"folder": tmp_path / "file" / "audit"})
    with (
        mien_in_thread(settings.model_copy(update={"audit": audit})) as mien,
        mien.client() as api,
    ):
        problem(api.post("/v1/subjects", json={"id": "ann"}), "audit_unavailable")
        assert api.get("/v1/subjects").json()["subjects"] == []
        identity = api.get("/v1/models").json()["models"][0]["identity"]
        problem(enrol_vectors(api, "ann", [axis(1)], identity), "audit_unavailable")
    optional = audit.model_copy(update={"required": False})
    with (
        mien_in_thread(settings.model_copy(update={"audit": optional})) as mien,
        mien.client() as api,
    ):
        assert api.post("/v1/subjects", json={"id": "ann"}).status_code == 201
