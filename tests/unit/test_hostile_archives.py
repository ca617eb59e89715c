"""Archives and lines that unpack to more than they seem to hold."""

from __future__ import annotations

import io
import resource
import zipfile

import pytest
from starlette.requests import Request
from starlette.types import Message

from services.errors import Errors, MienError
from services.gateway.bulk_enrolment import Row
from services.gateway.rest.bodies import parsed_json
from services.gateway.rest.bulk_rows import JSON_LINES, ZIP, read_rows
from services.settings import Settings

_BOMB_BYTES = 120 << 20
_FAIR_MEMORY = 60 << 20


def archive(method: int, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as packed:
        packed.writestr("anna/1.png", content)
    return out.getvalue()


async def rows_of(body: bytes, kind: str = ZIP) -> list[Row]:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", kind.encode())]
    scope = {"type": "http", "method": "POST", "headers": headers, "query_string": b""}
    return [one async for one in (await read_rows(Request(scope, receive), Settings())).rows]


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
async def test_archives_that_cannot_be_unpacked_in_part_are_refused(method: int) -> None:
    body = archive(method, bytes(_BOMB_BYTES))
    assert len(body) < 100_000
    before = peak()
    (row,) = await rows_of(body)
    assert isinstance(row, MienError)
    assert row.error is Errors.MALFORMED_BODY
    assert peak() - before < _FAIR_MEMORY


async def test_of_a_deflated_bomb_no_more_is_unpacked_than_a_picture_may_have() -> None:
    (row,) = await rows_of(archive(zipfile.ZIP_DEFLATED, bytes(_BOMB_BYTES)))
    assert not isinstance(row, MienError)
    assert len(row.pictures[0].data) == Settings().image.max_bytes + 1


async def test_an_archive_whose_directory_lies_before_its_beginning_is_refused() -> None:
    body = bytearray(archive(zipfile.ZIP_STORED, b"x"))
    end = body.rindex(b"PK\x05\x06")
    body[end + 12 : end + 16] = (end + 155).to_bytes(4, "little")  # size of the directory
    with pytest.raises(MienError) as refused:
        await rows_of(bytes(body))
    assert refused.value.error is Errors.MALFORMED_BODY


async def test_an_archive_with_a_file_without_a_name_is_refused() -> None:
    body = archive(zipfile.ZIP_STORED, b"x").replace(b"anna/1.png", b"\0nna/1.png")
    with pytest.raises(MienError) as refused:  # the library ends names at zero bytes
        await rows_of(body)
    assert refused.value.error is Errors.MALFORMED_BODY


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"\n" * 5_000_000, JSON_LINES), (b"\r" * 5_000_000, JSON_LINES)],
)
async def test_millions_of_empty_lines_are_refused(body: bytes, kind: str) -> None:
    with pytest.raises(MienError) as refused:
        await rows_of(body, kind)
    assert refused.value.error is Errors.REQUEST_TOO_LARGE


async def test_archives_of_a_million_entries_are_refused() -> None:
    entry = archive(zipfile.ZIP_STORED, b"")
    entry = entry[entry.index(b"PK\x01\x02") : entry.rindex(b"PK\x05\x06")]
    with pytest.raises(MienError) as refused:
        await rows_of(entry * 1_000_000)
    assert refused.value.error is Errors.REQUEST_TOO_LARGE


def test_json_of_millions_of_small_values_is_refused_before_it_is_made() -> None:
    before = peak()
    for text in (b"[" + b"[]," * 5_000_000 + b"0]", b"[" + b"{}," * 5_000_000 + b"0]"):
        with pytest.raises(MienError) as refused:
            parsed_json(text)
        assert refused.value.error is Errors.REQUEST_TOO_LARGE
    assert peak() - before < _FAIR_MEMORY
