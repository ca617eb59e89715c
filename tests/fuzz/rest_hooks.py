"""What schemathesis needs to know of Mien: bodies that no schema tells, and a check of its own."""

from __future__ import annotations

import io
import json
import os
import zipfile
from typing import Any

import schemathesis
from hypothesis import strategies as st

from services.errors import BY_CODE
from tests.hostile import encoded, gradient

KEPT_KEY = "FUZZ_KEPT_KEY"
_PICTURE = encoded(gradient(), "PNG")
_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}
_names = st.text(st.sampled_from("ab/.\\\0é_0"), max_size=12)
_files = st.one_of(st.binary(max_size=60), st.just(_PICTURE))


def _archive(members: dict[str, bytes], cut: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for name, data in members.items():
            packed.writestr(zipfile.ZipInfo(name or "x"), data)
    return out.getvalue()[: -cut or None]


def _lines(rows: list[Any], end: bytes) -> bytes:
    return b"\n".join(json.dumps(row).encode() for row in rows) + end


_row = st.fixed_dictionaries(
    {"subject_id": st.one_of(_names, st.just("anna"))},
    optional={
        "pictures": st.lists(st.one_of(st.just("aGVsbG8="), _names), max_size=2),
        "metadata": st.dictionaries(_names, _names, max_size=2),
        "name": _names,
        "key": _names,
        "vectors": st.lists(st.none(), max_size=2),
    },
)
schemathesis.openapi.media_type(
    "application/zip",
    st.builds(_archive, st.dictionaries(_names, _files, max_size=3), st.integers(0, 40)),
)
schemathesis.openapi.media_type(
    "application/x-ndjson",
    st.builds(_lines, st.lists(st.one_of(_row, st.integers(), st.none())), st.binary(max_size=8)),
)


@schemathesis.hook
def before_call(_: Any, case: Any, **__: Any) -> None:
    """The key of this run stays: without it every answer would be 401."""
    named = case.path_parameters or {}
    if "/v1/keys/" in case.operation.path and named.get("id") == os.environ[KEPT_KEY]:
        named["id"] = "another"


@schemathesis.check
def refusals_are_problems(_: Any, response: Any, case: Any) -> None:
    """Every refusal is problem+json of the catalogue, every answer carries the safety headers."""
    told = {name.lower(): value[0] for name, value in response.headers.items()}
    for name, value in _HEADERS.items():
        assert told.get(name) == value, f"{name} is {told.get(name)}"
    assert told.get("x-request-id"), "there is no request id"
    if response.status_code < 400 or case.method.upper() == "HEAD":
        return
    assert told.get("content-type") == "application/problem+json", told.get("content-type")
    problem = json.loads(response.content)
    assert BY_CODE[problem["code"]].value.http == problem["status"] == response.status_code
