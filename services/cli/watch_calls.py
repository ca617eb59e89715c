"""`mien watch enrol`, `policy`, `cameras` and `shot`: single calls to the camera service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import grpc
import typer
from google.protobuf.json_format import MessageToDict
from rich.table import Table

from services.cli.context import command_settings, run
from services.cli.faces import JsonOption
from services.cli.output import err, out, print_json
from services.errors import Errors
from services.gallery import DEFAULT_TENANT
from services.rpc.channel import told
from services.rpc.mien.v1 import camera_pb2, camera_pb2_grpc, face_pb2, gallery_pb2
from services.rpc.tls import watch_credentials
from services.settings import Settings, WatchSettings
from services.watch.stream import open_channel

_Result = TypeVar("_Result")
_TIMEOUT = 30.0  # seconds
_TENANT = "x-mien-tenant"
_REFUSED = 2
_OUTCOME = "ENROLMENT_OUTCOME_"

ServerOption = Annotated[
    str, typer.Option(help="host:port of the gateway's gRPC; the settings' own if none.")
]
TenantOption = Annotated[
    str, typer.Option(help="Whose cameras; none: the key's own tenant, or the usual one.")
]
CameraArgument = Annotated[str, typer.Argument(metavar="CAMERA", help="The camera's id.")]
TrackArgument = Annotated[str, typer.Argument(metavar="TRACK", help="As an event told it.")]


def add_commands(app: typer.Typer) -> None:
    """Adds the commands to `mien watch`."""
    app.command()(enrol)
    app.command()(policy)
    app.command()(cameras)
    app.command()(shot)


def server_address(named: str, settings: Settings) -> str:
    """The address that was named, or the one that a Mien with these settings has."""
    gateway = settings.gateway
    return named or f"{gateway.grpc_host}:{gateway.grpc_port}"


def call_metadata(tenant: str, settings: WatchSettings) -> tuple[tuple[str, str], ...]:
    """What goes with every call: the tenant, if one is named, and the key, if there is one."""
    key = settings.key.get_secret_value()
    named = ((_TENANT, tenant),) if tenant else ()
    return (*named, ("authorization", f"Bearer {key}")) if key else named


def enrol(
    track_id: TrackArgument,
    subject: Annotated[str, typer.Option(help="Whom to enrol; made if not there.")],
    name: Annotated[str | None, typer.Option(help="What to call the person.")] = None,
    allow_duplicate: Annotated[
        bool, typer.Option("--allow-duplicate", help="Even if another subject has this face.")
    ] = False,
    key: Annotated[str, typer.Option(help="Idempotency key.")] = "",
    server: ServerOption = "",
    tenant: TenantOption = "",
    as_json: JsonOption = False,
) -> int:
    """Enrol a subject from what was seen along a track. Exit code: 0 enrolled, 2 refused."""
    request = camera_pb2.EnrolTrackRequest(
        track_id=track_id,
        subject_id=subject,
        name=name,
        allow_duplicate=allow_duplicate,
        idempotency_key=key,
    )
    answer = _ask(server, lambda stub, options: stub.EnrolTrack(request, **options), tenant=tenant)
    outcome = gallery_pb2.EnrolmentOutcome.Name(answer.outcome).removeprefix(_OUTCOME).lower()
    if as_json:
        print_json({**_shown(answer), "outcome": outcome})
    else:
        out.print(f"{answer.subject_id}: {outcome}, {answer.shots} shots", markup=False)
    return _REFUSED if answer.outcome == gallery_pb2.ENROLMENT_OUTCOME_REFUSED else 0


def policy(
    camera_id: CameraArgument,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE; repeat it. Nothing after =: the default again."),
    ] = None,
    server: ServerOption = "",
    tenant: TenantOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show the policy of a camera, or change fields of it.

    region=0.1,0.1 0.9,0.1 0.9,0.9; watch_list=role=staff,site=north; all others are numbers, or
    true and false.
    """
    asked = camera_pb2.GetCameraPolicyRequest(camera_id=camera_id)
    found = _ask(
        server, lambda stub, options: stub.GetCameraPolicy(asked, **options), tenant=tenant
    ).policy
    if changes:
        changed = camera_pb2.SetCameraPolicyRequest(
            camera_id=camera_id, policy=changed_policy(found, changes)
        )
        found = _ask(
            server, lambda stub, options: stub.SetCameraPolicy(changed, **options), tenant=tenant
        ).policy
    shown = _shown(found)
    if as_json:
        print_json(shown)
        return
    for field, value in shown.items():
        out.print(f"{field}: {value}", markup=False)


def cameras(
    server: ServerOption = "", tenant: TenantOption = DEFAULT_TENANT, as_json: JsonOption = False
) -> None:
    """List the cameras that have sent frames lately or have a policy."""
    request = camera_pb2.ListCamerasRequest()
    answer = _ask(server, lambda stub, options: stub.ListCameras(request, **options), tenant=tenant)
    if as_json:
        print_json({"cameras": [_shown(one) for one in answer.cameras]})
        return
    table = Table("camera", "connected", "frames", "dropped", "tracks")
    for one in answer.cameras:
        connected = "yes" if one.connected else "no"
        counts = (one.frames, one.dropped, one.tracks)
        table.add_row(one.camera_id, connected, *(f"{count:,}" for count in counts))
    out.print(table)


def shot(
    track_id: TrackArgument,
    file: Annotated[Path, typer.Argument(dir_okay=False, help="Write the JPEG here.")],
    server: ServerOption = "",
    tenant: TenantOption = "",
) -> None:
    """Fetch the picture of a track's best shot, where the camera's policy keeps it."""
    request = camera_pb2.GetBestShotRequest(track_id=track_id)
    answer = _ask(server, lambda stub, options: stub.GetBestShot(request, **options), tenant=tenant)
    file.write_bytes(answer.image)
    err.print(f"{file}: {len(answer.image):,} bytes; it is personal data.", markup=False)


def changed_policy(
    before: camera_pb2.CameraPolicy, changes: Iterable[str]
) -> camera_pb2.CameraPolicy:
    """A policy with some fields changed.

    Args:
        before: with all fields set; it is left as it is.
        changes: FIELD=VALUE each.

    Raises:
        typer.BadParameter: a field is unknown or has a wrong value.
    """
    made = camera_pb2.CameraPolicy()
    made.CopyFrom(before)
    for change in changes:
        field, equals, value = change.partition("=")
        if not equals or field not in made.DESCRIPTOR.fields_by_name:
            known = ", ".join(made.DESCRIPTOR.fields_by_name)
            raise typer.BadParameter(f"--set takes FIELD=VALUE; the fields are {known}")
        made.ClearField(field)  # type: ignore[arg-type]  # it is one of them, as checked
        if value:
            try:
                _set(made, field, value)
            except ValueError as error:
                raise typer.BadParameter(f"--set {field}: {value!r} is not understood") from error
    return made


def _set(policy: camera_pb2.CameraPolicy, field: str, value: str) -> None:
    if field == "region":
        corners = [corner.split(",") for corner in value.split()]
        policy.region.extend(face_pb2.Point(x=float(x), y=float(y)) for x, y in corners)
    elif field == "watch_list":
        for pair in value.split(","):
            name, text = pair.split("=", 1)
            policy.watch_list[name] = text
    elif field == "no_enhancement":
        if value not in ("true", "false"):
            raise ValueError(value)
        policy.no_enhancement = value == "true"
    else:
        setattr(policy, field, float(value))


def _shown(message: Any) -> dict[str, Any]:
    shown: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return shown


def _ask(
    server: str,
    work: Callable[[camera_pb2_grpc.CameraServiceAsyncStub, dict[str, Any]], Awaitable[_Result]],
    tenant: str,
) -> _Result:
    """Makes one call.

    Raises:
        MienError: the service refused, failed, or does not answer.
    """
    settings = command_settings()
    address = server_address(server, settings)
    options = {"timeout": _TIMEOUT, "metadata": call_metadata(tenant, settings.watch)}

    async def asked() -> _Result:
        async with open_channel(address, watch_credentials(settings.watch)) as channel:
            try:
                return await work(camera_pb2_grpc.CameraServiceStub(channel), options)
            except grpc.aio.AioRpcError as error:
                raise told(error, "camera", Errors.NOT_READY) from error

    return run(asked())
