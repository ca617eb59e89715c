"""What REST requests about subjects and the gallery look like."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, model_validator

from services.gateway.faces import Selection
from services.gateway.rest.inputs import FmrField, IndexField, ThresholdField


def _parsed(value: Any) -> Any:
    """A form's field holds metadata as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


Metadata = Annotated[
    dict[str, str] | None,
    BeforeValidator(_parsed),
    Field(description="texts by name; replaces what the subject has; JSON text in a form"),
]
FpirField = Annotated[
    float,
    Field(gt=0, lt=1, description="target false-positive identification rate for the whole search"),
]
Enhance = Annotated[bool, Field(description="enhance faces that gain by it; false: none")]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid")


class IdentityBody(_Fields):
    """Identity of a vector, in full, as /v1/models tells it."""

    name: str
    version: str
    weights_sha256: str
    preprocessing_sha256: str
    origin: Literal["native", "mapped"] = "native"


class VectorBody(_Fields):
    """A vector of the caller's."""

    model: IdentityBody
    values: list[float] | str = Field(
        description="numbers, or little-endian float32 in base64", union_mode="left_to_right"
    )
    quality: float = Field(0.0, ge=0, le=100, description="unified quality of the picture")
    pictures: int = Field(1, ge=1, description="how many pictures are fused in it")


class SubjectBody(_Fields):
    """A subject to be created."""

    id: str = Field("", description="the caller's own; empty: one is made")
    name: str = ""
    metadata: dict[str, str] = {}


class ConsentBody(_Fields):
    """Consent given, or withdrawn."""

    given: StrictBool


class EnrolFields(_Fields):
    """Everything in an enrolment but pictures and vectors."""

    name: str | None = Field(None, description="replaces the subject's name")
    metadata: Metadata = None
    face: Selection = Field(
        Selection.REFUSE, description="which face, if there are several; by default that is a fault"
    )
    face_index: IndexField = 0
    poor: Literal["refuse", "leave_out"] = Field(
        "refuse",
        description="one poor picture refuses them all, or is left out of the template",
    )
    allow_duplicate: bool = Field(False, description="even if another subject has this face")


class EnrolJson(EnrolFields):
    """An enrolment as JSON: pictures or vectors."""

    pictures: list[str] = Field([], description="picture files of one person, base64")
    vectors: list[VectorBody] = Field([], description="vectors, each a template")


class EnrolRow(EnrolJson):
    """One row of a bulk enrolment."""

    subject_id: str
    key: str = Field("", description="idempotency key of this row; empty: made of the header's")


class VerifySubjectFields(_Fields):
    """Everything in a verification against a subject but the probe."""

    fmr: FmrField | None = None
    threshold: ThresholdField | None = None
    face: Selection = Field(Selection.LARGEST, description="which face, if there are several")
    face_index: IndexField = 0
    enhance: Enhance = True

    @model_validator(mode="after")
    def _one_operating_point(self) -> VerifySubjectFields:
        if self.fmr is not None and self.threshold is not None:
            raise ValueError("name either fmr or threshold, not both")
        return self


class VerifySubjectJson(VerifySubjectFields):
    """A verification against a subject as JSON: a picture or a vector."""

    picture: str | None = Field(None, description="picture file, base64")
    vector: VectorBody | None = None


class IdentifyFields(_Fields):
    """Everything in an identification but pictures and vectors."""

    limit: int = Field(5, ge=1, le=100, description="most candidates for each face")
    fpir: FpirField | None = None
    threshold: ThresholdField | None = None
    enhance: Enhance = True

    @model_validator(mode="after")
    def _one_operating_point(self) -> IdentifyFields:
        if self.fpir is not None and self.threshold is not None:
            raise ValueError("name either fpir or threshold, not both")
        return self


class IdentifyJson(IdentifyFields):
    """An identification as JSON: pictures or vectors."""

    pictures: list[str] = Field([], description="picture files, base64; all their faces are meant")
    vectors: list[VectorBody] = []
