"""What REST answers when it is asked for what it cannot do."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.gateway.core import Gateway
from services.gateway.embedding_client import EmbeddingLink
from tests.hostile import encoded, gradient
from tests.integration.harness import Mien, mien_in_thread, settings_on_free_ports
from tests.integration.pictures import faceless, jpeg
from tests.integration.rest import NEVER_READ, base64_of, files, problem


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"fmr": "1e-3", "threshold": "0.3"}, None, "invalid_request"),
        ({"fmr": "0"}, "fmr", "invalid_request"),
        ({"fmr": "1"}, "fmr", "invalid_request"),
        ({"fmr": "nan"}, "fmr", "invalid_request"),
        ({"fmr": "often"}, "fmr", "invalid_request"),
        ({"fmr": "0.0005"}, "fmr", "threshold_unknown"),
        ({"threshold": "inf"}, "threshold", "invalid_request"),
        ({"threshold": "nan"}, "threshold", "invalid_request"),
        ({"model": "nobody"}, "model", "model_unknown"),
        ({"model": "poseface@99"}, "model", "model_unknown"),
        ({"model": "x" * 101}, "model", "invalid_request"),
        ({"face": "prettiest"}, "face", "invalid_request"),
        ({"face": "index", "probe_index": "-1"}, "probe_index", "invalid_request"),
        ({"face": "index", "reference_index": "one"}, "reference_index", "invalid_request"),
        ({"colour": "blue"}, "colour", "invalid_request"),
    ],
)
def test_a_wrong_field_is_named(
    light: httpx.Client, fields: dict[str, str], field: str | None, code: str
) -> None:
    picture = faceless()
    given = files(probe=picture, reference=picture)
    told = problem(light.post("/v1/verify", data=fields, files=given), code)
    assert told.get("field") == field
    body = {"probe": base64_of(picture), "reference": base64_of(picture), **fields}
    told = problem(light.post("/v1/verify", json=body), code)
    assert told.get("field") == field


def test_an_unknown_fmr_says_which_are_known(light: httpx.Client) -> None:
    given = files(probe=faceless(), reference=faceless())
    told = problem(light.post("/v1/verify", data={"fmr": "0.2"}, files=given), "threshold_unknown")
    assert "0.01, 0.001, 0.0001" in told["detail"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ([("reference", NEVER_READ)], "probe"),
        ([("probe", NEVER_READ)], "reference"),
        ([("probe", NEVER_READ), ("probe", NEVER_READ), ("reference", NEVER_READ)], "probe"),
        ([("probe", NEVER_READ), ("reference", NEVER_READ), ("portrait", NEVER_READ)], "portrait"),
        ([("probe", NEVER_READ), ("reference", NEVER_READ), ("fmr", NEVER_READ)], "fmr"),
        ([("probe", (None, b"text")), ("reference", NEVER_READ)], "probe"),
        ([("probe", NEVER_READ), ("reference", (None, b"text"))], "reference"),
        (
            [("probe", NEVER_READ), ("reference", NEVER_READ)] + [("face", (None, b"refuse"))] * 2,
            "face",
        ),
    ],
)
def test_a_wrong_part_is_named(light: httpx.Client, given: Any, field: str) -> None:
    assert problem(light.post("/v1/verify", files=given), "invalid_request")["field"] == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "probe"),
        ({"probe": "AAAA"}, "reference"),
        ({"probe": "AAAA", "references": []}, "reference"),
        ({"probe": "AAAA", "references": ["AAAA"] * 3}, "references"),
        ({"probe": "no base64!", "reference": "AAAA"}, "probe"),
        ({"probe": "AAAA", "reference": "A"}, "reference"),
        ({"probe": "AAAA", "references": ["AAAA", "*"]}, "references[1]"),
        ({"probe": 7, "reference": "AAAA"}, "probe"),
        ({"probe": "AAAA", "references": "AAAA"}, "references"),
        ({"probe": "AAAA", "references": ["AAAA", None]}, "references.1"),
        ([], None),
        ("text", None),
        (None, None),
    ],
)
def test_a_wrong_json_member_is_named(light: httpx.Client, body: Any, field: str | None) -> None:
    told = problem(
        light.post("/v1/verify", content=json.dumps(body), headers=_JSON), "invalid_request"
    )
    assert told.get("field") == field


_JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("path", ["/v1/verify", "/verify", "/v1/detect"])
def test_a_body_that_cannot_be_read(light: httpx.Client, path: str) -> None:
    problem(light.post(path, content=b'{"probe": ', headers=_JSON), "malformed_body")
    no_boundary = {"content-type": "multipart/form-data"}
    problem(light.post(path, content=b"--x--", headers=no_boundary), "malformed_body")


@pytest.mark.parametrize("path", ["/v1/verify", "/v1/detect"])
@pytest.mark.parametrize(
    "media_type",
    [None, "image/jpeg", "text/plain", "application/x-www-form-urlencoded", "nonsense"],
)
def test_a_wrong_content_type(light: httpx.Client, path: str, media_type: str | None) -> None:
    headers = {} if media_type is None else {"content-type": media_type}
    problem(light.post(path, content=b"{}", headers=headers), "unsupported_media_type")


def test_too_many_references(light: httpx.Client) -> None:
    given = [("probe", NEVER_READ)] + [("reference", NEVER_READ)] * 3
    assert (
        problem(light.post("/v1/verify", files=given), "invalid_request")["field"] == "references"
    )
    given += [("reference", NEVER_READ)]
    problem(light.post("/v1/verify", files=given), "malformed_body")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "image_empty"),
        (b"GIF89a" + bytes(50), "image_unsupported_format"),
        (encoded(gradient(), "JPEG")[:400], "image_truncated"),
        (encoded(gradient(8, 8), "PNG"), "image_too_small"),
        (encoded(gradient(300, 300), "BMP"), "image_too_many_bytes"),
        (encoded(gradient().convert("1").resize((9000, 9000)), "PNG"), "image_too_many_pixels"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "image_corrupt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_picture_that_cannot_be_used(light: httpx.Client, data: bytes, code: str) -> None:
    assert problem(light.post("/v1/detect", files=files(image=data)), code)["field"] == "image"
    good = faceless()
    response = light.post("/v1/verify", files=files(probe=good, reference=data))
    assert problem(response, code)["field"] == "reference"
    given = [("probe", ("a", good)), ("reference", ("b", good)), ("reference", ("c", data))]
    response = light.post("/v1/verify", files=given)
    assert problem(response, code)["field"] == "references[1]"


def test_nothing_at_an_unknown_address(light: httpx.Client) -> None:
    for path in ("/", "/v1/nothing", "/v2/verify", "/v1/verify/", "/metrics/x"):
        problem(light.get(path), "not_found")


def test_a_wrong_method_is_told_the_right_one(light: httpx.Client) -> None:
    for method, path, allowed in (
        ("GET", "/v1/verify", "POST"),
        ("PUT", "/v1/detect", "POST"),
        ("DELETE", "/v1/models", "GET"),
        ("POST", "/healthz/live", "GET"),
        ("PUT", "/v1/subjects", "GET, POST"),
        ("PUT", "/v1/subjects/anna", "DELETE, GET"),
    ):
        response = light.request(method, path)
        problem(response, "method_not_allowed")
        assert response.headers["allow"] == allowed


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("media_type", ["application/json", "multipart/form-data; boundary=x"])
def test_an_oversized_body_is_refused(
    weightless_mien: Mien, media_type: str, chunked: bool
) -> None:
    size = 2_000_000  # the limit: three pictures of 200,000 bytes as base64, and some slack
    start = b'--x\r\nContent-Disposition: form-data; name="probe"; filename="p"\r\n\r\n'

    def pieces() -> Iterator[bytes]:
        yield start
        for _ in range(size // 10_000):
            yield bytes(10_000)

    content: Any = pieces() if chunked else b"".join(pieces())
    with weightless_mien.client() as client:
        response = client.post("/v1/verify", content=content, headers={"content-type": media_type})
        problem(response, "request_too_large")
        assert client.get("/healthz/live").status_code == 200


def test_what_is_left_of_a_refused_body_is_no_head_of_the_next_request(
    weightless_mien: Mien,
) -> None:
    size, rest = 2_000_000, 40_000  # more in the last piece than a head may have
    host = b" HTTP/1.1\r\nHost: x\r\n"
    head = b"POST /v1/verify" + host + b"Content-Type: application/json\r\n"
    address = httpx.URL(weightless_mien.rest_url)
    with socket.create_connection((address.host, address.port), timeout=20) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % size + bytes(size - rest))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")
        connection.sendall(bytes(rest) + b"GET /healthz/live" + host + b"Connection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert b"HTTP/1.1 200 " in answer


def test_a_failure_inside_tells_nothing(
    light: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(Gateway, "detect", fail)
    response = light.post("/v1/detect", files=files(image=b"x"), headers={"x-request-id": "mine"})
    told = problem(response, "internal")
    assert told["request_id"] == "mine"
    assert "secret" not in response.text


def test_a_request_that_takes_too_long(mien_home: Path) -> None:
    settings = settings_on_free_ports(mien_home, timeout_seconds=0.001)
    # Only requests get so little time; without more, Mien itself would not start.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.gateway.server.EmbeddingClient", _patient_client)
        with mien_in_thread(settings) as running, running.client() as client:
            response = client.post("/v1/detect", files=files(image=jpeg(gradient(3000, 3000))))
            problem(response, "deadline_exceeded")


def _patient_client(link: EmbeddingLink, _: float) -> Any:
    from services.gateway.embedding_client import EmbeddingClient  # noqa: PLC0415 - unpatched

    return EmbeddingClient(link, 30.0)
