"""`mien watch`: the reference client of the camera service."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from stamina.instrumentation import RetryDetails, set_on_retry_hooks
from typer.core import TyperGroup

from services.cli.context import command_settings
from services.cli.output import err, out
from services.cli.watch_calls import (
    ServerOption,
    TenantOption,
    add_commands,
    call_metadata,
    server_address,
)
from services.rpc.tls import watch_credentials
from services.settings import Settings
from services.watch.delivery import Delivery, Payload, Receiver, TryAgainError
from services.watch.redis_stream import RedisStream
from services.watch.sources import SourceError, camera_id_of, open_source
from services.watch.stream import open_channel
from services.watch.view import VIDEO_SUFFIXES, View, open_view
from services.watch.watching import Summary, Watched, watch
from services.watch.webhook import Webhook

_RUN = "run"
_ROW = "{:<12} {:<16} {:<11} {:<12} {:<28} {:>9} {:>7}"


class _RunsByDefault(TyperGroup):
    """Takes a first word that is no command for a source."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [_RUN, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunsByDefault,
    help="Send cameras and files to a running Mien and print who is seen: mien watch SOURCE...",
    no_args_is_help=True,
)
add_commands(app)


@app.command(_RUN)
def run_watch(
    sources: Annotated[
        list[str],
        typer.Argument(help="rtsp:// or http:// URL, video file, folder of pictures, or webcam."),
    ],
    camera: Annotated[
        list[str] | None,
        typer.Option(help="Id of the camera; one for each source, else made of the source."),
    ] = None,
    server: ServerOption = "",
    tenant: TenantOption = "",
    fps: Annotated[float, typer.Option(min=0.01, max=1000, help="Most frames per second.")] = 5.0,
    fast: Annotated[
        bool, typer.Option("--fast", help="Files and folders as fast as they are answered.")
    ] = False,
    in_flight: Annotated[
        int, typer.Option(min=1, max=16, help="Most frames of a camera that await an answer.")
    ] = 4,
    raw: Annotated[bool, typer.Option("--raw", help="Send pixels, not JPEG.")] = False,
    view: Annotated[
        Path | None,
        typer.Option(help="Write an annotated video (.mp4, .mkv, .mov, .webm) or frames here."),
    ] = None,
    webhook: Annotated[str, typer.Option(help="Post events to this URL.")] = "",
    redis_stream: Annotated[str, typer.Option(help="Add events to this Redis stream.")] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line, a summary last.")
    ] = False,
) -> None:
    """Watch until the sources end or the command is interrupted.

    A service that is away is connected again; frames that were not sent meanwhile are counted.
    """
    settings = command_settings()
    set_on_retry_hooks([_retried])
    cameras = _cameras(sources, camera or [], fps, fast, raw, in_flight, view)
    watching = _Watching(settings, cameras, as_json, webhook, redis_stream)
    asyncio.run(
        watching.run(server_address(server, settings), call_metadata(tenant, settings.watch))
    )


class _Watching:
    """One run of the command."""

    def __init__(
        self,
        settings: Settings,
        cameras: Sequence[Watched],
        as_json: bool,
        webhook: str,
        redis_stream: str,
    ) -> None:
        self._settings = settings
        self._cameras = cameras
        self._as_json = as_json
        self._webhook, self._redis_stream = webhook, redis_stream
        self._summaries = {camera.camera_id: Summary() for camera in cameras}

    async def run(self, address: str, metadata: Sequence[tuple[str, str]]) -> None:
        deliveries = self._deliveries()
        shown = _print_line if self._as_json else _table()
        try:
            async with contextlib.AsyncExitStack() as stack:
                for one in deliveries:
                    await stack.enter_async_context(one)
                channel = await stack.enter_async_context(
                    open_channel(address, watch_credentials(self._settings.watch))
                )
                work = asyncio.gather(
                    *(
                        watch(
                            camera,
                            channel,
                            metadata,
                            shown,
                            deliveries,
                            self._summaries[camera.camera_id],
                        )
                        for camera in self._cameras
                    )
                )
                with _stopping(work.cancel), contextlib.suppress(asyncio.CancelledError):
                    await work
        finally:
            self._tell(deliveries)

    def _deliveries(self) -> list[Delivery]:
        receivers: list[Receiver] = []
        own = self._settings.watch
        if self._webhook:
            receivers.append(Webhook(self._webhook, own.webhook_secret.get_secret_value()))
        if self._redis_stream:
            url = own.redis_url.get_secret_value()
            receivers.append(RedisStream(url, self._redis_stream, own.redis_entries))
        return [Delivery(one, own.queue, _notice) for one in receivers]

    def _tell(self, deliveries: Sequence[Delivery]) -> None:
        cameras = {name: summary.shown() for name, summary in self._summaries.items()}
        delivered = {one.name: one.counts.shown() for one in deliveries}
        if self._as_json:
            _print_line({"event": "summary", "cameras": cameras, "deliveries": delivered})
            return
        for title, rows in (("camera", cameras), ("to", delivered)):
            if rows:
                table = Table(title, *next(iter(rows.values())))
                for name, counts in rows.items():
                    table.add_row(name, *map(str, counts.values()))
                err.print(table)


def _cameras(
    sources: Sequence[str],
    names: Sequence[str],
    fps: float,
    fast: bool,
    raw: bool,
    in_flight: int,
    view: Path | None,
) -> list[Watched]:
    if names and len(names) != len(sources):
        raise typer.BadParameter("give one --camera for each source, or none")
    ids = list(names) or [camera_id_of(source) for source in sources]
    if len(set(ids)) != len(ids):
        raise typer.BadParameter("two cameras have one id; name them with --camera")
    if view is not None and len(sources) > 1 and view.suffix.lower() in VIDEO_SUFFIXES:
        raise typer.BadParameter("--view takes a folder where there are several sources")
    made = []
    for source, camera_id in zip(sources, ids, strict=True):
        opened: View | None = None
        if view is not None:
            opened = open_view(view / camera_id if len(sources) > 1 else view, fps)
        made.append(Watched(camera_id, open_source(source, fps), fast, raw, in_flight, opened))
    return made


@contextlib.contextmanager
def _stopping(stop: Callable[[], object]) -> Any:
    """Ends the work in place of the process when the command is interrupted or terminated."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    with contextlib.suppress(NotImplementedError, RuntimeError):  # not in a thread
        for number in numbers:
            loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            with contextlib.suppress(NotImplementedError, RuntimeError):
                loop.remove_signal_handler(number)


def _print_line(payload: Payload) -> None:
    sys.stdout.write(json.dumps(payload) + "\n")
    sys.stdout.flush()


def _notice(text: str) -> None:
    err.print(f"mien: {text}", style="yellow", markup=False)


def _retried(details: RetryDetails) -> None:
    """Tells of the first of several attempts, once."""
    if details.retry_num > 1:
        return
    cause = details.caused_by
    if isinstance(cause, SourceError):
        _notice(f"{cause}; trying again")
    elif not isinstance(cause, TryAgainError):  # its receiver tells of what fails in the end
        _notice("the service does not answer; trying again")


def _table() -> Callable[[Payload], None]:
    """Prints a heading, and gives what prints a row."""
    heading = ("time", "camera", "event", "track", "who", "similar", "ms")
    out.print(_ROW.format(*heading), style="bold", markup=False, soft_wrap=True)

    def shown(payload: Payload) -> None:
        if payload["event"] == "frame_error":
            err.print(
                f"{payload['camera_id']}: frame {payload['frame_id']}: {payload['detail']}",
                style="yellow",
                markup=False,
            )
            return
        similarity = payload["similarity"]
        row = _ROW.format(
            _clock(payload["captured"]),
            payload["camera_id"][:16],
            payload["event"],
            payload["track_id"][-12:],
            (payload["subject_id"] or payload["reason"] or "")[:28],
            "" if similarity is None else f"{similarity:.3f}",
            f"{payload['latency_ms']:.0f}",
        )
        style = "green" if payload["subject_id"] else None
        out.print(row.rstrip(), style=style, markup=False, soft_wrap=True)

    return shown


def _clock(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC).astimezone()
    return moment.strftime("%H:%M:%S.%f")[:-3]
