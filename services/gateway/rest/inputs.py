"""Reads REST requests: multipart or JSON, into the core's commands."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from starlette.requests import Request

from services.gateway.core import PictureInput, VerifyCommand
from services.gateway.faces import FaceChoice, Selection
from services.gateway.rest.bodies import (
    JSON,
    decoded,
    files,
    form_body,
    invalid,
    json_body,
    media_type,
    texts,
    validated,
)

FmrField = Annotated[
    float, Field(gt=0, lt=1, description="target false-match rate, one of the model's card")
]
ThresholdField = Annotated[
    float, Field(allow_inf_nan=False, description="a similarity threshold of your own")
]
IndexField = Annotated[int, Field(ge=0, description="used with face=index; 0 is the largest")]


def _listed(value: Any) -> Any:
    """A form's field holds its words with commas between them."""
    if not isinstance(value, str):
        return value
    return [word.strip() for word in value.split(",") if word.strip()]


class VerifyFields(BaseModel):
    """Everything in a verification but the pictures."""

    model_config = ConfigDict(extra="forbid")

    fmr: FmrField | None = None
    threshold: ThresholdField | None = None
    model: str = Field("", max_length=100, description="name or name@version; empty: default")
    face: Selection = Field(Selection.LARGEST, description="which face, if there are several")
    probe_index: IndexField = 0
    reference_index: IndexField = 0
    enhance: bool = Field(True, description="enhance faces that gain by it; false: none")
    include: Annotated[list[Literal["enhanced", "aligned"]], BeforeValidator(_listed)] = Field(
        [],
        description="what the answer is to hold besides: enhanced faces, aligned faces, as PNG in "
        "base64",
    )

    @model_validator(mode="after")
    def _one_operating_point(self) -> VerifyFields:
        if self.fmr is not None and self.threshold is not None:
            raise ValueError("name either fmr or threshold, not both")
        return self


class VerifyJson(VerifyFields):
    """A verification as JSON; pictures are base64."""

    probe: str = Field(description="picture file, base64")
    reference: str | None = Field(None, description="picture file, base64")
    references: list[str] | None = Field(None, description="several picture files, base64")


class DetectJson(BaseModel):
    """A detection as JSON."""

    model_config = ConfigDict(extra="forbid")

    image: str = Field(description="picture file, base64")


async def read_verify(request: Request, max_references: int) -> VerifyCommand:
    """Reads a verification.

    Raises:
        MienError: names the field at fault.
    """
    if media_type(request) == JSON:
        body = validated(VerifyJson, await json_body(request))
        given = ([body.reference] if body.reference is not None else []) + (body.references or [])
        probe = decoded(body.probe, "probe")
        references = [decoded(text, _reference_field(i, given)) for i, text in enumerate(given)]
        return _command(body, probe, references, max_references)
    form = await form_body(request, max_references + 1)
    try:
        fields = validated(VerifyFields, texts(form, {"probe", "reference", "references"}))
        probes = await files(form, "probe")
        if len(probes) != 1:
            raise invalid("probe", "Exactly one probe picture is needed.")
        references = [*await files(form, "reference"), *await files(form, "references")]
        return _command(fields, probes[0], references, max_references)
    finally:
        await form.close()


async def read_detect(request: Request) -> bytes:
    """Reads a detection: the picture file.

    Raises:
        MienError: names the field at fault.
    """
    if media_type(request) == JSON:
        return decoded(validated(DetectJson, await json_body(request)).image, "image")
    form = await form_body(request, 1)
    try:
        validated(_NoFields, texts(form, {"image"}))
        given = await files(form, "image")
        if len(given) != 1:
            raise invalid("image", "Exactly one picture is needed.")
        return given[0]
    finally:
        await form.close()


class _NoFields(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _command(
    fields: VerifyFields, probe: bytes, references: list[bytes], max_references: int
) -> VerifyCommand:
    if not references:
        raise invalid("reference", "At least one reference picture is needed.")
    if len(references) > max_references:
        raise invalid("references", f"At most {max_references} references are accepted.")
    return VerifyCommand(
        probe=PictureInput(probe, FaceChoice(fields.face, fields.probe_index)),
        references=tuple(
            PictureInput(data, FaceChoice(fields.face, fields.reference_index))
            for data in references
        ),
        fmr=fields.fmr,
        threshold=fields.threshold,
        model=fields.model,
        enhance=fields.enhance,
        show_enhanced="enhanced" in fields.include,
        show_aligned="aligned" in fields.include,
    )


def _reference_field(index: int, given: list[str]) -> str:
    return "reference" if len(given) == 1 else f"references[{index}]"
