"""`mien gallery`: what it holds, copies, imports, backups, and its master key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from models.zoo import Zoo
from services.audit.gallery import KeyAdministration, note_copy
from services.cli import gallery_keys
from services.cli.context import command_settings, run
from services.cli.faces import JsonOption
from services.cli.output import counting, out, print_json
from services.gallery import DEFAULT_TENANT, Collection, Gallery
from services.gallery.copying import copy_gallery
from services.gallery.embedded.backup import back_up, restore
from services.gallery.importing import Imported, import_rows
from services.gallery.open import database_of, open_gallery
from services.gallery.spaces import space_of_card
from services.gallery.vector_files import read_rows
from services.settings import Settings, SettingsError

app = typer.Typer(
    help="The gallery: info, copy, import, backup, restore, keys, retention, delete-tenant.",
    no_args_is_help=True,
)
gallery_keys.add_commands(app)

UriOption = Annotated[
    str, typer.Option("--uri", help="sqlite:PATH, http(s)://HOST:PORT, milvus-lite:PATH.")
]


@app.command()
def info(uri: UriOption = "", as_json: JsonOption = False) -> None:
    """Tell which model versions the gallery has, which one is live, and its jobs."""

    async def work() -> dict[str, Any]:
        async with _gallery(command_settings(), uri) as gallery:
            return {
                "collections": [_facts(one) for one in await gallery.collections()],
                "tenants": len(await gallery.tenants()),
                "jobs": [job.name for job in await gallery.jobs()],
            }

    facts = run(work())
    if as_json:
        print_json(facts)
        return
    table = Table("model", "live", "templates", "mapped", "dimension", "metric")
    for row in facts["collections"]:
        live = "live" if row["live"] else ""
        counts = (str(row[name]) for name in ("templates", "mapped", "dimension"))
        table.add_row(row["model"], live, *counts, row["metric"])
    out.print(table)
    out.print(f"{facts['tenants']} tenants; jobs: {', '.join(facts['jobs']) or 'none'}")


@app.command()
def copy(
    source: Annotated[str, typer.Option("--from", help="URI of the gallery that is read.")],
    target: Annotated[str, typer.Option("--to", help="URI of the gallery that is written.")],
    as_json: JsonOption = False,
) -> None:
    """Copy subjects, templates and the live version into another gallery; safe to repeat.

    Nothing is deleted in either. Stop whatever writes to the source first.
    """
    if source == target:
        raise SettingsError("A gallery is not copied onto itself.")
    settings = command_settings()

    async def work() -> dict[str, int]:
        async with _gallery(settings, source) as old, _gallery(settings, target) as new:
            await note_copy(old)
            total = sum(one.templates for one in await old.collections())
            with counting("copying", total) as advance:
                return asdict(await copy_gallery(old, new, advance))

    facts = run(work())
    if as_json:
        print_json(facts)
        return
    out.print(
        f"{facts['subjects']} subjects of {facts['tenants']} tenants and {facts['templates']} "
        f"templates of {facts['spaces']} model versions are in the target."
    )


@app.command("import")
def import_vectors(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help=".npy, .csv or .parquet.")
    ],
    model: Annotated[str, typer.Option(help="The model that made the vectors, registered here.")],
    ids: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Of a .npy: CSV with subject_id."),
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose subjects.")] = DEFAULT_TENANT,
    uri: UriOption = "",
    as_json: JsonOption = False,
) -> int:
    """Store vectors that were made elsewhere; the same file again stores nothing twice.

    Exit code: 0 if every row was stored, 1 if some were left out.
    """
    settings = command_settings()
    space = space_of_card(Zoo(settings.home).embedder(model))

    async def work() -> Imported:
        async with _gallery(settings, uri) as gallery:
            with counting("importing", None) as advance:
                return await import_rows(gallery, tenant, space, read_rows(file, ids), advance)

    imported = run(work())
    facts = {
        "model": space.reference,
        "templates": imported.templates,
        "subjects": imported.subjects,
        "refused": imported.refused,
        "faults": [{"row": row, "why": why} for row, why in imported.faults],
    }
    if as_json:
        print_json(facts)
    else:
        out.print(
            f"{imported.templates} templates of {space.reference}; {imported.subjects} new "
            f"subjects; {imported.refused} rows left out"
        )
        for row, why in imported.faults:
            out.print(f"  row {row}: {why}", markup=False)
    return 1 if imported.refused else 0


@app.command("rotate-key")
def rotate_key(
    new_key_file: Annotated[
        Path | None, typer.Option(help="Where the new key goes; in the old one's place if none.")
    ] = None,
    uri: UriOption = "",
) -> None:
    """The same as `keys rewrap`."""
    settings = command_settings()

    async def work() -> Path:
        async with _gallery(settings, uri) as gallery:
            return await KeyAdministration(gallery, settings.gallery).rewrap(new_key_file)

    out.print(f"The new master key is in {run(work())}. Keep a copy elsewhere.", markup=False)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Where the copy goes; not there yet.")],
    uri: UriOption = "",
    as_json: JsonOption = False,
) -> None:
    """Copy the embedded gallery into one file, while it serves. The master key is not in it."""
    size = back_up(database_of(command_settings(), uri), file)
    if as_json:
        print_json({"file": str(file), "bytes": size})
    else:
        out.print(f"{file}: {size / 1e6:.1f} MB, without the master key.", markup=False)


@app.command("restore")
def restore_backup(
    file: Annotated[Path, typer.Argument(help="A copy that `backup` made.")],
    uri: UriOption = "",
    as_json: JsonOption = False,
) -> None:
    """Put a copy in the place of an embedded gallery that is not there, and open it.

    The master key must be where the settings say, or it is not opened.
    """
    settings = command_settings()
    restore(file, database_of(settings, uri))

    async def work() -> list[dict[str, Any]]:
        async with _gallery(settings, uri) as gallery:
            return [_facts(one) for one in await gallery.collections()]

    collections = run(work())
    if as_json:
        print_json({"collections": collections})
    else:
        count = sum(one["templates"] for one in collections)
        out.print(f"{count} templates of {len(collections)} model versions are back.")


@asynccontextmanager
async def _gallery(settings: Settings, uri: str) -> AsyncIterator[Gallery]:
    gallery = await open_gallery(settings, uri)
    try:
        yield gallery
    finally:
        await gallery.close()


def _facts(one: Collection) -> dict[str, Any]:
    return {
        "model": one.space.reference,
        "collection": one.space.key,
        "live": one.live,
        "templates": one.templates,
        "mapped": one.mapped,
        "dimension": one.space.dimension,
        "metric": one.space.metric,
    }
