"""What gRPC says of itself: health, while it starts and ends too, and the services that it has."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services import serve
from services.errors import MienError
from tests.integration.harness import (
    NO_PROXY,
    Mien,
    code_of,
    free_port,
    in_background,
    mien_in_thread,
    settings_on_free_ports,
)

_FACES = "mien.v1.FaceService"


def test_health_checks_serve(mien: Mien) -> None:
    with mien.channel() as channel:
        for service in ("", _FACES):
            assert _health(channel, service) == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            _health(channel, "mien.v1.NoSuchService")
        assert code_of(caught.value) is grpc.StatusCode.NOT_FOUND


def test_health_says_no_before_ready_and_after_stop(mien_home: Path) -> None:
    settings = settings_on_free_ports(
        mien_home,
        grpc_port=free_port(),
        embedding_address=f"127.0.0.1:{free_port()}",
        timeout_seconds=3,
    )

    async def try_to_start() -> None:
        async with serve.running(settings, "gateway"):
            raise AssertionError("it must not become ready without embeddings")

    attempt = in_background(try_to_start())
    address = f"127.0.0.1:{settings.gateway.grpc_port}"
    with grpc.insecure_channel(address, options=NO_PROXY) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        assert _health(channel, "") == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(MienError) as caught:
            attempt.result(timeout=30)
        assert caught.value.kind.http in (503, 504)
        with pytest.raises(grpc.RpcError):
            _health(channel, "")


def test_a_watcher_sees_the_service_go(mien_home: Path) -> None:
    settings = settings_on_free_ports(mien_home, drain_seconds=0.2)
    with contextlib.ExitStack() as stack:
        with mien_in_thread(settings) as running:
            channel = stack.enter_context(running.channel())
            stub: Any = health_pb2_grpc.HealthStub(channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest(service=_FACES))
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING


def _health(channel: grpc.Channel, service: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    status: int = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status
    return status


def test_reflection_lists_the_services(mien: Mien) -> None:
    with mien.channel() as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = stub.ServerReflectionInfo(iter([request]))
    listed = {service.name for service in answer.list_services_response.service}
    assert listed == {
        _FACES,
        "mien.v1.AccessService",
        "mien.v1.CameraService",
        "mien.v1.GalleryService",
        "mien.v1.MigrationService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
