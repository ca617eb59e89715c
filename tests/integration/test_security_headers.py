"""Answers tell browsers to keep, sniff, frame and run nothing, whatever was asked."""

from __future__ import annotations

import httpx
import pytest

_ALWAYS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz/live", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/metrics", 200),
        ("GET", "/nowhere", 404),
        ("PUT", "/v1/verify", 405),
        ("POST", "/v1/verify", 415),
        ("GET", "/v1/subjects?limit=x", 422),
    ],
)
def test_every_answer_carries_them(
    light: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = light.request(method, path)
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in _ALWAYS} == _ALWAYS
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "server" not in answer.headers
    assert "strict-transport-security" not in answer.headers  # it is not spoken to over TLS


def test_a_page_may_run_its_own_scripts(light: httpx.Client) -> None:
    answer = light.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "content-security-policy" not in answer.headers
    assert answer.headers["x-frame-options"] == "DENY"
