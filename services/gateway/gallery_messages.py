"""The core's answers about stored people, as gRPC messages."""

from __future__ import annotations

import json

from services.errors import MienError
from services.gallery import DeletionReport, Subject, Template
from services.gateway.bulk_enrolment import BulkAnswer
from services.gateway.decision import Cause
from services.gateway.enrolment import EnrolAnswer, Outcome
from services.gateway.face_messages import (
    DECISIONS,
    REASONS,
    chosen_message,
    enhancement_message,
    face_message,
)
from services.gateway.gallery_models import GalleryInfo, identity_of
from services.gateway.identification import IdentifiedFace, IdentifyAnswer
from services.gateway.search_decision import FaceIdentity, IdentityDecision, Ranked
from services.gateway.subject_export import SubjectExport, vector_bytes
from services.gateway.subject_verification import VerifySubjectAnswer
from services.gateway.subjects import SubjectTemplates
from services.rpc.mien.v1 import gallery_pb2, model_pb2

_FAULTS = {cause: gallery_pb2.PictureFault.Value(f"PICTURE_FAULT_{cause.name}") for cause in Cause}
OUTCOMES = {
    outcome: gallery_pb2.EnrolmentOutcome.Value(f"ENROLMENT_OUTCOME_{outcome.name}")
    for outcome in Outcome
}
_DECISIONS = {
    one: gallery_pb2.IdentificationDecision.Value(f"IDENTIFICATION_DECISION_{one.name}")
    for one in IdentityDecision
}


def gallery_message(
    info: GalleryInfo, default_fpir: float, request_id: str
) -> gallery_pb2.DescribeGalleryResponse:
    """What a tenant may know of the gallery."""
    return gallery_pb2.DescribeGalleryResponse(
        collections=[
            gallery_pb2.GalleryCollection(
                model=identity_of(one.space),
                dimension=one.space.dimension,
                live=one.live,
                searchable=count,
            )
            for one, count in zip(info.collections, info.searchable, strict=True)
        ],
        first_model=info.first_model,
        default_fpir=default_fpir,
        request_id=request_id,
    )


def subject_message(subject: Subject) -> gallery_pb2.Subject:
    """A subject."""
    return gallery_pb2.Subject(
        id=subject.id,
        name=subject.name,
        metadata=dict(subject.metadata),
        consent=subject.consent,
        created=subject.created,
        updated=subject.updated,
    )


def subject_templates_message(
    found: SubjectTemplates, request_id: str
) -> gallery_pb2.GetSubjectResponse:
    """A subject with its templates."""
    return gallery_pb2.GetSubjectResponse(
        subject=subject_message(found.subject),
        templates=[_template(one, live=one.space == found.live) for one in found.templates],
        request_id=request_id,
    )


def export_message(found: SubjectExport, request_id: str) -> gallery_pb2.ExportSubjectResponse:
    """All that is stored of a person."""
    return gallery_pb2.ExportSubjectResponse(
        subject=subject_message(found.subject),
        templates=[
            gallery_pb2.ExportedTemplate(
                template=_template(one, live=one.space == found.live),
                vector=vector_bytes(one) if found.vectors else b"",
            )
            for one in found.templates
        ],
        idempotency_keys=found.keys,
        audit=[json.dumps(one) for one in found.audit],
        exported=found.at,
        request_id=request_id,
    )


def deletion_message(report: DeletionReport) -> gallery_pb2.DeletionReport:
    """The proof of a deletion."""
    return gallery_pb2.DeletionReport(
        subject_id=report.subject_id,
        subjects=report.subjects,
        templates=dict(report.templates),
        searchable=dict(report.searchable),
        keys=report.keys,
        remaining=dict(report.remaining),
        verified=report.verified,
        overwritten=report.overwritten,
        at=report.at,
    )


def enrol_message(answer: EnrolAnswer, request_id: str) -> gallery_pb2.EnrolResponse:
    """The answer to an enrolment."""
    return gallery_pb2.EnrolResponse(
        outcome=OUTCOMES[answer.outcome],
        subject_id=answer.subject_id,
        template_ids=answer.template_ids,
        pictures=[
            gallery_pb2.EnrolledPicture(
                used=one.used,
                faults=[_FAULTS[cause] for cause in one.faults],
                chosen=chosen_message(one.face, None),
            )
            for one in answer.pictures
        ],
        model=answer.identity,
        timing_ms=answer.stopwatch.milliseconds(),
        request_id=request_id,
    )


def bulk_message(row: BulkAnswer, request_id: str) -> gallery_pb2.BulkEnrolResponse:
    """The answer to one row of a bulk enrolment."""
    progress = row.progress
    made = gallery_pb2.BulkEnrolResponse(
        index=row.index,
        subject_id=row.subject_id,
        progress=gallery_pb2.BulkProgress(
            rows=progress.rows,
            enrolled=progress.enrolled,
            repeated=progress.repeated,
            refused=progress.refused,
            failed=progress.failed,
        ),
    )
    if isinstance(row.result, MienError):
        made.error.CopyFrom(_row_error(row.result))
    else:
        made.answer.CopyFrom(enrol_message(row.result, request_id))
    return made


def verify_message(
    answer: VerifySubjectAnswer, request_id: str
) -> gallery_pb2.VerifySubjectResponse:
    """The answer to a verification against a subject."""
    made = gallery_pb2.VerifySubjectResponse(
        decision=DECISIONS[answer.decision],
        reasons=[REASONS[str(reason)] for reason in answer.reasons],
        similarity=answer.similarity,
        template_id=answer.template_id,
        threshold=answer.point.threshold,
        fmr=answer.point.fmr,
        model=answer.identity,
        templates=answer.templates,
        timing_ms=answer.stopwatch.milliseconds(),
        request_id=request_id,
    )
    if answer.probe is not None:
        made.probe.CopyFrom(chosen_message(answer.probe, answer.enhancement))
    return made


def identify_message(answer: IdentifyAnswer, request_id: str) -> gallery_pb2.IdentifyResponse:
    """The answer to an identification."""
    point = answer.point
    return gallery_pb2.IdentifyResponse(
        pictures=[
            gallery_pb2.IdentifiedPicture(
                faces=[_face(one, answer.identity) for one in picture.faces],
                face_count=picture.face_count,
                width=picture.width,
                height=picture.height,
            )
            for picture in answer.pictures
        ],
        vectors=[_identification(one, answer.identity) for one in answer.vectors],
        threshold=point.native.threshold,
        fpir=None if point.own else point.native.fpir,
        fmr=None if point.own else point.native.fmr,
        extrapolated=not point.own and point.native.extrapolated,
        searched=point.native.templates,
        model=answer.identity,
        timing_ms=answer.stopwatch.milliseconds(),
        request_id=request_id,
    )


def _template(one: Template, *, live: bool) -> gallery_pb2.Template:
    return gallery_pb2.Template(
        id=one.id,
        model=identity_of(one.space, one.map),
        confidence=one.confidence,
        quality=one.quality,
        pictures=one.pictures,
        created=one.created,
        live=live,
    )


def _row_error(error: MienError) -> gallery_pb2.RowError:
    return gallery_pb2.RowError(
        code=error.kind.code,
        detail=error.detail,
        field=error.field or "",
        other_subject_id=error.subject_id or "",
        retry_after=error.retry_after,
    )


def _face(one: IdentifiedFace, identity: model_pb2.ModelIdentity) -> gallery_pb2.IdentifiedFace:
    return gallery_pb2.IdentifiedFace(
        face=face_message(one.face),
        enhancement=None if one.enhancement is None else enhancement_message(one.enhancement),
        identification=_identification(one.identification, identity),
    )


def _identification(
    found: FaceIdentity, identity: model_pb2.ModelIdentity
) -> gallery_pb2.Identification:
    return gallery_pb2.Identification(
        decision=_DECISIONS[found.decision],
        faults=[_FAULTS[cause] for cause in found.faults],
        candidates=[_candidate(one, identity) for one in found.candidates],
        margin=found.margin,
        least_margin=found.least_margin,
    )


def _candidate(ranked: Ranked, identity: model_pb2.ModelIdentity) -> gallery_pb2.Candidate:
    one = ranked.candidate
    model = model_pb2.ModelIdentity()
    model.CopyFrom(identity)
    if one.map:
        model.origin, model.map = model_pb2.VECTOR_ORIGIN_MAPPED, one.map
    return gallery_pb2.Candidate(
        subject_id=one.subject_id,
        template_id=one.template_id,
        similarity=one.similarity,
        threshold=ranked.threshold,
        model=model,
        confidence=one.confidence,
        quality=one.quality,
    )
