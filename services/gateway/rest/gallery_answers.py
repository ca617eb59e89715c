"""Makes REST answers about subjects and the gallery from the core's answers."""

from __future__ import annotations

import base64

from services.errors import MienError
from services.gallery import DeletionReport, Page, Space, Subject
from services.gateway.bulk_enrolment import BulkAnswer, outcome_of
from services.gateway.enrolment import EnrolAnswer
from services.gateway.gallery_models import GalleryInfo, identity_of
from services.gateway.identification import IdentifyAnswer
from services.gateway.rest.answers import chosen_out, enhancement_out, face_out
from services.gateway.rest.gallery_schemas import (
    BulkRowOut,
    CandidateOut,
    CollectionOut,
    ConsentOut,
    CreatedOut,
    DeletionOut,
    EnrolledPictureOut,
    EnrolOut,
    ExportedTemplateOut,
    ExportOut,
    GalleryOut,
    IdentificationOut,
    IdentifiedFaceOut,
    IdentifiedPictureOut,
    IdentifyOut,
    ProgressOut,
    RowErrorOut,
    SubjectOut,
    SubjectsOut,
    SubjectTemplatesOut,
    TemplateModelOut,
    TemplateOut,
    VerifySubjectOut,
)
from services.gateway.search_decision import FaceIdentity, Ranked
from services.gateway.subject_export import SubjectExport, vector_bytes
from services.gateway.subject_verification import VerifySubjectAnswer
from services.gateway.subjects import Created, SubjectTemplates
from services.rpc.mien.v1 import model_pb2

_DIGITS = 6


def gallery_out(info: GalleryInfo, default_fpir: float, request_id: str) -> GalleryOut:
    """Makes the answer to /v1/gallery."""
    return GalleryOut(
        collections=[
            CollectionOut(
                model=_space(one.space),
                dimension=one.space.dimension,
                live=one.live,
                searchable=count,
            )
            for one, count in zip(info.collections, info.searchable, strict=True)
        ],
        first_model=info.first_model or None,
        default_fpir=default_fpir,
        request_id=request_id,
    )


def created_out(made: Created, request_id: str) -> CreatedOut:
    """Makes the answer to the creation of a subject."""
    return CreatedOut(subject=_subject(made.subject), repeated=made.repeated, request_id=request_id)


def consent_out(subject: Subject, request_id: str) -> ConsentOut:
    """Makes the answer to a change of consent."""
    return ConsentOut(subject=_subject(subject), request_id=request_id)


def subjects_out(page: Page[Subject], request_id: str) -> SubjectsOut:
    """Makes a page of subjects."""
    return SubjectsOut(
        subjects=[_subject(one) for one in page.rows],
        cursor=page.cursor or None,
        request_id=request_id,
    )


def subject_templates_out(found: SubjectTemplates, request_id: str) -> SubjectTemplatesOut:
    """Makes one subject with its templates."""
    return SubjectTemplatesOut(
        subject=_subject(found.subject),
        templates=[
            TemplateOut(
                id=one.id,
                model=_space(one.space, one.map),
                confidence=round(one.confidence, _DIGITS),
                quality=round(one.quality, 1),
                pictures=one.pictures,
                created=one.created,
                live=one.space == found.live,
            )
            for one in found.templates
        ],
        request_id=request_id,
    )


def export_out(found: SubjectExport, request_id: str) -> ExportOut:
    """Makes all that is stored of a person."""
    plain = subject_templates_out(
        SubjectTemplates(found.subject, found.templates, found.live), request_id
    )
    return ExportOut(
        subject=plain.subject,
        templates=[
            ExportedTemplateOut(
                **dict(shown),
                vector=base64.b64encode(vector_bytes(one)).decode() if found.vectors else None,
            )
            for shown, one in zip(plain.templates, found.templates, strict=True)
        ],
        idempotency_keys=found.keys,
        audit=found.audit,
        exported=found.at,
        request_id=request_id,
    )


def deletion_out(report: DeletionReport, request_id: str) -> DeletionOut:
    """Makes the proof of a deletion."""
    return DeletionOut(
        subject_id=report.subject_id or None,
        subjects=report.subjects,
        templates=dict(report.templates),
        searchable=dict(report.searchable),
        keys=report.keys,
        remaining=dict(report.remaining),
        verified=report.verified,
        overwritten=report.overwritten,
        at=report.at,
        request_id=request_id,
    )


def enrol_out(answer: EnrolAnswer, request_id: str) -> EnrolOut:
    """Makes the answer to an enrolment."""
    return EnrolOut(
        outcome=answer.outcome.value,
        subject_id=answer.subject_id,
        template_ids=list(answer.template_ids),
        pictures=[
            EnrolledPictureOut(
                used=one.used,
                reasons=[cause.value for cause in one.faults],
                chosen=chosen_out(one.face, None),
            )
            for one in answer.pictures
        ],
        model=_model(answer.identity),
        timing_ms=answer.stopwatch.milliseconds(),
        request_id=request_id,
    )


def bulk_row_out(row: BulkAnswer, total: int, request_id: str) -> BulkRowOut:
    """Makes one line of the answer to a bulk enrolment."""
    failed = row.result if isinstance(row.result, MienError) else None
    done = None if isinstance(row.result, MienError) else row.result
    return BulkRowOut(
        index=row.index,
        subject_id=row.subject_id or None,
        outcome=outcome_of(row.result),
        answer=None if done is None else enrol_out(done, request_id),
        error=None
        if failed is None
        else RowErrorOut(
            code=failed.kind.code,
            detail=failed.detail,
            field=failed.field,
            subject_id=failed.subject_id,
            retry_after=failed.retry_after,
        ),
        progress=ProgressOut.model_validate(row.progress, from_attributes=True),
        total=total,
    )


def verify_subject_out(answer: VerifySubjectAnswer, request_id: str) -> VerifySubjectOut:
    """Makes the answer to a verification against a subject."""
    value = answer.similarity
    return VerifySubjectOut(
        decision=answer.decision.value,
        reasons=[str(reason) for reason in answer.reasons],
        similarity=None if value is None else round(value, _DIGITS),
        template_id=answer.template_id or None,
        threshold=round(answer.point.threshold, _DIGITS),
        fmr=answer.point.fmr,
        model=_model(answer.identity),
        templates=answer.templates,
        probe=None if answer.probe is None else chosen_out(answer.probe, answer.enhancement),
        timing_ms=answer.stopwatch.milliseconds(),
        request_id=request_id,
    )


def identify_out(answer: IdentifyAnswer, request_id: str) -> IdentifyOut:
    """Makes the answer to an identification."""
    identity, point = answer.identity, answer.point
    return IdentifyOut(
        pictures=[
            IdentifiedPictureOut(
                faces=[
                    IdentifiedFaceOut(
                        face=face_out(one.face),
                        enhancement=None
                        if one.enhancement is None
                        else enhancement_out(one.enhancement, show=False),
                        **_identification(one.identification, identity).model_dump(),
                    )
                    for one in picture.faces
                ],
                face_count=picture.face_count,
                width=picture.width,
                height=picture.height,
            )
            for picture in answer.pictures
        ],
        vectors=[_identification(one, identity) for one in answer.vectors],
        threshold=round(point.native.threshold, _DIGITS),
        fpir=None if point.own else point.native.fpir,
        fmr=None if point.own else point.native.fmr,
        extrapolated=not point.own and point.native.extrapolated,
        searched=point.native.templates,
        model=_model(identity),
        timing_ms=answer.stopwatch.milliseconds(),
        request_id=request_id,
    )


def _identification(found: FaceIdentity, identity: model_pb2.ModelIdentity) -> IdentificationOut:
    return IdentificationOut(
        decision=found.decision.value,
        reasons=[cause.value for cause in found.faults],
        candidates=[_candidate(one, identity) for one in found.candidates],
        margin=None if found.margin is None else round(found.margin, _DIGITS),
        least_margin=round(found.least_margin, _DIGITS),
    )


def _candidate(ranked: Ranked, identity: model_pb2.ModelIdentity) -> CandidateOut:
    one = ranked.candidate
    return CandidateOut(
        subject_id=one.subject_id,
        template_id=one.template_id,
        similarity=round(one.similarity, _DIGITS),
        threshold=round(ranked.threshold, _DIGITS),
        model=_model(identity, one.map),
        confidence=round(one.confidence, _DIGITS),
        quality=round(one.quality, 1),
    )


def _subject(subject: Subject) -> SubjectOut:
    return SubjectOut(
        id=subject.id,
        name=subject.name,
        metadata=dict(subject.metadata),
        consent=subject.consent,
        created=subject.created,
        updated=subject.updated,
    )


def _space(space: Space, map_name: str = "") -> TemplateModelOut:
    return _model(identity_of(space, map_name))


def _model(identity: model_pb2.ModelIdentity, map_name: str = "") -> TemplateModelOut:
    mapped = map_name or identity.map
    return TemplateModelOut(
        name=identity.name,
        version=identity.version,
        weights_sha256=identity.weights_sha256,
        preprocessing_sha256=identity.preprocessing_sha256,
        origin="mapped" if mapped else "native",
        map=mapped or None,
    )
