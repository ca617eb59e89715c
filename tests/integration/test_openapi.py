"""The OpenAPI description: current, complete, and with examples that are true."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, ValidationError

from services.errors import BY_CODE
from services.gateway.rest.document import openapi_text
from services.gateway.rest.schemas import DetectOut, ModelsOut, ProblemOut, VerifyOut

_DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    described: dict[str, Any] = json.loads(openapi_text())
    return described


def test_the_committed_description_is_current() -> None:
    assert _DOCUMENT.read_text(encoding="utf-8") == openapi_text(), (
        "run: mien openapi docs/openapi.json"
    )


def test_the_description_is_served(light: httpx.Client) -> None:
    served = light.get("/openapi.json").json()
    assert served["paths"].keys() == json.loads(openapi_text())["paths"].keys()


def test_the_description_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert {"title", "version"} <= set(document["info"])
    operations = [
        operation
        for path in document["paths"].values()
        for method, operation in path.items()
        if method in ("get", "post", "put", "delete", "patch")
    ]
    ids = [operation["operationId"] for operation in operations]
    assert sorted(ids) == [
        "createKey", "createSubject", "deleteSubject", "deleteTemplate", "deleteTenant",
        "describeGallery", "detect", "enrol", "enrolMany", "exportSubject", "getMigration",
        "getShadowReport", "getSubject", "identify", "listDataKeys", "listKeys", "listMigrations",
        "listModels", "listSubjects", "live", "pauseMigration", "planMigration", "ready",
        "resumeMigration", "revokeKey", "rewrapDataKeys", "rollBackMigration", "rotateDataKeys",
        "rotateKey", "runRetention", "setConsent", "startMigration", "switchMigration", "verify",
        "verifySubject",
    ]  # fmt: skip
    for operation in operations:
        for status, answer in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d", status)
            assert answer["description"]


def test_every_reference_in_the_description_leads_somewhere(document: dict[str, Any]) -> None:
    references = list(_values(document, "$ref"))
    assert references
    for reference in references:
        assert reference.startswith("#/"), reference
        target: Any = document
        for part in reference[2:].split("/"):
            assert part in target, reference
            target = target[part]


def test_every_example_has_its_schemas_shape(document: dict[str, Any]) -> None:
    shapes: dict[str, type[BaseModel]] = {
        shape.__name__: shape for shape in (DetectOut, VerifyOut, ModelsOut, ProblemOut)
    }
    checked = set()
    for operation in (op for path in document["paths"].values() for op in path.values()):
        for status, answer in operation["responses"].items():
            for content in answer.get("content", {}).values():
                name = content["schema"]["$ref"].rpartition("/")[2]
                examples = [e["value"] for e in content.get("examples", {}).values()]
                if "example" in content:
                    examples.append(content["example"])
                for example in examples:
                    shapes[name].model_validate(example, strict=False)
                    assert set(example) <= set(shapes[name].model_fields)
                    assert example.get("status", int(status)) == int(status)
                    checked.add(name)
    assert {"DetectOut", "VerifyOut", "ProblemOut"} <= checked


def test_a_wrong_example_would_be_noticed(document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/verify"]["post"]["responses"]["200"]["content"]
    example = content["application/json"]["example"]
    with pytest.raises(ValidationError):
        VerifyOut.model_validate(example | {"decision": "perhaps"})
    with pytest.raises(ValidationError):
        VerifyOut.model_validate(example | {"unheard_of": 1})


def test_every_error_that_is_answered_is_described(document: dict[str, Any]) -> None:
    responses = document["paths"]["/v1/verify"]["post"]["responses"]
    described = {
        code
        for answer in responses.values()
        for content in answer["content"].values()
        for code in content.get("examples", {})
    }
    expected = {code for code in BY_CODE if code.startswith("image_")} | {
        "invalid_request", "malformed_body", "unsupported_media_type", "request_too_large",
        "face_index_out_of_range", "model_unknown", "threshold_unknown", "overloaded",
        "embedding_unavailable", "deadline_exceeded",
    }  # fmt: skip
    assert expected <= described


def _values(node: Any, key: str) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key and isinstance(value, str):
                yield value
            else:
                yield from _values(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from _values(value, key)
