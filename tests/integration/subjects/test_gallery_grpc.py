"""Stored people over gRPC: the same answers as REST, rich errors, and a stream of enrolments."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.rpc.mien.v1 import face_pb2, gallery_pb2, gallery_pb2_grpc, model_pb2
from tests.integration.harness import Mien, RichError, rich_error
from tests.integration.pictures import faceless
from tests.integration.subjects.people import Identity, Vector, axis, like, pictures

_C = grpc.StatusCode
Metadata = tuple[tuple[str, str | bytes], ...]


@pytest.fixture
def metadata(tenant: str) -> Metadata:
    return (("x-mien-tenant", tenant),)


@pytest.fixture(scope="module")
def light(weightless_mien: Mien) -> Iterator[gallery_pb2_grpc.GalleryServiceStub]:
    with weightless_mien.gallery() as made:
        yield made


@pytest.fixture(scope="module")
def stub(mien: Mien) -> Iterator[gallery_pb2_grpc.GalleryServiceStub]:
    with mien.gallery() as made:
        yield made


def vector(values: Vector, identity: Identity, **fields: Any) -> gallery_pb2.GivenVector:
    model = model_pb2.ModelIdentity(
        name=identity["name"],
        version=identity["version"],
        weights_sha256=identity["weights_sha256"],
        preprocessing_sha256=identity["preprocessing_sha256"],
        origin=model_pb2.VECTOR_ORIGIN_NATIVE,
    )
    return gallery_pb2.GivenVector(model=model, values=values.astype("<f4").tobytes(), **fields)


def of_vector(
    subject: str, number: int, identity: Identity, **fields: Any
) -> gallery_pb2.EnrolRequest:
    vectors = [vector(axis(number), identity)]
    return gallery_pb2.EnrolRequest(subject_id=subject, vectors=vectors, **fields)


def refusal(call: Callable[..., Any], request: Any, metadata: Metadata) -> RichError:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, metadata=metadata)
    return rich_error(caught.value)


def test_a_subjects_life(
    light: gallery_pb2_grpc.GalleryServiceStub, light_identity: Identity, metadata: Metadata
) -> None:
    create = gallery_pb2.CreateSubjectRequest(subject_id="s", name="Ada", metadata={"door": "n"})
    made = light.CreateSubject(create, metadata=metadata)
    assert (made.subject.name, made.subject.consent, made.repeated) == ("Ada", True, False)
    enrolled = light.Enrol(of_vector("s", 1, light_identity), metadata=metadata)
    assert enrolled.outcome == gallery_pb2.ENROLMENT_OUTCOME_ENROLLED
    shown = light.GetSubject(gallery_pb2.GetSubjectRequest(subject_id="s"), metadata=metadata)
    assert dict(shown.subject.metadata) == {"door": "n"}
    (template,) = shown.templates
    assert [template.id] == list(enrolled.template_ids)
    assert (template.live, template.confidence, template.pictures) == (True, 1.0, 1)
    assert template.model.origin == model_pb2.VECTOR_ORIGIN_NATIVE
    ask = gallery_pb2.SetConsentRequest(subject_id="s", given=False)
    assert light.SetConsent(ask, metadata=metadata).subject.consent is False
    search = gallery_pb2.IdentifyRequest(vectors=[vector(axis(1), light_identity)])
    assert not light.Identify(search, metadata=metadata).vectors[0].candidates
    ask.given = True
    light.SetConsent(ask, metadata=metadata)
    (found,) = light.Identify(search, metadata=metadata).vectors
    assert found.decision == gallery_pb2.IDENTIFICATION_DECISION_KNOWN
    assert found.candidates[0].subject_id == "s"
    delete = gallery_pb2.DeleteSubjectRequest(subject_id="s")
    report = light.DeleteSubject(delete, metadata=metadata).report
    assert (report.verified, report.subjects, sum(report.templates.values())) == (True, 1, 1)
    assert not any(report.remaining.values())
    told = refusal(light.DeleteSubject, delete, metadata)
    assert (told.code, told.reason) == (_C.NOT_FOUND, "SUBJECT_UNKNOWN")
    (found,) = light.Identify(search, metadata=metadata).vectors
    assert found.decision == gallery_pb2.IDENTIFICATION_DECISION_UNKNOWN


def test_templates_are_deleted_one_by_one(
    light: gallery_pb2_grpc.GalleryServiceStub, light_identity: Identity, metadata: Metadata
) -> None:
    ids = [
        light.Enrol(of_vector("s", number, light_identity), metadata=metadata).template_ids[0]
        for number in (1, 2)
    ]
    ask = gallery_pb2.DeleteTemplateRequest(subject_id="s", template_id=ids[0])
    assert light.DeleteTemplate(ask, metadata=metadata).report.verified
    assert refusal(light.DeleteTemplate, ask, metadata).reason == "TEMPLATE_UNKNOWN"
    shown = light.GetSubject(gallery_pb2.GetSubjectRequest(subject_id="s"), metadata=metadata)
    assert [one.id for one in shown.templates] == ids[1:]


def test_pages_are_as_over_rest(
    light: gallery_pb2_grpc.GalleryServiceStub, light_api: httpx.Client, metadata: Metadata
) -> None:
    for number in range(3):
        light_api.post("/v1/subjects", json={"id": f"s-{number}"})
    ask = gallery_pb2.ListSubjectsRequest(limit=2)
    first = light.ListSubjects(ask, metadata=metadata)
    ask.cursor = first.cursor
    second = light.ListSubjects(ask, metadata=metadata)
    seen = [one.id for one in (*first.subjects, *second.subjects)]
    assert (seen, second.cursor) == (["s-0", "s-1", "s-2"], "")
    other: Metadata = (("x-mien-tenant", "somebody-else"),)
    assert not light.ListSubjects(gallery_pb2.ListSubjectsRequest(), metadata=other).subjects


def test_identify_and_verify_answer_as_rest_does(
    stub: gallery_pb2_grpc.GalleryServiceStub,
    api: httpx.Client,
    metadata: Metadata,
    obama: bytes,
    obama2: bytes,
    both: bytes,
) -> None:
    enrol = gallery_pb2.EnrolRequest(
        subject_id="o",
        pictures=[face_pb2.Image(content=obama), face_pb2.Image(content=obama2)],
        name="Barack",
    )
    answer = stub.Enrol(enrol, metadata=metadata)
    assert [one.used for one in answer.pictures] == [True, True]
    ask = gallery_pb2.IdentifyRequest(pictures=[both, faceless()], limit=1, fpir=0.001)
    mine = stub.Identify(ask, metadata=metadata)
    given = {"limit": "1", "fpir": "0.001"}
    files = pictures(both, faceless())
    theirs = api.post("/v1/identify", files=files, data=given).json()
    assert mine.threshold == pytest.approx(theirs["threshold"], abs=1e-6)
    assert (mine.fpir, mine.searched) == (theirs["fpir"], theirs["searched"]) == (0.001, 1)
    for picture, other in zip(mine.pictures, theirs["pictures"], strict=True):
        assert (picture.width, picture.face_count) == (other["width"], other["face_count"])
        for face, shown in zip(picture.faces, other["faces"], strict=True):
            name = gallery_pb2.IdentificationDecision.Name(face.identification.decision)
            assert name.removeprefix("IDENTIFICATION_DECISION_").lower() == shown["decision"]
            best, second = face.identification.candidates[0], shown["candidates"][0]
            assert best.subject_id == second["subject_id"] == "o"
            assert best.similarity == pytest.approx(second["similarity"], abs=1e-5)
            assert face.face.box.x == pytest.approx(shown["face"]["box"]["x"], abs=0.006)
    verify = gallery_pb2.VerifySubjectRequest(
        subject_id="o", picture=face_pb2.Image(content=obama2), fmr=1e-4
    )
    verified = stub.VerifySubject(verify, metadata=metadata)
    rest = api.post("/v1/subjects/o/verify", files=pictures(obama2), data={"fmr": "1e-4"}).json()
    assert verified.decision == face_pb2.DECISION_SAME
    assert verified.similarity == pytest.approx(rest["similarity"], abs=1e-5)
    assert (verified.fmr, verified.template_id) == (1e-4, rest["template_id"])
    assert verified.probe.face_count == 1


def test_poor_pictures_are_an_answer(
    stub: gallery_pb2_grpc.GalleryServiceStub, metadata: Metadata, obama: bytes, both: bytes
) -> None:
    images = [face_pb2.Image(content=data) for data in (obama, faceless(), both)]
    ask = gallery_pb2.EnrolRequest(subject_id="s", pictures=images)
    answer = stub.Enrol(ask, metadata=metadata)
    assert answer.outcome == gallery_pb2.ENROLMENT_OUTCOME_REFUSED
    assert [list(one.faults) for one in answer.pictures] == [
        [],
        [gallery_pb2.PICTURE_FAULT_NO_FACE],
        [gallery_pb2.PICTURE_FAULT_SEVERAL_FACES],
    ]
    ask.leave_out_poor = True
    ask.pictures[2].selection = face_pb2.FACE_SELECTION_LARGEST
    answer = stub.Enrol(ask, metadata=metadata)
    assert [one.used for one in answer.pictures] == [True, False, True]


def test_a_duplicate_names_the_other_subject(
    light: gallery_pb2_grpc.GalleryServiceStub, light_identity: Identity, metadata: Metadata
) -> None:
    light.Enrol(of_vector("first", 1, light_identity), metadata=metadata)
    ask = of_vector("second", 1, light_identity)
    told = refusal(light.Enrol, ask, metadata)
    assert (told.code, told.reason) == (_C.ALREADY_EXISTS, "DUPLICATE_SUBJECT")
    assert told.metadata["subject_id"] == "first"
    ask.allow_duplicate = True
    done = light.Enrol(ask, metadata=metadata)
    assert done.outcome == gallery_pb2.ENROLMENT_OUTCOME_ENROLLED


def test_a_repeated_enrolment_changes_nothing(
    light: gallery_pb2_grpc.GalleryServiceStub, light_identity: Identity, metadata: Metadata
) -> None:
    ask = of_vector("s", 1, light_identity, idempotency_key="k")
    first = light.Enrol(ask, metadata=metadata)
    again = light.Enrol(ask, metadata=metadata)
    assert again.outcome == gallery_pb2.ENROLMENT_OUTCOME_REPEATED
    assert list(again.template_ids) == list(first.template_ids)
    told = refusal(light.Enrol, of_vector("s", 2, light_identity, idempotency_key="k"), metadata)
    assert told.reason == "IDEMPOTENCY_KEY_REUSED"


def test_an_error_says_what_and_where(
    light: gallery_pb2_grpc.GalleryServiceStub, light_identity: Identity, metadata: Metadata
) -> None:
    light.Enrol(of_vector("s", 1, light_identity), metadata=metadata)
    short = gallery_pb2.GivenVector(model=vector(axis(1), light_identity).model, values=b"abc")
    unsaid = vector(axis(1), light_identity)
    unsaid.model.origin = model_pb2.VECTOR_ORIGIN_UNSPECIFIED
    mapped = vector(axis(1), light_identity)
    mapped.model.origin = model_pb2.VECTOR_ORIGIN_MAPPED
    good = vector(axis(1), light_identity)
    enrol, verify, search = (
        gallery_pb2.EnrolRequest,
        gallery_pb2.VerifySubjectRequest,
        gallery_pb2.IdentifyRequest,
    )
    for call, request, code, field in (
        (light.Enrol, enrol(), "INVALID_REQUEST", "subject_id"),
        (light.Enrol, enrol(subject_id="s"), "INVALID_REQUEST", "pictures"),
        (light.Enrol, enrol(subject_id="s", vectors=[short]), "TEMPLATE_INVALID", "vector"),
        (
            light.Enrol,
            enrol(subject_id="s", vectors=[good, unsaid]),
            "INVALID_REQUEST",
            "vectors[1].model.origin",
        ),
        (light.Enrol, enrol(subject_id="s", vectors=[mapped]), "IDENTITY_MISMATCH", "vector.model"),
        (light.VerifySubject, verify(subject_id="s"), "INVALID_REQUEST", "probe"),
        (light.VerifySubject, verify(subject_id="s", vector=good, fmr=2), "INVALID_REQUEST", "fmr"),
        (light.Identify, search(), "INVALID_REQUEST", "pictures"),
        (light.Identify, search(vectors=[good], fpir=0), "INVALID_REQUEST", "fpir"),
        (light.Identify, search(vectors=[good], limit=101), "INVALID_REQUEST", "limit"),
    ):
        told = refusal(call, request, metadata)
        assert (told.reason, told.fields) == (code, [field])
    told = refusal(light.Identify, search(vectors=[good]), (("x-mien-tenant", "a b"),))
    assert (told.code, told.fields) == (_C.INVALID_ARGUMENT, ["tenant"])


def test_the_gallery_describes_itself(
    light: gallery_pb2_grpc.GalleryServiceStub, light_identity: Identity, metadata: Metadata
) -> None:
    light.Enrol(of_vector("s", 1, light_identity), metadata=metadata)
    told = light.DescribeGallery(gallery_pb2.DescribeGalleryRequest(), metadata=metadata)
    (collection,) = told.collections
    assert (collection.live, collection.searchable, collection.dimension) == (True, 1, 128)
    assert collection.model.weights_sha256 == light_identity["weights_sha256"]
    assert told.default_fpir == 0.01


def test_a_stream_answers_each_row_before_the_next_is_sent(
    light: gallery_pb2_grpc.GalleryServiceStub, light_identity: Identity, metadata: Metadata
) -> None:
    rows: queue.Queue[gallery_pb2.EnrolRequest | None] = queue.Queue()

    def sent() -> Iterator[gallery_pb2.BulkEnrolRequest]:
        while (row := rows.get()) is not None:
            yield gallery_pb2.BulkEnrolRequest(enrolment=row)

    answers = light.BulkEnrol(sent(), metadata=metadata, timeout=60)
    rows.put(of_vector("a", 1, light_identity))
    first = next(answers)
    assert (first.index, first.subject_id) == (0, "a")
    assert first.answer.outcome == gallery_pb2.ENROLMENT_OUTCOME_ENROLLED
    rows.put(of_vector("b", 1, light_identity))
    second = next(answers)
    assert (second.index, second.error.code) == (1, "duplicate_subject")
    assert second.error.other_subject_id == "a"
    rows.put(gallery_pb2.EnrolRequest(subject_id="c", vectors=[gallery_pb2.GivenVector()]))
    third = next(answers)
    assert third.error.code == "invalid_request"
    rows.put(of_vector("d", 4, light_identity))
    rows.put(None)
    last = next(answers)
    assert (last.progress.rows, last.progress.enrolled, last.progress.failed) == (4, 2, 2)
    assert list(answers) == []
    search = gallery_pb2.IdentifyRequest(vectors=[vector(like((0.9, 4)), light_identity)])
    found = light.Identify(search, metadata=metadata).vectors[0]
    assert found.candidates[0].subject_id == "d"


def test_health_names_the_gallery_service(weightless_mien: Mien) -> None:
    with weightless_mien.channel() as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        ask = health_pb2.HealthCheckRequest(service="mien.v1.GalleryService")
        assert health.Check(ask).status == health_pb2.HealthCheckResponse.SERVING
