"""Reads bodies: multipart or JSON, with errors that name the field at fault."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from services.errors import Errors, MienError

_TEXT_FIELDS = 16
_TEXT_BYTES = 4096
# Small values take twenty times their text in memory: 32 vectors of 2048 numbers are 65,536.
_JSON_VALUES = 262_144
_Model = TypeVar("_Model", bound=BaseModel)


JSON = "application/json"
FORM = "multipart/form-data"


def media_type(request: Request, *accepted: str) -> str:
    """The body's media type.

    Raises:
        MienError: it is none of those ``accepted``: multipart or JSON where none is named.
    """
    wanted = accepted or (FORM, JSON)
    given = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if given not in wanted:
        raise MienError(Errors.UNSUPPORTED_MEDIA_TYPE, f"The body must be {' or '.join(wanted)}.")
    return given


async def json_body(request: Request) -> Any:
    """The body as JSON.

    Raises:
        MienError: it is none.
    """
    return parsed_json(await request.body())


def parsed_json(text: bytes | str) -> Any:
    """A JSON text.

    Raises:
        MienError: it is none, or holds more values than any request needs.
    """
    text = text.encode() if isinstance(text, str) else text
    if sum(map(text.count, (b",", b"[", b"{"))) > _JSON_VALUES:
        raise MienError(
            Errors.REQUEST_TOO_LARGE, f"At most {_JSON_VALUES} values are accepted in one JSON."
        )
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MienError(Errors.MALFORMED_BODY, "The body is not JSON.") from error


async def form_body(request: Request, max_files: int) -> FormData:
    """The body as a form, to be closed by the caller.

    Raises:
        MienError: it cannot be read, or holds too many files.
    """
    try:
        return await request.form(
            max_files=max_files + 1, max_fields=_TEXT_FIELDS, max_part_size=_TEXT_BYTES
        )
    except (HTTPException, MultiPartException, UnicodeError) as error:  # last: an odd charset
        raise MienError(
            Errors.MALFORMED_BODY,
            f"The multipart body cannot be read, or holds more than {max_files} files.",
        ) from error


def texts(form: FormData, pictures: set[str]) -> dict[str, str]:
    """The form's text fields.

    Raises:
        MienError: a picture was sent as text, a text as a file, or a field twice.
    """
    found: dict[str, str] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name not in pictures:
                raise invalid(name[:64], "No file is expected under this name.")
        elif name in pictures:
            raise invalid(name, "Send this field as a file (with a filename).")
        elif name in found:
            raise invalid(name[:64], "This field is given twice.")
        else:
            found[name] = value
    return found


async def files(form: FormData, name: str) -> list[bytes]:
    """The form's files of that name."""
    return [await file.read() for file in form.getlist(name) if isinstance(file, UploadFile)]


def decoded(text: str, field: str) -> bytes:
    """A picture file from base64, or from a data URL.

    Raises:
        MienError: it is none.
    """
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(field, "The picture must be base64.") from error


def validated(model: type[_Model], value: Any) -> _Model:
    """The value in its model.

    Raises:
        MienError: names the first field at fault.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in fault["loc"])[:64] or None
        told = fault["msg"].removeprefix("Value error, ")
        raise invalid(field, f"{told[:1].upper()}{told[1:]}.") from error


def invalid(field: str | None, detail: str) -> MienError:
    """The error of a field that is not valid."""
    return MienError(Errors.INVALID_REQUEST, detail, field=field)
