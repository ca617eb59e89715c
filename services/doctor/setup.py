"""The set-up: home, weights, engines, ports, and the services that the gateway is to ask."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from models.zoo import Zoo, ZooError
from services.doctor.finding import Finding, note, ok, wrong
from services.settings import Settings

_GIB = 1024**3
_LEAST_DISK = _GIB  # weights, plans of a GPU's engines, and a small gallery
_SECONDS = 3.0


def home(settings: Settings) -> Finding:
    """Whether the home can be written, and has room."""
    folder = settings.home
    there = _nearest(folder)
    if not there.is_dir():
        return wrong("home", f"{there} is no folder", "Set MIEN_HOME to a folder.")
    free = shutil.disk_usage(there).free
    text = f"{folder}, {free / _GIB:.1f} GiB free"
    if not os.access(there, os.W_OK | os.X_OK):
        return note(
            "home",
            f"{folder} cannot be written",
            "Well for an image that has its weights. Else mount a volume that user "
            f"{os.getuid()} can write, or set MIEN_HOME.",
        )
    if free < _LEAST_DISK:
        return wrong("home", text, "Free some disk, or set MIEN_HOME to a larger one.")
    return ok("home", text)


def weights(settings: Settings) -> Iterator[Finding]:
    """Whether the weights of every model in the settings are here, and are what its card says."""
    zoo = Zoo(settings.home)
    named = (
        settings.detection.model,
        *settings.embedding.models,
        *settings.enhancement.models,
        *(settings.mapping.models or ()),
    )
    for reference in dict.fromkeys(named):
        check = f"weights of {reference}"
        try:
            card = zoo.card(reference)
            zoo.weights(card)
            if settings.embedding.frontalize and getattr(card, "decoder", None) is not None:
                zoo.decoder(zoo.embedder(reference))
        except ZooError as error:
            yield wrong(check, str(error), f"mien models pull {reference}; `mien models list`")
        else:
            yield ok(check, f"{card.reference}, SHA-256 as in its card")


def engines(settings: Settings, found: dict[str, str | None]) -> Finding:
    """Which engines work, and which one is taken. ``found`` is as of `available_engines`."""
    usable = [name for name, why in found.items() if why is None]
    text = f"can be used: {', '.join(usable) or 'none'}"
    wanted = settings.engine.preference
    if wanted == "triton":
        return ok("engines", f"a Triton server at {settings.engine.triton_address}; {text}")
    if wanted != "auto" and wanted not in usable:
        return wrong(
            "engines",
            f"MIEN_ENGINE__PREFERENCE={wanted}: {found.get(wanted)}",
            f"Install it, or take one that works: {', '.join(usable) or 'auto'}.",
        )
    if not usable:
        return wrong("engines", text, "pip install openvino onnxruntime")
    first = usable[0] if wanted == "auto" else wanted
    if "openvino" not in usable:
        return wrong("engines", text, f"The face detector needs OpenVINO: {found.get('openvino')}.")
    return ok("engines", f"{wanted} takes {first}; {text}")


def ports(settings: Settings) -> Iterator[Finding]:
    """Whether the gateway can listen."""
    gateway = settings.gateway
    for name, host, port in (
        ("HTTP", gateway.http_host, gateway.http_port),
        ("gRPC", gateway.grpc_host, gateway.grpc_port),
    ):
        check, variable = f"{name} port", f"MIEN_GATEWAY__{name.upper()}_PORT"
        if port == 0 or (failure := _why_not_bound(host, port)) is None:
            yield ok(check, f"{host}:{port} is free")
        elif is_serving(f"{gateway.grpc_host}:{gateway.grpc_port}"):
            yield ok(check, f"{host}:{port}: Mien is running there")
        else:
            yield wrong(check, f"{host}:{port}: {failure}", f"Free it, or set {variable}.")


def others(settings: Settings) -> Iterator[Finding]:
    """Whether the services answer that the gateway is told to ask."""
    gateway = settings.gateway
    for name, address in (
        ("embedding", gateway.embedding_address),
        ("enhancement", gateway.enhancement_address),
        ("mapping", gateway.mapping_address),
    ):
        if address is None:
            continue
        if is_serving(address):
            yield ok(f"{name} service", f"{address} is serving")
        else:
            yield wrong(
                f"{name} service",
                f"{address} does not answer, or is not ready",
                f"Start `mien serve {name}` there, or mend MIEN_GATEWAY__{name.upper()}_ADDRESS.",
            )


def is_serving(address: str) -> bool:
    """Whether a gRPC service says that it is healthy."""
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its types know no methods
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_SECONDS)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _why_not_bound(host: str, port: int) -> str | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return None


def _nearest(folder: Path) -> Path:
    """The folder itself, or where it would be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
