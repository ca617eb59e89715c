"""`mien migrate`: move a gallery from one model to the next, without photographs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from services.cli.context import command_settings, run
from services.cli.faces import JsonOption
from services.cli.output import err, out, print_json
from services.errors import Errors, MienError
from services.migration import Migrations, PlanOptions, Record, State
from services.migration.local import local_migrations
from services.migration.ray_engine import RayAhead, RayOptions
from services.migration.report import summary, write_report
from services.migration.run import Told
from services.migration.shadow import Tally, tally_text, write_tally

app = typer.Typer(
    help="Move a gallery from one model to the next, without photographs.", no_args_is_help=True
)

_Result = TypeVar("_Result")
IdArgument = Annotated[
    str, typer.Argument(metavar="[ID]", help="Migration; may be left out where there is one only.")
]
LossOption = Annotated[
    bool, typer.Option("--accept-loss", help="Even if subjects would no longer be found.")
]


class MapEngine(StrEnum):
    """What does a run's mapping."""

    SERVICE = "service"
    RAY = "ray"


@app.command()
def plan(
    map_name: Annotated[
        str, typer.Option("--map", help="Map, name or name@version; none: the one that fits.")
    ] = "",
    fmr: Annotated[float | None, typer.Option(min=0, max=1, help="Live false-match rate.")] = None,
    sample: Annotated[int, typer.Option(min=16, help="Most templates looked at.")] = 5000,
    weak_below: Annotated[
        float | None, typer.Option(min=-1, max=1, help="Confidence of weak templates.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Write plan.json, plan.md and plan.png here.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a migration would do to this gallery: verdict, weak templates, time, space.

    Nothing is changed but that the plan is noted, to be run.
    """
    options = PlanOptions(map_name, fmr, sample, weak_below)
    made = _do(lambda migrations: migrations.plan(options), (map_name,) if map_name else None)
    if folder is not None:
        write_report(made, folder)
    if as_json:
        print_json(made.shown())
        return
    out.print(made.id, *summary(made), *made.warnings, sep="\n", markup=False)


@app.command(name="run")
def run_migration(
    name: IdArgument = "",
    rate: Annotated[
        float | None, typer.Option(min=0, help="Most templates per second; 0: no limit.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Stay, and move what is enrolled, until a pause.")
    ] = False,
    engine: Annotated[
        MapEngine, typer.Option(help="What maps: the mapping service, or a Ray cluster.")
    ] = MapEngine.SERVICE,
    ray_address: Annotated[
        str, typer.Option(help="Of the cluster; auto: this machine's; local: one for this run.")
    ] = "auto",
    shards: Annotated[
        Path | None,
        typer.Option(help="Folder that all nodes see, for Ray; none: shards in the home."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a migration, or go on where it stopped, until it has caught up."""
    ahead = None
    if engine is MapEngine.RAY:
        settings = command_settings()
        options = RayOptions(ray_address, shards or settings.home / "shards")
        ahead = RayAhead(settings, options)

    async def work(migrations: Migrations) -> Record:
        chosen = await _chosen(migrations, name)
        with progress_of(chosen) as told:
            return await migrations.run(
                chosen.id, rate=rate, follow=follow, told=told, engine=ahead
            )

    _show(_do(work), as_json)


@app.command()
def resume(
    name: IdArgument = "",
    rate: Annotated[
        float | None, typer.Option(min=0, help="Most templates per second; 0: no limit.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a migration that was paused, or whose process was killed."""
    run_migration(name, rate, as_json=as_json)


@app.command()
def status(name: IdArgument = "", as_json: JsonOption = False) -> None:
    """Show where migrations stand."""

    async def work(migrations: Migrations) -> list[tuple[Record, bool]]:
        found = [await migrations.get(name)] if name else await migrations.every()
        return [(record, await migrations.at_work(record.id)) for record in found]

    found = _do(work, ())
    if as_json:
        rows = [{**record.shown(), "at_work": at_work} for record, at_work in found]
        print_json({"migrations": rows})
        return
    table = Table("migration", "state", "at work", "read", "of", "left out", "weak", "ETA, s")
    for record, at_work in found:
        eta = record.eta_seconds
        table.add_row(
            record.id,
            record.state.value + (f" ({record.failure.code})" if record.failure else ""),
            "yes" if at_work else "no",
            f"{record.read:,}",
            f"{record.total:,}",
            f"{record.skipped + record.second_hand:,}",
            f"{record.weak:,}",
            "?" if eta is None else f"{eta:,.0f}",
        )
    out.print(table)


@app.command()
def pause(name: IdArgument = "", as_json: JsonOption = False) -> None:
    """Stop a run after the batch at hand."""
    _command(name, as_json, lambda migrations, one: migrations.pause(one), maps=())


@app.command()
def switch(
    name: IdArgument = "", accept_loss: LossOption = False, as_json: JsonOption = False
) -> None:
    """Catch up, then make the new model live, in one step."""
    _command(name, as_json, lambda migrations, one: migrations.switch(one, accept_loss=accept_loss))


@app.command()
def rollback(
    name: IdArgument = "", accept_loss: LossOption = False, as_json: JsonOption = False
) -> None:
    """Make the old model live again; what was enrolled since is mapped back if a map is there."""
    _command(
        name, as_json, lambda migrations, one: migrations.rollback(one, accept_loss=accept_loss)
    )


@app.command()
def shadow(
    name: IdArgument = "",
    folder: Annotated[
        Path | None, typer.Option("--out", help="Write shadow.json, shadow.md and shadow.png here.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare what both models answer to live queries, while MIEN_MIGRATION__SHADOW is above 0."""

    async def work(migrations: Migrations) -> Tally:
        return await migrations.shadow((await _chosen(migrations, name)).id)

    tally = _do(work, ())
    if folder is not None:
        write_tally(tally, folder)
    if as_json:
        print_json(tally.shown())
        return
    out.print(tally_text(tally), markup=False)


@app.command()
def discard(name: IdArgument = "", as_json: JsonOption = False) -> None:
    """Forget a migration that is not live, and delete what it has made."""

    async def work(migrations: Migrations) -> dict[str, Any]:
        chosen = await _chosen(migrations, name)
        return {"id": chosen.id, "deleted": await migrations.discard(chosen.id)}

    done = _do(work, ())
    if as_json:
        print_json(done)
        return
    out.print(f"{done['id']}: forgotten; {done['deleted']:,} templates deleted.")


def _command(
    name: str,
    as_json: bool,
    work: Callable[[Migrations, str], Awaitable[Record]],
    maps: tuple[str, ...] | None = None,
) -> None:
    async def chosen(migrations: Migrations) -> Record:
        return await work(migrations, (await _chosen(migrations, name)).id)

    _show(_do(chosen, maps), as_json)


def _do(
    work: Callable[[Migrations], Awaitable[_Result]], maps: tuple[str, ...] | None = None
) -> _Result:
    """Runs work on the settings' gallery.

    Args:
        work: what is to be done.
        maps: to be loaded where the settings name no mapping service; None for all.
    """
    settings = command_settings()

    async def opened() -> _Result:
        async with local_migrations(settings, maps) as migrations:
            return await work(migrations)

    return run(opened())


async def _chosen(migrations: Migrations, name: str) -> Record:
    """The migration that is meant.

    Raises:
        MienError: MIGRATION_UNKNOWN; INVALID_REQUEST where none is named and there are several.
    """
    if name:
        return await migrations.get(name)
    found = await migrations.every()
    if len(found) == 1:
        return found[0]
    if not found:
        raise MienError(Errors.MIGRATION_UNKNOWN, "No migration has been planned.")
    ids = ", ".join(record.id for record in found)
    raise MienError(Errors.INVALID_REQUEST, f"Name one of {ids}.", field="id")


@contextmanager
def progress_of(record: Record) -> Iterator[Told]:
    """A progress bar with speed and time left, on standard error; yields what moves it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    speed = TextColumn("{task.fields[rate]}/s")
    with Progress(*columns, speed, TimeRemainingColumn(), console=err, transient=True) as progress:
        task = progress.add_task(record.map, total=record.total or None, rate="?")

        def tell(record: Record) -> None:
            rate = f"{record.rate:,.0f}"
            progress.update(task, completed=record.read, total=record.total, rate=rate)

        yield tell


def _show(record: Record, as_json: bool) -> None:
    if as_json:
        print_json(record.shown())
        return
    out.print(f"{record.id}: {record.state.value}", markup=False)
    out.print(
        f"{record.read:,} templates read, {record.written:,} mapped and stored, "
        f"{record.skipped:,} changed or deleted meanwhile, {record.second_hand:,} mapped already, "
        f"{record.weak:,} weak."
    )
    if record.state is State.ROLLED_BACK and record.carried_back:
        out.print(f"{record.carried_back:,} templates enrolled since were mapped back.")
