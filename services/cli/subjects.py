"""`mien subjects` and `mien identify`: stored people, in process on the configured gallery."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from services.audit.trail import Trail
from services.cli.context import command_settings, run
from services.cli.faces import JsonOption, PictureArgument
from services.cli.output import err, out, print_json
from services.gallery import DEFAULT_TENANT
from services.gallery.open import open_gallery
from services.gateway.core import PictureInput
from services.gateway.enrol_command import EnrolCommand
from services.gateway.faces import FaceChoice, Selection
from services.gateway.gallery_access import GalleryAccess
from services.gateway.gallery_core import GalleryGateway
from services.gateway.identification import IdentifyCommand
from services.gateway.rest.gallery_answers import (
    consent_out,
    created_out,
    deletion_out,
    enrol_out,
    export_out,
    identify_out,
    subject_templates_out,
    subjects_out,
)
from services.gateway.rest.gallery_schemas import IdentifiedFaceOut, SubjectOut
from services.gateway.subject_export import SubjectExport, SubjectExporter
from services.gateway.subjects import CreateCommand, Subjects
from services.local import local_mien
from services.shared import Shared
from services.telemetry import new_request_id

_Result = TypeVar("_Result")
_PAGE = 1000
_REFUSED = 2
_EXIT = {"known": 0, "unknown": 1, "ambiguous": 2, "too_poor": 2}

app = typer.Typer(help="Stored people: create, list, show, enrol, delete.", no_args_is_help=True)

SubjectArgument = Annotated[str, typer.Argument(help="The subject's id.")]
TenantOption = Annotated[str, typer.Option(help="Whose gallery.")]
NameOption = Annotated[str | None, typer.Option(help="What to call the person.")]
MetadataOption = Annotated[
    list[str] | None, typer.Option("--metadata", help="A further text, KEY=VALUE; repeat it.")
]


@app.command()
def create(
    subject_id: SubjectArgument,
    name: NameOption = None,
    metadata: MetadataOption = None,
    tenant: TenantOption = DEFAULT_TENANT,
    as_json: JsonOption = False,
) -> None:
    """Store a subject without templates."""
    command = CreateCommand(subject_id, name or "", _pairs(metadata) or {})
    made = _with_subjects(lambda subjects: subjects.create(tenant, command))
    shown = created_out(made, new_request_id(None))
    _show(shown.model_dump(), f"{shown.subject.id}: created", as_json)


@app.command("list")
def list_subjects(
    tenant: TenantOption = DEFAULT_TENANT,
    cursor: Annotated[str, typer.Option(help="From the page before.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=_PAGE, help="Most subjects.")] = _PAGE,
    as_json: JsonOption = False,
) -> None:
    """List subjects by id."""
    page = _with_subjects(lambda subjects: subjects.page(tenant, cursor, limit))
    shown = subjects_out(page, new_request_id(None))
    if as_json:
        print_json(shown.model_dump())
        return
    table = Table("id", "name", "consent")
    for one in shown.subjects:
        table.add_row(*_row(one))
    out.print(table)
    if shown.cursor:
        err.print(f"More: --cursor {shown.cursor}")


@app.command()
def show(
    subject_id: SubjectArgument, tenant: TenantOption = DEFAULT_TENANT, as_json: JsonOption = False
) -> None:
    """Show one subject and its templates."""
    found = _with_subjects(lambda subjects: subjects.get(tenant, subject_id))
    shown = subject_templates_out(found, new_request_id(None))
    if as_json:
        print_json(shown.model_dump())
        return
    identifier, name, consent = _row(shown.subject)
    out.print(f"{identifier} {name}: consent {consent}", markup=False)
    table = Table("template", "model", "made by", "quality", "pictures", "live")
    for one in shown.templates:
        table.add_row(
            one.id,
            f"{one.model.name}@{one.model.version}",
            one.model.map or "the model",
            f"{one.quality:.0f}",
            str(one.pictures),
            "yes" if one.live else "no",
        )
    out.print(table)


@app.command()
def export(
    subject_id: SubjectArgument,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="With the vectors. A vector is a face.")
    ] = False,
    file: Annotated[Path | None, typer.Option("--out", help="Write here; else print.")] = None,
    tenant: TenantOption = DEFAULT_TENANT,
) -> None:
    """Write all that is stored of a person as JSON."""
    settings = command_settings()

    async def work() -> SubjectExport:
        trail = Trail(settings)
        access = GalleryAccess(lambda: open_gallery(settings, trail=trail))
        try:
            return await SubjectExporter(access, trail).export(tenant, subject_id, vectors=vectors)
        finally:
            await access.close()
            await trail.close()

    told = export_out(run(work()), new_request_id(None)).model_dump_json(indent=2) + "\n"
    if file is None:
        sys.stdout.write(told)
    else:
        file.touch(mode=0o600)
        file.write_text(told, encoding="utf-8")


@app.command()
def delete(
    subject_id: SubjectArgument, tenant: TenantOption = DEFAULT_TENANT, as_json: JsonOption = False
) -> int:
    """Delete every trace of a subject. Exit code: 0 if a second look found nothing, 1 if not."""
    report = _with_subjects(lambda subjects: subjects.delete(tenant, subject_id))
    count = sum(report.templates.values())
    proof = "a second look found nothing" if report.verified else "SOMETHING IS LEFT"
    _show(
        deletion_out(report, new_request_id(None)).model_dump(),
        f"{subject_id}: deleted with {count} templates; {proof}",
        as_json,
    )
    return 0 if report.verified else 1


@app.command()
def consent(
    subject_id: SubjectArgument,
    given: Annotated[bool, typer.Option("--given/--withdrawn", help="Which of the two.")],
    tenant: TenantOption = DEFAULT_TENANT,
    as_json: JsonOption = False,
) -> None:
    """Withdraw consent, or give it again."""
    changed = _with_subjects(lambda subjects: subjects.set_consent(tenant, subject_id, given=given))
    word = "given" if changed.consent else "withdrawn"
    shown = consent_out(changed, new_request_id(None))
    _show(shown.model_dump(), f"{subject_id}: consent {word}", as_json)


@app.command()
def enrol(
    subject_id: SubjectArgument,
    pictures: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, readable=True, help="Of one person")
    ],
    name: NameOption = None,
    metadata: MetadataOption = None,
    face: Annotated[Selection, typer.Option(help="Which face.")] = Selection.REFUSE,
    allow_duplicate: Annotated[
        bool, typer.Option("--allow-duplicate", help="Even if another subject has this face.")
    ] = False,
    leave_out_poor: Annotated[
        bool, typer.Option("--leave-out-poor", help="Do without the pictures that are too poor.")
    ] = False,
    key: Annotated[str, typer.Option(help="Idempotency key.")] = "",
    tenant: TenantOption = DEFAULT_TENANT,
    as_json: JsonOption = False,
) -> int:
    """Make a template of pictures of one person.

    Exit code: 0 enrolled, 2 refused because pictures are too poor, 3 error.
    """
    command = EnrolCommand(
        subject_id,
        tuple(PictureInput(path.read_bytes(), FaceChoice(face)) for path in pictures),
        name=name,
        metadata=_pairs(metadata),
        key=key,
        allow_duplicate=allow_duplicate,
        leave_out_poor=leave_out_poor,
    )
    answer = _with_gallery(lambda gallery: gallery.enroller.enrol(tenant, command))
    shown = enrol_out(answer, new_request_id(None))
    used = sum(one.used for one in shown.pictures)
    _show(
        shown.model_dump(),
        f"{subject_id}: {shown.outcome}, {used} of {len(pictures)} pictures used",
        as_json,
    )
    if not as_json:
        for path, one in zip(pictures, shown.pictures, strict=True):
            if one.reasons:
                out.print(f"  {path}: {', '.join(one.reasons)}", markup=False)
    return _REFUSED if shown.outcome == "refused" else 0


def identify(
    picture: PictureArgument,
    fpir: Annotated[
        float | None, typer.Option(help="Target false-positive identification rate.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Most candidates.")] = 5,
    tenant: TenantOption = DEFAULT_TENANT,
    as_json: JsonOption = False,
) -> int:
    """Say who is seen in a picture.

    Exit code, of the largest face: 0 known, 1 unknown or no face, 2 ambiguous or too poor, 3 error.
    """
    if fpir is not None and not 0 < fpir < 1:
        raise typer.BadParameter("--fpir lies between 0 and 1")
    command = IdentifyCommand((picture.read_bytes(),), limit=limit, fpir=fpir)
    answer = _with_gallery(lambda gallery: gallery.identifier.identify(tenant, command))
    shown = identify_out(answer, new_request_id(None))
    faces = shown.pictures[0].faces
    if as_json:
        print_json(shown.model_dump())
    else:
        rate = f"FPIR {shown.fpir:g}, {shown.searched} templates"
        out.print(f"{len(faces)} faces; threshold {shown.threshold:.3f} ({rate})")
        for index, one in enumerate(faces):
            out.print(f"  {index}: {_described(one)}", markup=False)
    return _EXIT[faces[0].decision] if faces else 1


def _described(face: IdentifiedFaceOut) -> str:
    why = f" because of {', '.join(face.reasons)}" if face.reasons else ""
    if not face.candidates:
        return f"{face.decision}{why}"
    best = face.candidates[0]
    return f"{face.decision}{why}; nearest {best.subject_id}, similarity {best.similarity:.3f}"


def _with_subjects(work: Callable[[Subjects], Awaitable[_Result]]) -> _Result:
    """Runs work on the configured gallery, in this process, without any network."""
    settings = command_settings()

    async def opened() -> _Result:
        access, shared = GalleryAccess(lambda: open_gallery(settings)), Shared.open(settings)
        try:
            return await work(Subjects(access, shared))
        finally:
            await access.close()
            await shared.close()

    return run(opened())


def _with_gallery(work: Callable[[GalleryGateway], Awaitable[_Result]]) -> _Result:
    """Runs work with pictures on the configured gallery, in this process."""
    settings = command_settings()
    model = settings.enrolment.model
    models = tuple(dict.fromkeys([*([model] if model else []), *settings.embedding.models]))

    async def opened() -> _Result:
        async with local_mien(settings, models) as mien:
            return await work(mien.gallery)

    return run(opened())


def _pairs(given: list[str] | None) -> dict[str, str] | None:
    """``KEY=VALUE`` texts; None where there are none."""
    if not given:
        return None
    pairs = [text.partition("=") for text in given]
    if any(not key or not sign for key, sign, _ in pairs):
        raise typer.BadParameter("--metadata takes KEY=VALUE")
    return {key: value for key, _, value in pairs}


def _row(subject: SubjectOut) -> tuple[str, str, str]:
    return subject.id, subject.name, "given" if subject.consent else "withdrawn"


def _show(answer: dict[str, object], sentence: str, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        out.print(sentence, markup=False)
