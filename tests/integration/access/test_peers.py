"""Model services that answer only whom they are told of by name."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.errors import Errors, MienError
from services.rpc.mien.v1 import embedding_pb2, embedding_pb2_grpc
from services.settings import TlsSettings, load_settings
from tests.integration.access.certificates import Authority
from tests.integration.access.test_tls import authority, embedding, models_seen, tls
from tests.integration.harness import (
    NO_PROXY,
    mien_in_thread,
    rich_error,
    settings_on_free_ports,
    weightless_loader,
)

__all__ = ["authority"]
_DNS, _URI = "gateway.mien", "spiffe://example.org/mien/gateway"


def _choosy(authority: Authority, *peers: str) -> TlsSettings:
    return tls(authority, "embedding").model_copy(update={"peers": peers})


@pytest.mark.parametrize("name", [_DNS, _URI])
def test_a_service_answers_who_has_a_name_that_it_was_told(
    mien_home: Path, authority: Authority, name: str
) -> None:
    with embedding(mien_home, _choosy(authority, _DNS, _URI)) as address:
        assert models_seen(address, tls(authority, "gateway", "of-no-matter.mien", name)) == 1


@pytest.mark.parametrize(
    "name", ["other.mien", "sub.gateway.mien", "*.mien", "spiffe://example.org/mien/gateway/x"]
)
def test_a_certificate_with_another_name_is_of_no_use(
    mien_home: Path, authority: Authority, name: str
) -> None:
    with (
        embedding(mien_home, _choosy(authority, _DNS, _URI)) as address,
        pytest.raises(MienError) as caught,
    ):
        models_seen(address, tls(authority, _DNS, name))  # the common name does not count
    assert caught.value.error is Errors.EMBEDDING_UNAVAILABLE, "whoever called us is not at fault"
    assert "does not let this one in" in caught.value.detail


def _list(channel: grpc.Channel) -> object:
    request = embedding_pb2.ListModelsRequest()
    return embedding_pb2_grpc.EmbeddingServiceStub(channel).ListModels(request)


def _reflect(channel: grpc.Channel) -> object:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    return list(stub.ServerReflectionInfo(iter([request])))


@pytest.mark.parametrize("ask", [_list, _reflect])
def test_a_stranger_is_told_why_and_may_see_health(
    mien_home: Path, authority: Authority, ask: Callable[[grpc.Channel], object]
) -> None:
    cert, key = authority.issue("stranger")
    credentials = grpc.ssl_channel_credentials(
        authority.file.read_bytes(), key.read_bytes(), cert.read_bytes()
    )
    with (
        embedding(mien_home, _choosy(authority, _DNS)) as address,
        grpc.secure_channel(address, credentials, options=NO_PROXY) as channel,
    ):
        with pytest.raises(grpc.RpcError) as caught:
            ask(channel)
        told = rich_error(caught.value)
        assert (told.code, told.reason) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "PERMISSION_DENIED",
        )
        assert "MIEN_TLS__PEERS" in told.message
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_who_is_let_in_by_name_may_ask_for_streams_too(
    mien_home: Path, authority: Authority
) -> None:
    cert, key = authority.issue("known", _DNS)
    credentials = grpc.ssl_channel_credentials(
        authority.file.read_bytes(), key.read_bytes(), cert.read_bytes()
    )
    with (
        embedding(mien_home, _choosy(authority, _DNS)) as address,
        grpc.secure_channel(address, credentials, options=NO_PROXY) as channel,
    ):
        assert len(list(_reflect(channel))) == 1  # type: ignore[call-overload]


def test_http_of_a_service_answers_by_name_too(
    mien_home: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.serve.load_configured", weightless_loader())
    whole = settings_on_free_ports(mien_home)
    own = whole.embedding.model_copy(update={"port": 0, "http_port": 0})
    settings = whole.model_copy(update={"tls": _choosy(authority, _DNS), "embedding": own})
    with mien_in_thread(settings, "embedding") as running:

        def answers(*names: str) -> dict[str, int]:
            context = ssl.create_default_context(cafile=authority.file)
            context.load_cert_chain(*authority.issue("caller", *names))
            paths = ("/metrics", "/v2", "/v2/health/live", "/v2/health/ready")
            with httpx.Client(verify=context, trust_env=False) as client:
                return {path: client.get(f"{running.rest_url}{path}").status_code for path in paths}

        assert set(answers(_DNS).values()) == {httpx.codes.OK}
        refused = answers("stranger.mien")
    assert refused == {
        "/metrics": httpx.codes.FORBIDDEN,
        "/v2": httpx.codes.FORBIDDEN,
        "/v2/health/live": httpx.codes.OK,
        "/v2/health/ready": httpx.codes.OK,
    }


def test_peers_are_told_by_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CA", "CERT", "KEY"):
        monkeypatch.setenv(f"MIEN_TLS__{name}", f"{name}.pem")
    monkeypatch.setenv("MIEN_TLS__PEERS", f"{_DNS}, {_URI}")
    assert load_settings().tls.peers == (_DNS, _URI)
