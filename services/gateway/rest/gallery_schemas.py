"""What REST answers about subjects and the gallery look like."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.rest.schemas import ChosenFaceOut, EnhancementOut, FaceOut


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TemplateModelOut(_Answer):
    """Identity of stored vectors."""

    name: str
    version: str
    weights_sha256: str
    preprocessing_sha256: str
    origin: Literal["native", "mapped"]
    map: str | None = Field(description="name@version of the map; null for native vectors")


class SubjectOut(_Answer):
    """A person that templates belong to."""

    id: str
    name: str
    metadata: dict[str, str]
    consent: bool = Field(description="false once it is withdrawn: nothing finds the templates")
    created: float = Field(description="seconds since the epoch")
    updated: float = Field(description="seconds since the epoch")


class CreatedOut(_Answer):
    """Answer to the creation of a subject."""

    subject: SubjectOut
    repeated: bool = Field(description="the idempotency key's subject was there already")
    request_id: str


class ConsentOut(_Answer):
    """Answer to a change of consent."""

    subject: SubjectOut
    request_id: str


class SubjectsOut(_Answer):
    """A page of subjects."""

    subjects: list[SubjectOut] = Field(description="by id")
    cursor: str | None = Field(description="fetches the next page; null at the end")
    request_id: str


class TemplateOut(_Answer):
    """A stored template without its vector."""

    id: str
    model: TemplateModelOut
    confidence: float = Field(description="the map's predicted cosine; 1 for a native one")
    quality: float = Field(description="unified quality of the best picture")
    pictures: int = Field(description="how many were fused")
    created: float = Field(description="seconds since the epoch")
    live: bool = Field(description="of the model version that is searched")


class SubjectTemplatesOut(_Answer):
    """One subject with its templates."""

    subject: SubjectOut
    templates: list[TemplateOut] = Field(description="of all model versions, oldest first")
    request_id: str


class ExportedTemplateOut(TemplateOut):
    """A stored template, with its vector if it was asked for."""

    vector: str | None = Field(
        description="little-endian float32 as base64; null unless it was asked for"
    )


class ExportOut(_Answer):
    """All that is stored of a person."""

    subject: SubjectOut
    templates: list[ExportedTemplateOut] = Field(description="of all model versions, oldest first")
    idempotency_keys: list[str]
    audit: list[dict[str, Any]] = Field(description="records that name the subject, by time")
    exported: float = Field(description="seconds since the epoch")
    request_id: str


class DeletionOut(_Answer):
    """What was deleted, and what a second look found."""

    subject_id: str | None = Field(description="null where a single template was deleted")
    subjects: int
    templates: dict[str, int] = Field(description="deleted, by collection")
    searchable: dict[str, int] = Field(description="taken out of search, by collection")
    keys: int = Field(description="idempotency keys deleted")
    remaining: dict[str, int] = Field(
        description="left by place, read back afterwards: all 0; 1 for a "
        "cache that could not be looked at"
    )
    verified: bool = Field(description="the second look found nothing")
    overwritten: bool = Field(description="the store also overwrote the bytes on its disk")
    at: float = Field(description="seconds since the epoch")
    request_id: str


Fault = Literal["no_face", "several_faces", "poor_quality", "extreme_pose"]


class EnrolledPictureOut(_Answer):
    """One picture of an enrolment."""

    used: bool = Field(description="it is part of the template")
    reasons: list[Fault] = Field(description="why it was not fit")
    chosen: ChosenFaceOut


class EnrolOut(_Answer):
    """Answer to an enrolment."""

    outcome: Literal["enrolled", "repeated", "refused"] = Field(
        description="repeated: the key was used for the same enrolment before; refused: pictures "
        "were too poor and nothing was stored"
    )
    subject_id: str
    template_ids: list[str] = Field(
        description="one for each template; the live model's first where pictures were given"
    )
    pictures: list[EnrolledPictureOut] = Field(
        description="one for each picture; empty where the enrolment is repeated"
    )
    model: TemplateModelOut = Field(description="the live model")
    timing_ms: dict[str, float]
    request_id: str


class RowErrorOut(_Answer):
    """Why a row failed; `docs/errors.md` lists the codes."""

    code: str
    detail: str
    field: str | None
    subject_id: str | None = Field(description="the other subject, with duplicate_subject")
    retry_after: float | None = Field(description="seconds after which the row may be sent again")


class ProgressOut(_Answer):
    """How far a bulk enrolment has come."""

    rows: int
    enrolled: int
    repeated: int
    refused: int
    failed: int


class BulkRowOut(_Answer):
    """One line of the answer to a bulk enrolment."""

    index: int = Field(description="of the row, from 0")
    subject_id: str | None
    outcome: Literal["enrolled", "repeated", "refused", "failed"]
    answer: EnrolOut | None = Field(description="null where the row failed")
    error: RowErrorOut | None
    progress: ProgressOut
    total: int = Field(description="rows of the request")


class VerifySubjectOut(_Answer):
    """Answer to a verification against a subject."""

    decision: Literal["same", "different", "inconclusive"]
    reasons: list[str] = Field(description="why it is inconclusive, as for /v1/verify")
    similarity: float | None = Field(description="to the template that decided")
    template_id: str | None
    threshold: float
    fmr: float | None = Field(
        description="false-match rate of one comparison; null for your own threshold"
    )
    model: TemplateModelOut = Field(description="of the template that decided")
    templates: int = Field(description="how many were compared")
    probe: ChosenFaceOut | None = Field(description="null where a vector was given")
    timing_ms: dict[str, float]
    request_id: str


class CandidateOut(_Answer):
    """A subject that resembles a probe, by its most similar template."""

    subject_id: str
    template_id: str
    similarity: float
    threshold: float = Field(description="mapped templates have thresholds of their own")
    model: TemplateModelOut
    confidence: float
    quality: float


class IdentificationOut(_Answer):
    """Who a face or a vector is."""

    decision: Literal["known", "unknown", "ambiguous", "too_poor"]
    reasons: list[Fault] = Field(description="why it is too poor")
    candidates: list[CandidateOut] = Field(description="best first")
    margin: float | None = Field(
        description="by which the first leads the second, each above its threshold"
    )
    least_margin: float = Field(description="that an unambiguous first needs")


class IdentifiedFaceOut(IdentificationOut):
    """A face and who it is."""

    face: FaceOut
    enhancement: EnhancementOut | None


class IdentifiedPictureOut(_Answer):
    """The faces of one picture."""

    faces: list[IdentifiedFaceOut] = Field(description="largest box first")
    face_count: int = Field(description="more than there are `faces` where the limit was reached")
    width: int
    height: int


class IdentifyOut(_Answer):
    """Answer to an identification."""

    pictures: list[IdentifiedPictureOut]
    vectors: list[IdentificationOut]
    threshold: float = Field(description="for native templates")
    fpir: float | None = Field(
        description="false-positive identification rate that it was set for; null for your own"
    )
    fmr: float | None = Field(description="of one comparison, that this rate asks for")
    extrapolated: bool = Field(description="the threshold lies beyond those that were fitted")
    searched: int = Field(description="templates that each probe was compared with")
    model: TemplateModelOut = Field(description="the live model")
    timing_ms: dict[str, float]
    request_id: str


class CollectionOut(_Answer):
    """One model version's templates."""

    model: TemplateModelOut
    dimension: int
    live: bool
    searchable: int = Field(description="templates of the tenant that a search compares with")


class GalleryOut(_Answer):
    """Answer to /v1/gallery."""

    collections: list[CollectionOut] = Field(description="the live one first")
    first_model: str | None = Field(
        description="what the first enrolment will use; null once a model is live"
    )
    default_fpir: float
    request_id: str
