"""`mien serve`, `health`, `config`, `openapi`, `errors`, `demo` and `doctor`."""

from __future__ import annotations

import asyncio
import sys
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, get_args

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import BaseModel

from services.cli.context import command_settings, run
from services.cli.demo import run_demo
from services.cli.doctor import doctor
from services.cli.faces import JsonOption
from services.cli.output import err, out, print_json
from services.errors_document import errors_markdown
from services.gateway.rest.document import openapi_text
from services.rpc.tls import client_credentials, gateway_trust, secured_channel
from services.serve import Service
from services.serve import serve as serve_services
from services.settings import Settings, SettingsError, check_home, load_settings, variable
from services.telemetry import configure_logging

_HEALTH_TIMEOUT = 3.0


def add_commands(app: typer.Typer) -> None:
    """Adds the commands to the root."""
    app.command()(serve)
    app.command()(health)
    app.command()(config)
    app.command()(openapi)
    app.command()(errors)
    app.command()(demo)
    app.command()(doctor)


def serve(
    service: Annotated[
        str,
        typer.Argument(help="all (in one process), gateway, embedding, enhancement or mapping."),
    ] = "all",
) -> None:
    """Run Mien until it is interrupted: all services in one process, or one by name."""
    if service not in get_args(Service):
        raise typer.BadParameter(f"name one of {', '.join(get_args(Service))}")
    settings = load_settings()
    check_home(settings.home)
    configure_logging(settings.log_level, settings.log_format)
    chosen: Service = service  # type: ignore[assignment]  # one of them, as checked
    serve_services(settings, chosen)


def health(
    address: Annotated[str, typer.Argument(help="host:port of a gRPC service.")] = "",
    as_json: JsonOption = False,
) -> int:
    """Ask a running service over gRPC whether it is healthy. Exit code: 0 yes, 1 no."""
    settings = load_settings()
    gateway = settings.gateway
    target = address or f"{gateway.grpc_host}:{gateway.grpc_port}"
    # The gateway shows callers a certificate of its own; other services want to know who asks.
    is_gateway = target.rpartition(":")[2] == str(gateway.grpc_port)
    credentials = (gateway_trust if is_gateway else client_credentials)(settings.tls)

    async def work() -> bool:
        options = [("grpc.enable_http_proxy", 0)]
        async with secured_channel(target, credentials, options) as channel:
            try:
                stub: Any = health_pb2_grpc.HealthStub(channel)  # its types know no methods
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_HEALTH_TIMEOUT)
            except grpc.aio.AioRpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    healthy = asyncio.run(work())
    if as_json:
        print_json({"address": target, "serving": healthy})
    else:
        out.print(f"{target}: {'serving' if healthy else 'not serving'}")
    return 0 if healthy else 1


def config(
    name: Annotated[str, typer.Argument(help="One setting, e.g. home or gateway.http_port.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Print every setting, its value here, and what it is for; or the value of one."""
    settings = load_settings()
    if name:
        try:
            out.print(attrgetter(name)(settings), soft_wrap=True)
        except AttributeError as error:
            raise SettingsError(f"{name}: there is no such setting") from error
        return
    if as_json:
        sys.stdout.write(settings.model_dump_json(indent=2) + "\n")
        return
    for top, field in Settings.model_fields.items():
        value = getattr(settings, top)
        if not isinstance(value, BaseModel):
            _print_setting(variable([top]), value, field.description)
            continue
        for inner, described in type(value).model_fields.items():
            _print_setting(variable([top, inner]), getattr(value, inner), described.description)


def errors(
    file: Annotated[Path | None, typer.Argument(help="Write here; else print.")] = None,
) -> None:
    """Write the error catalogue as Markdown."""
    _write(errors_markdown(), file)


def openapi(
    file: Annotated[Path | None, typer.Argument(help="Write here; else print.")] = None,
) -> None:
    """Write the OpenAPI 3.1 description of the REST interface."""
    _write(openapi_text(), file)


def demo(as_json: JsonOption = False) -> int:
    """Start Mien, verify real photographs over REST and gRPC, migrate made-up people."""
    all_right = run(run_demo(command_settings(), as_json))
    if not all_right:
        err.print(
            "The decisions are not what the photographs show, or the switch failed.", style="red"
        )
    return 0 if all_right else 1


def _write(text: str, file: Path | None) -> None:
    if file is None:
        sys.stdout.write(text)
    else:
        file.write_text(text, encoding="utf-8")


def _print_setting(name: str, value: object, description: str | None) -> None:
    shown = ",".join(str(v) for v in value) if isinstance(value, tuple) else value
    about = f"  [dim]# {description}[/dim]" if description else ""
    out.print(f"{name}={'' if shown is None else shown}{about}", soft_wrap=True)
