"""`mien gallery keys`, `retention` and `delete-tenant`: on the gallery here, or by its gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.table import Table

from services.audit.gallery import KeyAdministration
from services.audit.trail import Trail
from services.cli.context import command_settings, run
from services.cli.faces import JsonOption
from services.cli.output import out, print_json
from services.cli.remote import HeaderOption, UrlOption, asked
from services.gallery.embedded.wrapping import KeyCommand
from services.gallery.open import open_gallery
from services.gateway.rest.admin_routes import KEYS, RETENTION, TENANT, retention_out
from services.gateway.rest.gallery_answers import deletion_out
from services.retention import Retention
from services.settings import SettingsError
from services.telemetry import new_request_id

_Result = TypeVar("_Result")

app = typer.Typer(help="Keys of the embedded gallery: list, rotate, rewrap.", no_args_is_help=True)


def add_commands(gallery: typer.Typer) -> None:
    """Adds the commands to `mien gallery`."""
    gallery.add_typer(app, name="keys")
    gallery.command()(retention)
    gallery.command("delete-tenant")(delete_tenant)


@app.command("list")
def list_keys(
    url: UrlOption = "", header: HeaderOption = None, as_json: JsonOption = False
) -> None:
    """List the data keys of all tenants, and what is still sealed with older ones."""
    rows = asked(url, header, "GET", KEYS)["keys"] if url else _keys(_rows)
    _show_keys(rows, as_json)


@app.command()
def rotate(
    tenant: Annotated[
        list[str] | None, typer.Option(help="Which tenant; repeat it. None: all.")
    ] = None,
    url: UrlOption = "",
    header: HeaderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give tenants new data keys, and seal their rows anew.

    Here it returns when all rows are sealed anew; a gateway (--url) does that in the background.
    """
    if url:
        rows = asked(url, header, "POST", f"{KEYS}/rotate", {"tenants": tenant or []})["keys"]
        _show_keys(rows, as_json)
        return

    async def work(keys: KeyAdministration) -> list[dict[str, Any]]:
        await keys.rotate(tenant or [])
        await keys.finished()
        return await _rows(keys)

    _show_keys(_keys(work), as_json)


@app.command()
def rewrap(
    new_master_key_file: Annotated[
        Path | None,
        typer.Option(help="Holds the new key, or is made; in the old one's place if none."),
    ] = None,
    new_key_command: Annotated[
        str, typer.Option(help="Command that keeps the new key, as MIEN_GALLERY__KEY_COMMAND.")
    ] = "",
    url: UrlOption = "",
    header: HeaderOption = None,
) -> None:
    """Wrap all data keys with a new master key. No row is rewritten."""
    if new_key_command and (new_master_key_file or url):
        raise SettingsError("Name a file or a command for the new master key, not both.")
    if url and new_master_key_file:
        raise SettingsError("A gateway puts the new key in the place of its old one: name no file.")
    if new_key_command:
        _keys(lambda keys: keys.rewrap_with(KeyCommand(new_key_command)))
        out.print("Set MIEN_GALLERY__KEY_COMMAND to that command from now on.", markup=False)
        return
    if url:
        file = asked(url, header, "POST", f"{KEYS}/rewrap")["file"]
    else:
        file = str(_keys(lambda keys: keys.rewrap(new_master_key_file)))
    out.print(f"The new master key is in {file}. Keep a copy elsewhere.", markup=False)


def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is due.")] = False,
    accept_clock: Annotated[
        bool, typer.Option("--accept-clock", help="The clock is right, although it jumped.")
    ] = False,
    url: UrlOption = "",
    header: HeaderOption = None,
    as_json: JsonOption = False,
) -> int:
    """Delete what the rules of retention ask for (MIEN_RETENTION__...).

    Exit code: 0 done, 1 if nothing was deleted because of the clock, or a deletion is unproven.
    """
    if url:
        body = {"dry_run": dry_run, "accept_clock": accept_clock}
        told = asked(url, header, "POST", RETENTION, body)
    else:
        told = _retention(dry=dry_run, accept_clock=accept_clock)
    if as_json:
        print_json(told)
    else:
        _show_due(told)
    return 1 if told["held"] or told["unproven"] else 0


def delete_tenant(
    tenant: Annotated[str, typer.Argument(help="Which tenant.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: UrlOption = "",
    header: HeaderOption = None,
    as_json: JsonOption = False,
) -> int:
    """Delete a tenant with all that is stored of it, and destroy its keys.

    Exit code: 0 if a second look found nothing, 1 if not.
    """
    if not yes:
        typer.confirm(f"Delete {tenant} with all its subjects and templates?", abort=True)
    if url:
        told = asked(url, header, "DELETE", TENANT.replace("{tenant}", tenant))
    else:
        report = _keys(lambda keys: keys.delete_tenant(tenant))
        told = deletion_out(report, new_request_id(None)).model_dump()
    if as_json:
        print_json(told)
    else:
        proof = "a second look found nothing" if told["verified"] else "SOMETHING IS LEFT"
        out.print(f"{tenant}: deleted with {told['subjects']} subjects; {proof}", markup=False)
    return 0 if told["verified"] else 1


async def _rows(keys: KeyAdministration) -> list[dict[str, Any]]:
    return [dict(vars(one)) for one in await keys.all()]


def _keys(work: Callable[[KeyAdministration], Awaitable[_Result]]) -> _Result:
    """Runs work on the keys of the configured gallery, in this process."""
    settings = command_settings()

    async def opened() -> _Result:
        gallery = await open_gallery(settings)
        try:
            return await work(KeyAdministration(gallery, settings.gallery))
        finally:
            await gallery.close()

    return run(opened())


def _retention(*, dry: bool, accept_clock: bool) -> dict[str, Any]:
    settings = command_settings()

    async def opened() -> dict[str, Any]:
        trail = Trail(settings)
        gallery = await open_gallery(settings, trail=trail)
        try:
            found = await Retention(gallery, settings.retention, trail).run(
                dry=dry, accept_clock=accept_clock
            )
            return retention_out(found, new_request_id(None)).model_dump()
        finally:
            await gallery.close()
            await trail.close()

    return run(opened())


def _show_keys(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json({"keys": rows})
        return
    table = Table("tenant", "version", "since", "rows behind")
    for row in rows:
        since = datetime.fromtimestamp(row["created"], UTC).isoformat(timespec="seconds")
        table.add_row(
            row["tenant"],
            str(row["version"]),
            since if row["created"] else "before versions",
            str(row["behind"]),
        )
    out.print(table)


def _show_due(told: dict[str, Any]) -> None:
    for one in told["due"]:
        what = one["model"] or f"{one['tenant']}/{one['subject_id']}"
        since = datetime.fromtimestamp(one["since"], UTC).date().isoformat()
        out.print(f"  {what}: {one['rule']}, since {since}", markup=False)
    if told["dry_run"]:
        out.print(f"{len(told['due'])} are due; nothing was deleted")
    elif told["held"]:
        out.print(f"nothing was deleted: {told['held']}", markup=False)
    else:
        out.print(f"{told['deleted']} subjects and {len(told['dropped'])} collections deleted")
