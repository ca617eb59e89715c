"""`mien keys`: API keys of the gateways that use this home."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, TypeVar

import typer
from rich.table import Table
from rich.text import Text

from services.access import open_admin
from services.access.keys import USUAL_GRACE, Key, checked_actions, key_facts, span, state
from services.access.secret import Secret
from services.audit.keys import AuditedKeys
from services.audit.trail import Trail
from services.cli.context import command_settings, run
from services.cli.faces import JsonOption
from services.cli.output import err, out, print_json

app = typer.Typer(help="API keys: create, list, rotate, revoke.", no_args_is_help=True)

_Result = TypeVar("_Result")
KeyArgument = Annotated[str, typer.Argument(help="The key's id, as `mien keys list` shows it.")]


@app.command()
def create(
    tenant: Annotated[str, typer.Option(help="Whose people it may see; '*' for all tenants.")],
    allow: Annotated[
        str, typer.Option(help="verify,identify,enrol,delete; with tenant '*' also migrate,admin.")
    ],
    name: Annotated[str, typer.Option(help="A label of your own.")] = "",
    expires: Annotated[str, typer.Option(help="After this time, e.g. 90d; none: never.")] = "",
    rate: Annotated[
        str, typer.Option(help="Requests that it may send, e.g. 10/second; none: the usual.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Make a key. Its secret is printed this once, on standard output."""
    lasting = span(expires, "expires") if expires else None
    actions = checked_actions(allow.split(","))
    key, secret = _asked(
        lambda keys: keys.create(tenant, actions, name=name, rate=rate or None, lasting=lasting)
    )
    _hand_out(key, secret, as_json)


@app.command("list")
def list_keys(as_json: JsonOption = False) -> None:
    """List the keys, without their secrets."""
    keys = _asked(AuditedKeys.all)
    if as_json:
        print_json({"keys": [key_facts(one) for one in keys]})
        return
    table = Table("id", "tenant", "allows", "label", "state", "expires", "last used")
    for one in keys:
        actions = ",".join(sorted(one.actions))
        times = (_when(one.expires, "never"), _when(one.last_used, "never"))
        table.add_row(one.id, one.tenant, actions, Text(one.name), state(one), *times)
    out.print(table)


@app.command()
def rotate(
    key_id: KeyArgument,
    grace: Annotated[str, typer.Option(help="How long the old secret is taken too.")] = USUAL_GRACE,
    as_json: JsonOption = False,
) -> None:
    """Give a key a new secret; the old one is taken for a while beside it."""
    lasting = span(grace, "grace")
    key, secret = _asked(lambda keys: keys.rotate(key_id, lasting))
    _hand_out(key, secret, as_json)


@app.command()
def revoke(key_id: KeyArgument, as_json: JsonOption = False) -> None:
    """End a key for good; gateways know within two seconds."""
    key = _asked(lambda keys: keys.revoke(key_id))
    if as_json:
        print_json(key_facts(key))
    else:
        out.print(f"{key.id}: revoked", markup=False)


def _asked(work: Callable[[AuditedKeys], Awaitable[_Result]]) -> _Result:
    settings = command_settings()

    async def asked() -> _Result:
        admin, trail = open_admin(settings), Trail(settings)
        try:
            return await work(AuditedKeys(admin, trail))
        finally:
            await trail.close()
            admin.close()

    return run(asked())


def _hand_out(key: Key, secret: Secret, as_json: bool) -> None:
    if as_json:
        print_json(key_facts(key) | {"secret": secret.text})
        return
    err.print(f"Key {key.id}. Keep its secret now: it is not shown again.", markup=False)
    out.print(secret.text, markup=False, soft_wrap=True)


def _when(moment: datetime | None, otherwise: str) -> str:
    return otherwise if moment is None else moment.strftime("%Y-%m-%d %H:%M")
