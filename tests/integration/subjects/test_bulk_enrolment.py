"""Bulk enrolment over REST: row by row, in order, with what failed told and the rest stored."""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from typing import Any

import httpx
import pytest

from services.gateway.rest.gallery_schemas import BulkRowOut
from tests.integration.pictures import faceless
from tests.integration.rest import base64_of, problem
from tests.integration.subjects.people import Identity, axis, given, identified


def post_rows(api: httpx.Client, *rows: Any, **headers: str) -> httpx.Response:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    content = b"\n".join(lines)
    headers = {"content-type": "application/x-ndjson"} | headers
    return api.post("/v1/enrolments", content=content, headers=headers)


def answers(response: httpx.Response) -> list[BulkRowOut]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [BulkRowOut.model_validate_json(line) for line in response.text.splitlines()]


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return out.getvalue()


def post_archive(api: httpx.Client, content: bytes, **query: str) -> httpx.Response:
    headers = {"content-type": "application/zip"}
    return api.post("/v1/enrolments", content=content, headers=headers, params=query)


def test_bad_rows_do_not_stop_the_good_ones(
    light_api: httpx.Client, light_identity: Identity
) -> None:
    def row(subject: str, number: int, **fields: Any) -> dict[str, Any]:
        return {"subject_id": subject, "vectors": [given(axis(number), light_identity)], **fields}

    told = answers(
        post_rows(
            light_api,
            row("a", 1, name="Ada"),
            b"{no json",
            row("b", 1),
            row("has space", 2),
            {"subject_id": "c", "pictures": [base64_of(faceless())]},
            {"subject_id": "d", "vectors": [{"model": light_identity, "values": [1.0]}]},
            row("e", 5),
        )
    )
    assert [one.index for one in told] == list(range(7))
    assert [one.outcome for one in told] == [
        "enrolled", "failed", "failed", "failed", "refused", "failed", "enrolled",
    ]  # fmt: skip
    errors = [one.error.code for one in told if one.error]
    assert errors == ["malformed_body", "duplicate_subject", "invalid_request", "template_invalid"]
    assert told[2].error is not None
    assert told[2].error.subject_id == "a"
    assert told[5].error is not None
    assert told[5].error.field == "vector"
    assert told[4].answer is not None
    assert told[4].answer.pictures[0].reasons == ["no_face"]
    assert {one.total for one in told} == {7}
    last = told[-1].progress
    assert (last.rows, last.enrolled, last.refused, last.failed) == (7, 2, 1, 4)
    assert [one.progress.rows for one in told] == list(range(1, 8))
    subjects = light_api.get("/v1/subjects").json()["subjects"]
    assert [(one["id"], one["name"]) for one in subjects] == [("a", "Ada"), ("e", "")]


def test_a_bulk_enrolment_is_repeated_safely_under_its_key(
    light_api: httpx.Client, light_identity: Identity
) -> None:
    rows = [
        {"subject_id": f"s-{number}", "vectors": [given(axis(number), light_identity)]}
        for number in range(3)
    ]
    key = {"idempotency-key": "import-1"}
    first = answers(post_rows(light_api, *rows[:2], b"{", **key))
    assert [one.outcome for one in first] == ["enrolled", "enrolled", "failed"]
    again = answers(post_rows(light_api, *rows, **key))
    assert [one.outcome for one in again] == ["repeated", "repeated", "enrolled"]
    assert again[-1].progress.repeated == 2
    for number in range(3):
        assert len(light_api.get(f"/v1/subjects/s-{number}").json()["templates"]) == 1
    own = rows[0] | {"key": "of-its-own", "allow_duplicate": True}
    assert answers(post_rows(light_api, own, **key))[0].outcome == "enrolled"
    assert answers(post_rows(light_api, own))[0].outcome == "repeated"


def test_an_archive_holds_a_folder_for_each_subject(
    api: httpx.Client, obama: bytes, obama2: bytes, biden: bytes
) -> None:
    packed = archive(
        {
            "barack/1.jpg": obama,
            "barack/old/2.jpg": obama2,
            "joe/1.jpg": biden,
            "nobody/1.jpg": faceless(),
            "torn/1.jpg": obama[:500],
            "barack/.DS_Store": b"not a picture",
            "__MACOSX/barack/1.jpg": b"not a picture",
        }
    )
    told = answers(post_archive(api, packed))
    assert [(one.subject_id or "", one.outcome) for one in told] == [
        ("barack", "enrolled"),
        ("joe", "enrolled"),
        ("nobody", "refused"),
        ("torn", "failed"),
    ]
    assert told[0].answer is not None
    assert [one.used for one in told[0].answer.pictures] == [True, True]
    assert told[3].error is not None
    assert (told[3].error.code, told[3].error.field) == ("image_truncated", "picture")
    found = api.post("/v1/identify", files={"picture": obama}).json()["pictures"][0]["faces"][0]
    assert found["candidates"][0]["subject_id"] == "barack"
    again = answers(post_archive(api, archive({"twin/1.jpg": obama}), allow_duplicate="true"))
    assert again[0].outcome == "enrolled"


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + bytes(40)])
def test_what_is_no_archive_is_refused(light_api: httpx.Client, content: bytes) -> None:
    problem(post_archive(light_api, content), "malformed_body")


def test_a_damaged_archive_fails_its_row(light_api: httpx.Client) -> None:
    packed = bytearray(archive({"a/1.jpg": faceless()}))
    packed[200] ^= 0xFF
    (row,) = answers(post_archive(light_api, bytes(packed)))
    assert row.error is not None
    assert row.error.code == "malformed_body"


def test_a_picture_may_not_unpack_to_more_than_the_limit(light_api: httpx.Client) -> None:
    (row,) = answers(post_archive(light_api, archive({"a/1.jpg": bytes(50_000_000)})))
    assert row.error is not None
    assert row.error.code == "image_too_many_bytes"


def test_a_request_without_rows_is_refused(light_api: httpx.Client) -> None:
    problem(post_rows(light_api), "invalid_request")
    problem(post_archive(light_api, archive({})), "invalid_request")
    problem(post_archive(light_api, archive({"loose.jpg": b"x"})), "invalid_request")
    wrong = post_archive(light_api, archive({"a/1.jpg": b"x"}), colour="blue")
    assert problem(wrong, "invalid_request")["field"] == "colour"
    response = light_api.post("/v1/enrolments", json={"subject_id": "s"})
    problem(response, "unsupported_media_type")
    problem(post_rows(light_api, {}, **{"x-mien-tenant": "a b"}), "invalid_request")


def test_rows_come_back_before_the_last_is_done_and_a_caller_may_hang_up(
    light_api: httpx.Client, light_identity: Identity
) -> None:
    rows = [
        {"subject_id": f"s-{number}", "vectors": [given(axis(number), light_identity)]}
        for number in range(20)
    ]
    content = b"\n".join(json.dumps(row).encode() for row in rows)
    headers = {"content-type": "application/x-ndjson"}
    for _ in range(4 * len(os.sched_getaffinity(0)) + 1):  # more than there are places
        request = light_api.build_request(
            "POST", "/v1/enrolments", content=content, headers=headers
        )
        streamed = light_api.send(request, stream=True)
        while streamed.status_code == 429:
            streamed.close()
            time.sleep(0.1)
            streamed = light_api.send(request, stream=True)
        first = json.loads(next(streamed.iter_lines()))
        streamed.close()
        assert (first["index"], first["total"]) == (0, 20)
    assert identified(light_api, axis(0), light_identity)["decision"] == "known"
