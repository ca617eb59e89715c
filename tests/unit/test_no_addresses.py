"""Nobody can make Mien fetch an address or open a file: no request has a place for either."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor

import services.rpc.inference as inference_package
import services.rpc.mien.v1 as mien_package
from services.gateway.rest.document import openapi_text

_SUSPECT = re.compile(
    r"(^|_)(ur[lin]|href|link|path|file|filename|dir|directory|folder|host|address|endpoint|"
    r"webhook|callback|proxy|source|target|bucket|command|template)s?($|_)"
)
# Fields of requests that only sound like it.
_INNOCENT = {
    "mien.v1.DeleteTemplateRequest.template_id": "id of a stored template",
    "DELETE /v1/subjects/{subject_id}/templates/{template_id}: template_id": "the same over REST",
    "mien.v1.EmbedRequest.templates": "groups of pictures that are fused",
    **dict.fromkeys(
        (
            f"mien.v1.{place}.{end}"
            for place in ("MapRequest", "MapStreamRequest.batch")
            for end in ("source", "target")
        ),
        "identity of a model; vectors of another are refused",
    ),
}


def fields_of_rest() -> Iterator[str]:
    """All names in requests: parameters, and properties of bodies, however deep."""
    document = json.loads(openapi_text())
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            place = f"{method.upper()} {path}"
            for parameter in operation.get("parameters", []):
                yield f"{place}: {parameter['name']}"
            for body in operation.get("requestBody", {}).get("content", {}).values():
                for name in _properties(body["schema"], document["components"]["schemas"], ()):
                    yield f"{place}: {name}"


def _properties(schema: Any, shapes: dict[str, Any], above: tuple[str, ...]) -> Iterator[str]:
    if isinstance(schema, list):
        for one in schema:
            yield from _properties(one, shapes, above)
    if not isinstance(schema, dict):
        return
    if schema.get("format") in ("uri", "uri-reference", "path", "file-path", "hostname"):
        yield "url"
    name = schema.get("$ref", "").rpartition("/")[2]
    if name and name not in above:
        yield from _properties(shapes[name], shapes, (*above, name))
    for key, value in schema.get("properties", {}).items():
        yield key
        yield from _properties(value, shapes, above)
    for key in ("items", "anyOf", "oneOf", "allOf", "additionalProperties"):
        yield from _properties(schema.get(key), shapes, above)


def fields_of_grpc() -> Iterator[str]:
    """All fields of all messages that can be sent to a method."""
    for package in (mien_package, inference_package):
        for module in pkgutil.iter_modules(package.__path__):
            if module.name.endswith("_pb2"):
                described = importlib.import_module(f"{package.__name__}.{module.name}").DESCRIPTOR
                for service in described.services_by_name.values():
                    for method in service.methods:
                        yield from _fields(method.input_type, method.input_type.full_name, ())


def _fields(kind: Descriptor, place: str, above: tuple[str, ...]) -> Iterator[str]:
    for field in kind.fields:
        yield f"{place}.{field.name}"
        inner = field.message_type
        if inner is not None and inner.full_name not in above:
            yield from _fields(inner, f"{place}.{field.name}", (*above, inner.full_name))


def _suspects(names: Iterator[str], separator: str) -> set[str]:
    return {
        name
        for name in names
        if _SUSPECT.search(name.rpartition(separator)[2].lower().replace("-", "_"))
    }


def test_no_field_of_a_request_names_an_address_or_a_file() -> None:
    found = _suspects(fields_of_rest(), " ") | _suspects(fields_of_grpc(), ".")
    assert found == _INNOCENT.keys() & found, sorted(found - _INNOCENT.keys())


def test_no_exception_is_kept_for_a_field_that_is_gone() -> None:
    known = {*fields_of_rest(), *fields_of_grpc()}
    assert known >= _INNOCENT.keys(), sorted(_INNOCENT.keys() - known)


def test_the_walk_sees_fields_however_deep() -> None:
    assert "POST /v1/subjects/{subject_id}/templates: weights_sha256" in set(fields_of_rest())
    assert "mien.v1.BulkEnrolRequest.enrolment.pictures.content" in set(fields_of_grpc())
    assert _suspects(iter(["POST /x: callback_url", "POST /x: name"]), " ")
