"""Rows of a bulk enrolment: JSON lines, or an archive with a folder for each subject."""

from __future__ import annotations

import asyncio
import io
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from starlette.requests import Request

from services.errors import Errors, MienError
from services.gateway.bulk_enrolment import Row
from services.gateway.core import PictureInput
from services.gateway.enrol_command import EnrolCommand, row_key
from services.gateway.faces import FaceChoice
from services.gateway.rest.bodies import invalid, media_type, parsed_json, validated
from services.gateway.rest.gallery_bodies import EnrolFields, EnrolRow
from services.gateway.rest.gallery_inputs import enrol_command, key_of
from services.settings import Settings

JSON_LINES = "application/x-ndjson"
ZIP = "application/zip"
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,  # an entry that lies before the archive's beginning
)
# Of these alone the library unpacks no more than is asked for.
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_NO_PICTURES = ("__MACOSX",)
_ENDS = 4  # ends of lines for each row: CR and LF, and an empty line
_ENTRY = b"PK\x01\x02"  # begins each entry of an archive's directory
_ASIDE = 4  # entries of each folder that are no pictures


@dataclass(frozen=True)
class Rows:
    """Rows of one request, and how many there are."""

    total: int
    rows: AsyncIterator[Row]


async def read_rows(request: Request, settings: Settings) -> Rows:
    """Reads the body; each row is read when its turn comes, and fails by itself.

    Raises:
        MienError: the body is neither, is no archive, or holds too many rows.
    """
    key = key_of(request)
    if media_type(request, JSON_LINES, ZIP) == JSON_LINES:
        body = await request.body()
        _check_count(body.count(b"\n") + body.count(b"\r"), _ENDS * settings.enrolment.max_rows)
        lines = [line for line in body.splitlines() if line.strip()]
        _check(len(lines), settings)
        return Rows(len(lines), _rows_of_lines(lines, key))
    options = validated(EnrolFields, dict(request.query_params))
    body = await request.body()
    most = settings.enrolment.max_rows * (settings.enrolment.max_pictures + _ASIDE)
    _check_count(body.count(_ENTRY), most)
    archive = _opened(body)
    folders = _folders(archive)
    _check(len(folders), settings)
    return Rows(len(folders), _rows_of_archive(archive, folders, options, key, settings))


def _check(rows: int, settings: Settings) -> None:
    if not rows:
        raise invalid(None, "The body holds no rows.")
    if rows > settings.enrolment.max_rows:
        raise invalid(None, f"At most {settings.enrolment.max_rows} rows are accepted.")


def _check_count(count: int, most: int) -> None:
    """Looks before anything is made of the body: each line or entry takes more than its bytes."""
    if count > most:
        raise MienError(
            Errors.REQUEST_TOO_LARGE, f"At most {most} lines or files are accepted in one body."
        )


async def _rows_of_lines(lines: list[bytes], key: str) -> AsyncIterator[Row]:
    for index, line in enumerate(lines):
        try:
            row = validated(EnrolRow, parsed_json(line))
            own = row.key or row_key(key, index, row.subject_id)
            yield enrol_command(row, row.subject_id, own)
        except MienError as error:
            yield error


async def _rows_of_archive(
    archive: zipfile.ZipFile,
    folders: dict[str, list[zipfile.ZipInfo]],
    options: EnrolFields,
    key: str,
    settings: Settings,
) -> AsyncIterator[Row]:
    choice = FaceChoice(options.face, options.face_index)
    for index, (subject_id, members) in enumerate(folders.items()):
        try:
            given = await asyncio.to_thread(_pictures, archive, members, settings)
        except MienError as error:
            yield error
            continue
        yield EnrolCommand(
            subject_id,
            tuple(PictureInput(data, choice) for data in given),
            name=options.name,
            metadata=options.metadata,
            key=row_key(key, index, subject_id),
            allow_duplicate=options.allow_duplicate,
            leave_out_poor=options.poor == "leave_out",
        )


def _opened(body: bytes) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(body))
    except _BROKEN as error:
        raise MienError(Errors.MALFORMED_BODY, "The body is no ZIP archive.") from error


def _folders(archive: zipfile.ZipFile) -> dict[str, list[zipfile.ZipInfo]]:
    """The pictures of each subject, in the order of their names."""
    folders: dict[str, list[zipfile.ZipInfo]] = {}
    for member in sorted(archive.infolist(), key=lambda one: one.filename):
        if not member.filename:
            raise MienError(Errors.MALFORMED_BODY, "A file of the archive has no name.")
        path = PurePosixPath(member.filename)
        hidden = path.name.startswith(".") or path.parts[:1] == _NO_PICTURES
        if member.is_dir() or hidden:
            continue
        if len(path.parts) < 2:
            raise invalid(None, "Each picture lies in a folder named by the subject's id.")
        folders.setdefault(path.parts[0], []).append(member)
    return folders


def _pictures(
    archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], settings: Settings
) -> list[bytes]:
    """The files of one subject; one more than allowed is enough to be refused for it."""
    read = []
    for index, member in enumerate(members[: settings.enrolment.max_pictures + 1]):
        if member.compress_type not in _BOUNDED:
            raise MienError(
                Errors.MALFORMED_BODY,
                "Files of the archive are stored or deflated.",
                field=f"pictures[{index}]",
            )
        try:
            with archive.open(member) as file:
                data = file.read(settings.image.max_bytes + 1)
        except _BROKEN as error:
            raise MienError(
                Errors.MALFORMED_BODY,
                "A file of the archive cannot be read.",
                field=f"pictures[{index}]",
            ) from error
        read.append(data)
    return read
