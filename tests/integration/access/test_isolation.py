"""Tenants do not see each other: every REST route and every gRPC method, with real requests."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from services.access.policy import EVERYWHERE, REST, RPC
from services.gallery.embedded import database
from services.rpc.mien.v1 import (
    camera_pb2,
    camera_pb2_grpc,
    face_pb2,
    face_pb2_grpc,
    gallery_pb2,
    gallery_pb2_grpc,
    model_pb2,
)
from tests.integration.access.conftest import Guarded, guarded_mien, with_key
from tests.integration.harness import rich_error
from tests.integration.pictures import faceless
from tests.integration.rest import base64_of, problem
from tests.integration.subjects.people import Identity, axis, enrolled, given, identified

_C = grpc.StatusCode
_SUBJECT = "/v1/subjects/{subject_id}"
_PERSON = 3  # whose face the owner has stored


@dataclass(frozen=True)
class Neighbours:
    """Two tenants of one Mien: the owner has stored a person, the other wants to find out."""

    guarded: Guarded
    identity: Identity
    owner: httpx.Client
    other: httpx.Client
    owner_key: str = field(repr=False)
    other_key: str = field(repr=False)
    subject: str
    template: str

    def vector(self) -> dict[str, Any]:
        """The stored person's vector, as JSON takes it."""
        return given(axis(_PERSON), self.identity)

    def message(self) -> gallery_pb2.GivenVector:
        """The same, as gRPC takes it."""
        names = ("name", "version", "weights_sha256", "preprocessing_sha256")
        model = model_pb2.ModelIdentity(
            **{name: self.identity[name] for name in names},
            origin=model_pb2.VECTOR_ORIGIN_NATIVE,
        )
        values = axis(_PERSON).astype("<f4").tobytes()
        return gallery_pb2.GivenVector(model=model, values=values)


@pytest.fixture
def neighbours(guarded: Guarded, guarded_identity: Identity) -> Iterator[Neighbours]:
    word = uuid.uuid4().hex[:8]
    owner_key, other_key = guarded.key(f"owner-{word}"), guarded.key(f"other-{word}")
    with guarded.client(owner_key) as owner, guarded.client(other_key) as other:
        subject = f"s-{word}"
        template = enrolled(owner, subject, axis(_PERSON), guarded_identity)
        yield Neighbours(
            guarded, guarded_identity, owner, other, owner_key, other_key, subject, template
        )
        shown = owner.get(f"/v1/subjects/{subject}").json()
        assert [one["id"] for one in shown["templates"]] == [template]
        assert shown["subject"]["consent"] is True
        found = identified(owner, axis(_PERSON), guarded_identity)
        assert (found["decision"], found["candidates"][0]["subject_id"]) == ("known", subject)


def _unknown(answer: httpx.Response) -> None:
    problem(answer, "subject_unknown")


def _verify(on: Neighbours) -> None:
    _unknown(on.other.post(f"/v1/subjects/{on.subject}/verify", json={"vector": on.vector()}))


def _identify(on: Neighbours) -> None:
    found = identified(on.other, axis(_PERSON), on.identity)
    assert (found["decision"], found["candidates"]) == ("unknown", [])


def _create(on: Neighbours) -> None:
    body = {"id": on.subject, "name": "of the other"}
    assert on.other.post("/v1/subjects", json=body).status_code == httpx.codes.CREATED
    assert on.owner.get(f"/v1/subjects/{on.subject}").json()["subject"]["name"] == ""


def _list(on: Neighbours) -> None:
    assert on.other.get("/v1/subjects").json()["subjects"] == []
    on.owner.post("/v1/subjects", json={"id": f"{on.subject}-2"})
    cursor = on.owner.get("/v1/subjects", params={"limit": 1}).json()["cursor"]
    assert on.other.get("/v1/subjects", params={"cursor": cursor}).json()["subjects"] == []


def _enrol(on: Neighbours) -> None:
    """The same face is no duplicate there, and the owner's key and subject are of no use."""
    headers = {"idempotency-key": f"key-{on.subject}"}
    path, body = f"/v1/subjects/{on.subject}/templates", {"vectors": [on.vector()]}
    made = on.owner.post(f"/v1/subjects/{on.subject}-x/templates", json=body, headers=headers)
    problem(made, "duplicate_subject")  # within one tenant it is one
    answer = on.other.post(path, json=body, headers=headers)
    assert answer.status_code == httpx.codes.CREATED, answer.text
    assert answer.json()["template_ids"] != [on.template]


def _enrol_many(on: Neighbours) -> None:
    row = json.dumps({"subject_id": "many", "vectors": [on.vector()]})
    media_type = {"content-type": "application/x-ndjson"}
    answer = on.other.post("/v1/enrolments", content=f"{row}\n", headers=media_type)
    (line,) = answer.text.splitlines()
    assert json.loads(line)["outcome"] == "enrolled", line
    assert on.subject not in answer.text


def _delete_template(on: Neighbours) -> None:
    _unknown(on.other.delete(f"/v1/subjects/{on.subject}/templates/{on.template}"))
    on.other.post("/v1/subjects", json={"id": "own"})
    problem(on.other.delete(f"/v1/subjects/own/templates/{on.template}"), "template_unknown")


def _gallery(on: Neighbours) -> None:
    assert [one["searchable"] for one in on.other.get("/v1/gallery").json()["collections"]] == [0]
    assert [one["searchable"] for one in on.owner.get("/v1/gallery").json()["collections"]] == [1]


def _picture_alone(path: str, **body: str) -> Callable[[Neighbours], None]:
    def ask(on: Neighbours) -> None:
        answer = on.other.post(path, json=body)
        assert answer.status_code == httpx.codes.OK
        assert on.subject not in answer.text

    return ask


def _models(on: Neighbours) -> None:
    assert on.other.get("/v1/models").text.count(on.subject) == 0


_PICTURE = base64_of(faceless())
ATTEMPTS: dict[tuple[str, str], Callable[[Neighbours], None]] = {
    ("POST", "/verify"): _picture_alone("/verify", probe=_PICTURE, reference=_PICTURE),
    ("POST", "/v1/verify"): _picture_alone("/v1/verify", probe=_PICTURE, reference=_PICTURE),
    ("POST", "/v1/detect"): _picture_alone("/v1/detect", image=_PICTURE),
    ("GET", "/v1/models"): _models,
    ("GET", "/v1/gallery"): _gallery,
    ("POST", "/v1/subjects"): _create,
    ("GET", "/v1/subjects"): _list,
    ("GET", _SUBJECT): lambda on: _unknown(on.other.get(f"/v1/subjects/{on.subject}")),
    ("DELETE", _SUBJECT): lambda on: _unknown(on.other.delete(f"/v1/subjects/{on.subject}")),
    ("GET", f"{_SUBJECT}/export"): lambda on: _unknown(
        on.other.get(f"/v1/subjects/{on.subject}/export", params={"vectors": True})
    ),
    ("PUT", f"{_SUBJECT}/consent"): lambda on: _unknown(
        on.other.put(f"/v1/subjects/{on.subject}/consent", json={"given": False})
    ),
    ("POST", f"{_SUBJECT}/templates"): _enrol,
    ("POST", "/v1/enrolments"): _enrol_many,
    ("DELETE", f"{_SUBJECT}/templates/{{template_id}}"): _delete_template,
    ("POST", f"{_SUBJECT}/verify"): _verify,
    ("POST", "/v1/identify"): _identify,
}


@pytest.mark.parametrize("route", ATTEMPTS, ids=" ".join)
def test_no_rest_route_shows_or_touches_another_tenants_person(
    neighbours: Neighbours, route: tuple[str, str]
) -> None:
    ATTEMPTS[route](neighbours)


def test_every_rest_route_that_a_tenant_may_use_is_tried() -> None:
    """Those that reach into every tenant refuse a tenant's key, whatever it allows."""
    assert set(ATTEMPTS) == {
        route for route, rule in REST.items() if not rule.is_open and rule.action not in EVERYWHERE
    }


def test_every_grpc_method_that_a_tenant_may_use_is_tried() -> None:
    assert set(CALLS) == {
        method for method, rule in RPC.items() if not rule.is_open and rule.action not in EVERYWHERE
    }


Gallery = gallery_pb2_grpc.GalleryServiceStub
_G = "/mien.v1.GalleryService/"
_IMAGE = face_pb2.Image(content=faceless())


def _row(on: Neighbours, subject: str) -> gallery_pb2.EnrolRequest:
    return gallery_pb2.EnrolRequest(subject_id=subject, vectors=[on.message()])


def _enrolled(answer: gallery_pb2.EnrolResponse) -> None:
    assert answer.outcome == gallery_pb2.ENROLMENT_OUTCOME_ENROLLED


CALLS: dict[str, Callable[[Neighbours, Any, Any], Any]] = {
    "/mien.v1.FaceService/Verify": lambda on, _, key: _faces(on).Verify(
        face_pb2.VerifyRequest(probe=_IMAGE, references=[_IMAGE]), metadata=key
    ),
    "/mien.v1.FaceService/Detect": lambda on, _, key: _faces(on).Detect(
        face_pb2.DetectRequest(content=faceless()), metadata=key
    ),
    f"{_G}DescribeGallery": lambda _, stub, key: stub.DescribeGallery(
        gallery_pb2.DescribeGalleryRequest(), metadata=key
    ),
    f"{_G}CreateSubject": lambda on, stub, key: stub.CreateSubject(
        gallery_pb2.CreateSubjectRequest(subject_id=f"{on.subject}-of-other"), metadata=key
    ),
    f"{_G}ListSubjects": lambda _, stub, key: stub.ListSubjects(
        gallery_pb2.ListSubjectsRequest(), metadata=key
    ),
    f"{_G}GetSubject": lambda on, stub, key: stub.GetSubject(
        gallery_pb2.GetSubjectRequest(subject_id=on.subject), metadata=key
    ),
    f"{_G}ExportSubject": lambda on, stub, key: stub.ExportSubject(
        gallery_pb2.ExportSubjectRequest(subject_id=on.subject), metadata=key
    ),
    f"{_G}DeleteSubject": lambda on, stub, key: stub.DeleteSubject(
        gallery_pb2.DeleteSubjectRequest(subject_id=on.subject), metadata=key
    ),
    f"{_G}SetConsent": lambda on, stub, key: stub.SetConsent(
        gallery_pb2.SetConsentRequest(subject_id=on.subject, given=False), metadata=key
    ),
    f"{_G}DeleteTemplate": lambda on, stub, key: stub.DeleteTemplate(
        gallery_pb2.DeleteTemplateRequest(subject_id=on.subject, template_id=on.template),
        metadata=key,
    ),
    f"{_G}VerifySubject": lambda on, stub, key: stub.VerifySubject(
        gallery_pb2.VerifySubjectRequest(subject_id=on.subject, vector=on.message()), metadata=key
    ),
    f"{_G}Identify": lambda on, stub, key: stub.Identify(
        gallery_pb2.IdentifyRequest(vectors=[on.message()]), metadata=key
    ),
    f"{_G}Enrol": lambda on, stub, key: stub.Enrol(_row(on, "one"), metadata=key),
    f"{_G}BulkEnrol": lambda on, stub, key: next(
        stub.BulkEnrol(
            iter([gallery_pb2.BulkEnrolRequest(enrolment=_row(on, "many"))]), metadata=key
        )
    ),
}
_C_ = "/mien.v1.CameraService/"
CALLS |= {
    f"{_C_}Recognize": lambda on, _, key: list(
        _cameras(on).Recognize(iter([_frame(on)]), metadata=key)
    ),
    f"{_C_}ListCameras": lambda on, _, key: _listed(on, key),
    f"{_C_}GetCameraPolicy": lambda on, _, key: _policy(on, key),
    f"{_C_}SetCameraPolicy": lambda on, _, key: _set_policy(on, key, watched="theirs"),
    f"{_C_}GetBestShot": lambda on, _, key: _cameras(on).GetBestShot(
        camera_pb2.GetBestShotRequest(track_id=on.subject), metadata=key
    ),
    f"{_C_}EnrolTrack": lambda on, _, key: _cameras(on).EnrolTrack(
        camera_pb2.EnrolTrackRequest(track_id=on.subject, subject_id="one"), metadata=key
    ),
}
OF_A_TRACK = ("GetBestShot", "EnrolTrack")
OF_A_SUBJECT = (
    "GetSubject",
    "ExportSubject",
    "DeleteSubject",
    "SetConsent",
    "DeleteTemplate",
    "VerifySubject",
)


def _frame(on: Neighbours) -> camera_pb2.RecognizeRequest:
    frame = camera_pb2.Frame(camera_id=on.subject, content=faceless())
    return camera_pb2.RecognizeRequest(frame=frame)


def _set_policy(on: Neighbours, key: Any, watched: str) -> Any:
    policy = camera_pb2.CameraPolicy(watch_list={"of": watched})
    request = camera_pb2.SetCameraPolicyRequest(camera_id="door", policy=policy)
    return _cameras(on).SetCameraPolicy(request, metadata=key)


def _policy(on: Neighbours, key: Any) -> Any:
    """Of the camera that the owner has one of, too."""
    _set_policy(on, with_key(on.owner_key), watched=on.subject)
    return _cameras(on).GetCameraPolicy(
        camera_pb2.GetCameraPolicyRequest(camera_id="door"), metadata=key
    )


def _listed(on: Neighbours, key: Any) -> Any:
    _set_policy(on, with_key(on.owner_key), watched=on.subject)
    found = _cameras(on).ListCameras(camera_pb2.ListCamerasRequest(), metadata=key)
    assert not found.cameras
    own = with_key(on.owner_key)
    shown = _cameras(on).ListCameras(camera_pb2.ListCamerasRequest(), metadata=own)
    assert [one.camera_id for one in shown.cameras] == ["door"]
    return found


def _cameras(on: Neighbours) -> camera_pb2_grpc.CameraServiceStub:
    channel = grpc.insecure_channel(
        on.guarded.mien.grpc_address, options=[("grpc.enable_http_proxy", 0)]
    )
    return camera_pb2_grpc.CameraServiceStub(channel)


def _faces(on: Neighbours) -> face_pb2_grpc.FaceServiceStub:
    channel = grpc.insecure_channel(
        on.guarded.mien.grpc_address, options=[("grpc.enable_http_proxy", 0)]
    )
    return face_pb2_grpc.FaceServiceStub(channel)


@pytest.mark.parametrize("method", CALLS)
def test_no_grpc_method_shows_or_touches_another_tenants_person(
    neighbours: Neighbours, method: str
) -> None:
    with neighbours.guarded.mien.gallery() as stub:
        metadata = with_key(neighbours.other_key)
        if method.endswith(OF_A_TRACK):
            with pytest.raises(grpc.RpcError) as caught:
                CALLS[method](neighbours, stub, metadata)
            assert rich_error(caught.value).reason in {"TRACK_UNKNOWN", "SHOT_NOT_KEPT"}
            return
        if method.endswith(OF_A_SUBJECT):
            with pytest.raises(grpc.RpcError) as caught:
                CALLS[method](neighbours, stub, metadata)
            told = rich_error(caught.value)
            assert (told.code, told.reason) == (_C.NOT_FOUND, "SUBJECT_UNKNOWN")
            return
        answer = CALLS[method](neighbours, stub, metadata)
    if method.endswith(("/CreateSubject", "/Recognize")):
        return
    assert neighbours.subject not in str(answer)
    if method.endswith("/Identify"):
        (found,) = answer.vectors
        assert found.decision == gallery_pb2.IDENTIFICATION_DECISION_UNKNOWN
    elif method.endswith("/Enrol"):
        _enrolled(answer)
    elif method.endswith("BulkEnrol"):
        _enrolled(answer.answer)
    elif method.endswith("DescribeGallery"):
        assert [one.searchable for one in answer.collections] == [0]


@pytest.fixture(scope="module")
def counted(
    mien_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Guarded, list[str]]]:
    """A Mien of its own, and every statement that its gallery's database is given."""
    statements: list[str] = []
    connect = database._connect

    def traced(path: Path) -> database.Connection:
        connection = connect(path)
        connection.set_trace_callback(statements.append)
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_connect", traced)
        with guarded_mien(mien_home, tmp_path_factory.mktemp("counted")) as made:
            yield made, statements


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/subjects/{}"),
        ("POST", "/v1/subjects/{}/verify"),
        ("PUT", "/v1/subjects/{}/consent"),
        ("DELETE", "/v1/subjects/{}"),
        ("DELETE", "/v1/subjects/{}/templates/t"),
    ],
)
def test_another_tenants_subject_costs_what_one_that_is_not_there_costs(
    counted: tuple[Guarded, list[str]], method: str, path: str
) -> None:
    """Clocks waver; the statements that the store runs do not."""
    guarded, statements = counted
    with guarded.client(guarded.key("a")) as owner, guarded.client(guarded.key("b")) as other:
        identity = owner.get("/v1/models").json()["models"][0]["identity"]
        if owner.get("/v1/subjects/theirs").status_code == httpx.codes.NOT_FOUND:
            enrolled(owner, "theirs", axis(_PERSON), identity)
        body = {"POST": {"vector": given(axis(_PERSON), identity)}, "PUT": {"given": True}}

        def ask(subject: str) -> tuple[dict[str, Any], list[str]]:
            statements.clear()
            told = problem(
                other.request(method, path.format(subject), json=body.get(method)),
                "subject_unknown",
            )
            # A thread of the store's that reads for the first time sets its connection up.
            seen = [one.split("WHERE")[0] for one in statements if not one.startswith("PRAGMA")]
            return {key: told[key] for key in ("title", "detail", "code")}, seen

        ask("nobody")  # what is read once only is read by now
        missing, theirs = ask("nobody"), ask("theirs")
        assert missing[1]
        assert theirs == missing
