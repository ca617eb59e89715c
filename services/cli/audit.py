"""`mien audit`: verify the audit log, show and export what it says, archive what is old."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from services.audit.anchor import AnchorKey
from services.audit.archive import parts_before, shorten, write_archive
from services.audit.read import Filter, Record, read
from services.audit.record import Action
from services.audit.segment import Segment, join, verify_segment
from services.audit.trail import Trail, anchor_key, place_of
from services.audit.verify import Checked, Verdict
from services.audit.verify import verify as verify_log
from services.cli.context import command_settings, run
from services.cli.faces import JsonOption
from services.cli.output import out, print_json
from services.errors import Errors, MienError
from services.settings import Settings, SettingsError

app = typer.Typer(help="The audit log: verify, show, export, archive.", no_args_is_help=True)

FolderOption = Annotated[
    Path | None, typer.Option(help="Of the log; none: that of the configured gallery.")
]
SinceOption = Annotated[str, typer.Option(help="Least time, ISO 8601 in UTC.")]
SegmentOption = Annotated[
    list[Path] | None, typer.Option("--segment", help="Archived records too; may be repeated.")
]
TenantOption = Annotated[str, typer.Option(help="Whose data; none: everybody's.")]


@app.command()
def verify(
    segments: Annotated[
        list[Path] | None, typer.Argument(help="Archived records; none: the log itself.")
    ] = None,
    head: Annotated[
        str, typer.Option(help="Hash of a record that must be there, noted earlier elsewhere.")
    ] = "",
    folder: FolderOption = None,
    as_json: JsonOption = False,
) -> int:
    """Check every record, every chain and every signature. Exit code: 0 it holds, 1 it does not.

    Of archived records, that they lead to each other and to the log without a gap, too.
    """
    at, key = _log(folder)
    if segments:
        return _verify_segments(segments, at, key, head, as_json=as_json)
    verdict = verify_log(at, key, head)
    if as_json:
        print_json(_told(verdict))
    else:
        _show(verdict)
    return 0 if verdict.holds else 1


@app.command()
def show(
    subject: Annotated[str, typer.Option(help="Id of the subject.")],
    tenant: TenantOption = "",
    since: SinceOption = "",
    segments: SegmentOption = None,
    folder: FolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was done to a subject, by time."""
    at, key = _log(folder)
    asked = read(at, Filter(tenant, subject, since), key, segments or ())
    found = sorted(asked, key=lambda one: str(one["at"]))
    if as_json:
        print_json({"records": found})
        return
    table = Table("when", "who", "tenant", "action", "outcome", "request")
    for one in found:
        names = ("at", "who", "tenant", "action", "outcome", "request")
        table.add_row(*(str(one.get(name, "")) for name in names))
    out.print(table)


@app.command()
def export(
    tenant: TenantOption = "",
    since: SinceOption = "",
    file: Annotated[Path | None, typer.Option("--out", help="Write here; else print.")] = None,
    segments: SegmentOption = None,
    folder: FolderOption = None,
) -> None:
    """Write all records as JSON lines, with the name of the file that each is from."""
    at, _ = _log(folder)
    found = read(at, Filter(tenant, since=since), segments=segments or ())
    if file is None:
        sys.stdout.writelines(_lines(found))
        return
    with file.open("w", encoding="ascii") as opened:
        opened.writelines(_lines(found))


@app.command()
def archive(
    before: Annotated[str, typer.Option(help="Least time that stays, ISO 8601 in UTC.")],
    file: Annotated[Path, typer.Option("--out", help="Put older records here.")],
    folder: FolderOption = None,
) -> None:
    """Move old records into a file that proves itself; the log goes on from its end.

    Mien may run meanwhile. Killed at any moment, it has lost nothing: run it again, with another
    file.
    """
    limit = _past(before)
    settings = _settings(folder)
    at, key = _opened(settings)
    parts = parts_before(at, key, limit)
    count = sum(one.last - one.first + 1 for one in parts)
    if not count:
        out.print("Nothing is older: the log stays as it is.")
        return
    draft, mark = write_archive(file, at, key, parts, limit)
    about = {"segment": mark, "last": {one.file: one.last for one in parts}}

    async def work() -> None:
        trail = Trail(settings)
        try:
            async with trail.change(Action.LOG_ARCHIVE, about=about, counts={"records": count}):
                await asyncio.to_thread(shorten, draft, file, at, key, parts)
        finally:
            draft.unlink(missing_ok=True)
            await trail.close()

    run(work())
    out.print(f"{count} records are in {file} now, signed.", markup=False, soft_wrap=True)


def _past(text: str) -> datetime:
    try:
        given = datetime.fromisoformat(text)
    except ValueError as error:
        raise MienError(
            Errors.INVALID_REQUEST, "A time is like 2026-01-01 or 2026-01-01T12:00.", field="before"
        ) from error
    limit = given if given.tzinfo is not None else given.replace(tzinfo=UTC)
    if limit > datetime.now(UTC):
        raise MienError(Errors.INVALID_REQUEST, "It must not be in the future.", field="before")
    return limit


def _verify_segments(
    files: Sequence[Path], at: Path, key: AnchorKey, head: str, *, as_json: bool
) -> int:
    segments = [verify_segment(file, key) for file in files]
    join([one for one in segments if one.holds], at, key)
    found = any(head in one.hashes.values() for one in segments) if head else None
    holds = all(one.holds for one in segments) and found is not False
    if as_json:
        told = [{"file": one.name, "faults": one.faults, **_files(one.checked)} for one in segments]
        print_json({"holds": holds, "segments": told, "head_found": found})
        return 0 if holds else 1
    for one in segments:
        _show_segment(one)
    _conclude("The archive", holds=holds, head_found=found)
    return 0 if holds else 1


def _lines(found: Iterator[Record]) -> Iterator[str]:
    for one in found:
        yield json.dumps(one, sort_keys=True) + "\n"


def _log(folder: Path | None) -> tuple[Path, AnchorKey]:
    return _opened(_settings(folder))


def _settings(folder: Path | None) -> Settings:
    settings = command_settings()
    if folder is None:
        return settings
    audit = settings.audit.model_copy(update={"folder": folder})
    return settings.model_copy(update={"audit": audit})


def _opened(settings: Settings) -> tuple[Path, AnchorKey]:
    place = place_of(settings)
    if not place.folder.is_dir():
        raise SettingsError(f"MIEN_AUDIT__FOLDER: there is no audit log at {place.folder}")
    return place.folder, anchor_key(settings, place)


def _told(verdict: Verdict) -> dict[str, object]:
    return {
        "holds": verdict.holds,
        **_files(verdict.files),
        "missing": verdict.missing,
        "head_found": verdict.head_found,
    }


def _files(checked: Sequence[Checked]) -> dict[str, object]:
    names = ("file", "archived", "records", "head", "anchored")
    return {
        "files": [
            {
                **{name: getattr(one, name) for name in names},
                "faults": [{"line": line, "why": why} for line, why in one.faults],
            }
            for one in checked
        ]
    }


def _show(verdict: Verdict) -> None:
    for one in verdict.files:
        _show_file(one)
    for name in verdict.missing:
        out.print(f"{name} is missing", markup=False)
    _conclude("The log", holds=verdict.holds, head_found=verdict.head_found)


def _show_segment(segment: Segment) -> None:
    out.print(f"{segment.name}:", markup=False, soft_wrap=True)
    for one in segment.checked:
        _show_file(one)
    for why in segment.faults:
        out.print(f"  {why}", markup=False, soft_wrap=True)


def _show_file(one: Checked) -> None:
    behind = f" behind {one.archived} archived" if one.archived else ""
    out.print(
        f"{one.file}: {one.records} records{behind}, signed up to {one.anchored}, head {one.head}",
        markup=False,
        soft_wrap=True,
    )
    for line, why in one.faults:
        out.print(f"  {f'record {line}: ' if line else ''}{why}", markup=False)


def _conclude(what: str, *, holds: bool, head_found: bool | None) -> None:
    if head_found is False:
        out.print("no record has the hash that was asked for")
    out.print(f"{what} holds." if holds else f"{what.upper()} DOES NOT HOLD.")
