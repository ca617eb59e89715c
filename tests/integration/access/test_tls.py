"""TLS: services answer only whom their authority knows; callers see the gateway's certificate."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from services import serve
from services.cli import system
from services.embedding import EmbeddingServer
from services.errors import Errors, MienError
from services.gateway.embedding_client import RpcLink
from services.rpc.mien.v1 import camera_pb2, camera_pb2_grpc, embedding_pb2
from services.rpc.tls import client_credentials, service_credentials, watch_credentials
from services.settings import (
    EmbeddingSettings,
    Settings,
    SettingsError,
    TlsSettings,
    WatchSettings,
    load_settings,
)
from services.watch.stream import open_channel
from tests.integration.access.certificates import Authority
from tests.integration.harness import (
    NO_PROXY,
    call,
    free_port,
    mien_in_thread,
    settings_on_free_ports,
    weightless_embedder,
    weightless_loader,
)

_SECONDS = 5.0


def tls(authority: Authority, name: str, *hosts: str, local: bool = True) -> TlsSettings:
    """Settings of a service with a certificate of this authority."""
    cert, key = authority.issue(name, *hosts, local=local)
    return TlsSettings(ca=authority.file, cert=cert, key=key)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@contextlib.contextmanager
def embedding(home: Path, settings: TlsSettings) -> Iterator[str]:
    """An embedding service with TLS; its address."""

    async def start() -> EmbeddingServer:
        address = "127.0.0.1:0"
        credentials = service_credentials(settings, address)
        server = EmbeddingServer(
            [weightless_embedder(home)], address, EmbeddingSettings(), (), credentials
        )
        await server.start()
        return server

    server = call(start())
    try:
        yield server.address
    finally:
        call(server.stop(0))


def models_seen(address: str, settings: TlsSettings) -> int:
    """How many models a gateway with these settings sees there."""

    async def ask() -> embedding_pb2.ListModelsResponse:
        link = RpcLink(address, client_credentials(settings))
        try:
            return await link.list_models(_SECONDS)
        finally:
            await link.close()

    return len(call(ask()).models)


def refused(address: str, settings: TlsSettings) -> None:
    with pytest.raises(MienError) as caught:
        models_seen(address, settings)
    assert caught.value.error in (Errors.EMBEDDING_UNAVAILABLE, Errors.DEADLINE_EXCEEDED)


def test_a_service_answers_whom_its_authority_knows_and_nobody_else(
    mien_home: Path, authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    stranger_cert, stranger_key = other.issue("stranger")
    with embedding(mien_home, tls(authority, "embedding")) as address:
        assert models_seen(address, tls(authority, "gateway")) == 1
        refused(address, TlsSettings())
        refused(address, tls(other, "of-another-authority"))
        right_ca = TlsSettings(ca=authority.file, cert=stranger_cert, key=stranger_key)
        refused(address, right_ca)
        with_no_certificate = grpc.ssl_channel_credentials(authority.file.read_bytes())
        with grpc.secure_channel(address, with_no_certificate, options=NO_PROXY) as channel:
            ready = grpc.channel_ready_future(channel)
            with pytest.raises(grpc.FutureTimeoutError):
                ready.result(timeout=1)


def test_a_service_with_another_name_is_not_trusted(mien_home: Path, authority: Authority) -> None:
    served = tls(authority, "embedding", "embedding.mien", local=False)
    caller = tls(authority, "gateway")
    with embedding(mien_home, served) as address:
        refused(address, caller)
        named = caller.model_copy(update={"server_name": "embedding.mien"})
        assert models_seen(address, named) == 1


def test_a_renewed_certificate_is_taken_up_without_a_restart(
    mien_home: Path, authority: Authority, tmp_path: Path
) -> None:
    served = tls(authority, "embedding", "old.mien", local=False)
    caller = tls(authority, "gateway")
    with embedding(mien_home, served) as address:
        old = caller.model_copy(update={"server_name": "old.mien"})
        assert models_seen(address, old) == 1
        served.cert.write_bytes(b"half a certificate")  # type: ignore[union-attr]
        assert models_seen(address, old) == 1
        authority.issue("embedding", "new.mien", local=False)
        assert models_seen(address, caller.model_copy(update={"server_name": "new.mien"})) == 1
        refused(address, old)


@pytest.fixture
def public(
    mien_home: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Settings, serve.Running]]:
    """A gateway with a certificate for its callers, and the services' own TLS beside it."""
    cert, key = authority.issue("gateway.example", "gateway.example", "localhost")
    monkeypatch.setattr("services.serve.load_configured", weightless_loader())
    whole = settings_on_free_ports(mien_home, grpc_port=free_port())
    mine = tls(authority, "service").model_copy(update={"gateway_cert": cert, "gateway_key": key})
    settings = whole.model_copy(update={"tls": mine})
    with mien_in_thread(settings) as running:
        yield settings, serve.Running(running.rest_url, running.grpc_address)


def test_callers_see_the_gateways_certificate_on_rest_and_grpc(
    public: tuple[Settings, serve.Running], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, running = public
    url = str(running.rest_url)
    assert url.startswith("https://")
    trusting = ssl.create_default_context(cafile=authority.file)
    with httpx.Client(verify=trusting, trust_env=False) as client:
        assert client.get(f"{url}/healthz/ready").status_code == httpx.codes.OK
    with (
        httpx.Client(trust_env=False) as stranger,
        pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        stranger.get(f"{url}/healthz/ready")
    monkeypatch.setattr(system, "load_settings", lambda: settings)
    assert system.health() == 0  # `mien health`, which trusts the certificate that it has
    without = settings.model_copy(update={"tls": TlsSettings()})
    monkeypatch.setattr(system, "load_settings", lambda: without)
    assert system.health() == 1


def test_the_watch_client_trusts_the_authority_that_it_is_told_and_no_other(
    public: tuple[Settings, serve.Running], authority: Authority, tmp_path: Path
) -> None:
    port = str(public[1].grpc_address).rpartition(":")[2]

    async def cameras(ca: Path) -> int:
        credentials = watch_credentials(WatchSettings(tls=True, ca=ca))
        async with open_channel(f"localhost:{port}", credentials) as channel:
            stub = camera_pb2_grpc.CameraServiceStub(channel)
            asked = camera_pb2.ListCamerasRequest()
            return len((await stub.ListCameras(asked, timeout=_SECONDS)).cameras)

    assert call(cameras(authority.file)) == 0
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        call(cameras(Authority(tmp_path, "other").file))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_rest_takes_up_a_renewed_certificate(
    public: tuple[Settings, serve.Running], authority: Authority
) -> None:
    address = str(public[1].rest_url).removeprefix("https://").split(":")
    where = (address[0], int(address[1]))
    before = ssl.get_server_certificate(where)
    authority.issue("gateway.example", "gateway.example", "localhost")
    deadline = time.monotonic() + _SECONDS
    while ssl.get_server_certificate(where) == before:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_inference_protocol_of_a_service_is_no_way_around_its_tls(
    mien_home: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.serve.load_configured", weightless_loader())
    whole = settings_on_free_ports(mien_home)
    own = whole.embedding.model_copy(update={"port": 0, "http_port": 0})
    mine = tls(authority, "embedding")
    settings = whole.model_copy(update={"tls": mine, "embedding": own})
    known = ssl.create_default_context(cafile=authority.file)
    with (
        mien_in_thread(settings, "embedding") as running,
        httpx.Client(base_url=running.rest_url, verify=known, trust_env=False) as client,
    ):
        with pytest.raises(httpx.TransportError):
            client.get("/metrics")
        known.load_cert_chain(*authority.issue("prometheus"))
        with httpx.Client(verify=known, trust_env=False) as scraper:
            answer = scraper.get(f"{running.rest_url}/metrics")
        assert answer.status_code == httpx.codes.OK


@pytest.mark.parametrize(
    "given",
    [
        {"CA": "ca.pem"},
        {"CERT": "c.pem", "KEY": "k.pem"},
        {"GATEWAY_CERT": "c.pem"},
        {"PEERS": "gateway.mien"},
    ],
)
def test_half_of_what_tls_needs_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"MIEN_TLS__{name}", value)
    with pytest.raises(SettingsError, match="MIEN_TLS"):
        load_settings()


def test_a_certificate_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    settings = TlsSettings(ca=missing, cert=missing, key=missing)
    with pytest.raises(SettingsError, match=r"missing\.pem"):
        service_credentials(settings, "127.0.0.1:0")
    assert service_credentials(settings, "unix:/tmp/socket") is None
