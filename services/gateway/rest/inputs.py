"""Reads REST requests: multipart or JSON, into the core's commands."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from services.errors import Errors, MienError
from services.gateway.core import PictureInput, VerifyCommand
from services.gateway.faces import FaceChoice, Selection

_TEXT_FIELDS = 16
_TEXT_BYTES = 4096
_Model = TypeVar("_Model", bound=BaseModel)

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
    include: Annotated[list[Literal["enhanced"]], BeforeValidator(_listed)] = Field(
        [], description="what the answer is to hold besides: enhanced faces, as PNG in base64"
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
    if _media_type(request) == "application/json":
        body = _validated(VerifyJson, await _json(request))
        given = ([body.reference] if body.reference is not None else []) + (body.references or [])
        probe = _decoded(body.probe, "probe")
        references = [_decoded(text, _reference_field(i, given)) for i, text in enumerate(given)]
        return _command(body, probe, references, max_references)
    form = await _form(request, max_references + 1)
    try:
        fields = _validated(VerifyFields, _texts(form, {"probe", "reference", "references"}))
        probes = await _files(form, "probe")
        if len(probes) != 1:
            raise _invalid("probe", "Exactly one probe picture is needed.")
        references = [*await _files(form, "reference"), *await _files(form, "references")]
        return _command(fields, probes[0], references, max_references)
    finally:
        await form.close()


async def read_detect(request: Request) -> bytes:
    """Reads a detection: the picture file.

    Raises:
        MienError: names the field at fault.
    """
    if _media_type(request) == "application/json":
        return _decoded(_validated(DetectJson, await _json(request)).image, "image")
    form = await _form(request, 1)
    try:
        _validated(_NoFields, _texts(form, {"image"}))
        files = await _files(form, "image")
        if len(files) != 1:
            raise _invalid("image", "Exactly one picture is needed.")
        return files[0]
    finally:
        await form.close()


class _NoFields(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _command(
    fields: VerifyFields, probe: bytes, references: list[bytes], max_references: int
) -> VerifyCommand:
    if not references:
        raise _invalid("reference", "At least one reference picture is needed.")
    if len(references) > max_references:
        raise _invalid("references", f"At most {max_references} references are accepted.")
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
    )


def _media_type(request: Request) -> str:
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type not in ("application/json", "multipart/form-data"):
        raise MienError(
            Errors.UNSUPPORTED_MEDIA_TYPE,
            "The body must be multipart/form-data or application/json.",
        )
    return media_type


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise MienError(Errors.MALFORMED_BODY, "The body is not JSON.") from error


async def _form(request: Request, max_files: int) -> FormData:
    try:
        return await request.form(
            max_files=max_files + 1, max_fields=_TEXT_FIELDS, max_part_size=_TEXT_BYTES
        )
    except (HTTPException, MultiPartException, UnicodeError) as error:  # last: an odd charset
        raise MienError(
            Errors.MALFORMED_BODY,
            f"The multipart body cannot be read, or holds more than {max_files} files.",
        ) from error


def _texts(form: FormData, pictures: set[str]) -> dict[str, str]:
    """The form's text fields. A picture that was sent as text is an error, not a field."""
    texts: dict[str, str] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name not in pictures:
                raise _invalid(name[:64], "No file is expected under this name.")
        elif name in pictures:
            raise _invalid(name, "Send this field as a file (with a filename).")
        elif name in texts:
            raise _invalid(name[:64], "This field is given twice.")
        else:
            texts[name] = value
    return texts


async def _files(form: FormData, name: str) -> list[bytes]:
    return [await file.read() for file in form.getlist(name) if isinstance(file, UploadFile)]


def _decoded(text: str, field: str) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid(field, "The picture must be base64.") from error


def _reference_field(index: int, given: list[str]) -> str:
    return "reference" if len(given) == 1 else f"references[{index}]"


def _validated(model: type[_Model], value: Any) -> _Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in fault["loc"])[:64] or None
        told = fault["msg"].removeprefix("Value error, ")
        raise _invalid(field, f"{told[:1].upper()}{told[1:]}.") from error


def _invalid(field: str | None, detail: str) -> MienError:
    return MienError(Errors.INVALID_REQUEST, detail, field=field)
