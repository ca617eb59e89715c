"""What the OpenAPI description needs beyond what FastAPI reads off the handlers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from services.errors import Errors
from services.gallery import DEFAULT_TENANT
from services.gallery.checks import ID_PATTERN, TENANT_PATTERN

FILE = {"type": "string", "contentMediaType": "application/octet-stream"}
FILES = {"type": "array", "items": FILE, "minItems": 1}
SUBJECT = "/v1/subjects/{subject_id}"
REF = "#/components/schemas/{model}"

COMMON_ERRORS = (
    Errors.INVALID_REQUEST,
    Errors.MALFORMED_BODY,
    Errors.UNSUPPORTED_MEDIA_TYPE,
    Errors.REQUEST_TOO_LARGE,
    *(error for error in Errors if error.name.startswith("IMAGE_")),
    Errors.OVERLOADED,
    Errors.DEADLINE_EXCEEDED,
)
UNAVAILABLE = (Errors.INVALID_REQUEST, Errors.GALLERY_UNAVAILABLE, Errors.AUDIT_UNAVAILABLE)
KNOWN = (Errors.SUBJECT_UNKNOWN, *UNAVAILABLE)
FACES = (
    *COMMON_ERRORS,
    Errors.FACE_INDEX_OUT_OF_RANGE,
    Errors.TEMPLATE_INVALID,
    Errors.IDENTITY_MISMATCH,
    Errors.EMBEDDING_UNAVAILABLE,
    Errors.GALLERY_MODEL_UNAVAILABLE,
    Errors.GALLERY_UNAVAILABLE,
    Errors.AUDIT_UNAVAILABLE,
)
TENANT_PARAMETER: dict[str, Any] = {
    "name": "X-Mien-Tenant",
    "in": "header",
    "description": "whose gallery; no tenant sees another's",
    "schema": {"type": "string", "default": DEFAULT_TENANT, "pattern": TENANT_PATTERN},
}
KEY_PARAMETER: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "repeating the request with its key changes nothing",
    "schema": {"type": "string", "pattern": ID_PATTERN},
}
_PATTERNS = {"subject_id": ID_PATTERN, "template_id": ID_PATTERN, "tenant": TENANT_PATTERN}


def body(
    json_model: type[BaseModel],
    form_model: type[BaseModel] | None,
    form: dict[str, Any],
    required: list[str],
    *parameters: dict[str, Any],
) -> dict[str, Any]:
    """Describes a body that may be multipart or JSON.

    Args:
        json_model: the whole as JSON.
        form_model: the form's text fields; None where it has none.
        form: schemas of the form's files, by name.
        required: the form's fields that must be there.
        parameters: header parameters.
    """
    fields = {}
    if form_model is not None:
        fields = form_model.model_json_schema(ref_template=REF)["properties"]
    multipart = {"type": "object", "properties": {**form, **fields}, "required": required}
    return {
        "parameters": list(parameters),
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": multipart},
                "application/json": {"schema": _schema(json_model)},
            },
        },
    }


def json_only(json_model: type[BaseModel], *parameters: dict[str, Any]) -> dict[str, Any]:
    """Describes a body that is JSON."""
    return {
        "parameters": list(parameters),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _schema(json_model)}},
        },
    }


def describe_names(document: dict[str, Any]) -> None:
    """Adds to an OpenAPI description what the names in the paths may consist of."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                pattern = _PATTERNS.get(parameter["name"])
                if pattern is not None and parameter["in"] == "path":
                    parameter["schema"]["pattern"] = pattern


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template=REF)
    schema.pop("$defs", None)
    return schema
