"""Who is let in, over REST and gRPC, route by route."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import grpc
import httpx
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from services.access import Action
from services.access.policy import EVERYWHERE, REST, RPC, Rule
from services.access.secret import new_secret
from services.audit.read import Filter, read
from services.audit.trail import place_of
from services.gateway.core import Gateway
from services.gateway.gallery_core import GalleryGateway
from services.gateway.migration_access import MigrationAccess
from services.gateway.rest.app import create_app
from services.gateway.retention_loop import RetentionLoop
from services.rpc.mien.v1 import face_pb2, gallery_pb2
from services.settings import ImageSettings
from tests.integration.access.conftest import OF_TENANT, Guarded, with_key
from tests.integration.harness import RichError, code_of, rich_error
from tests.integration.rest import problem

_C = grpc.StatusCode
ROUTES = pytest.mark.parametrize(
    ("method", "path", "rule"),
    [(*route, rule) for route, rule in REST.items()],
    ids=[" ".join(route) for route in REST],
)
CALLS = pytest.mark.parametrize(("method", "rule"), RPC.items(), ids=list(RPC))


def _address(path: str) -> str:
    given = {"{subject_id}": "s", "{template_id}": "t", "{id}": "m", "{file}": "app.js"}
    for place, name in given.items():
        path = path.replace(place, name)
    return path


def _refusal(
    guarded: Guarded, method: str, metadata: tuple[tuple[str, str], ...] = ()
) -> RichError | None:
    """Mien's refusal of an empty message; None if there is none."""
    with guarded.mien.channel() as channel:
        call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
        try:
            list(call(iter([b""]), metadata=metadata, timeout=10))
        except grpc.RpcError as error:
            if code_of(error) is not _C.UNIMPLEMENTED:  # as Health/List is
                return rich_error(error)
    return None


def test_every_rest_route_has_a_rule_and_every_rule_a_route() -> None:
    nothing = cast("Any", None)
    app = create_app(
        cast("Gateway", nothing),
        cast("GalleryGateway", nothing),
        cast("MigrationAccess", nothing),
        cast("RetentionLoop", nothing),
        ImageSettings(),
        console=True,
    )
    served = {
        (method, route.path)
        for route in cast("list[Any]", app.routes)
        for method in route.methods - {"HEAD"}
    }
    assert served == set(REST)


def test_every_grpc_method_has_a_rule_and_every_rule_a_method(guarded: Guarded) -> None:
    with guarded.mien.channel() as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        served = {
            f"/{name}/{method.name}"
            for name in database.get_services()
            for method in pool.FindServiceByName(name).methods
        }
    assert served == set(RPC)


@ROUTES
def test_without_a_key_a_rest_route_is_open_or_refuses(
    guarded: Guarded, method: str, path: str, rule: Rule
) -> None:
    with guarded.client() as client:
        answer = client.request(method, _address(path), follow_redirects=True)
    if rule.is_open:
        assert answer.status_code == httpx.codes.OK
        return
    problem(answer, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@CALLS
def test_without_a_key_a_grpc_method_is_open_or_refuses(
    guarded: Guarded, method: str, rule: Rule
) -> None:
    if method.endswith("/Watch"):
        return  # an open stream without an end: Check says as much
    refusal = _refusal(guarded, method)
    if rule.is_open:
        assert refusal is None
        return
    assert refusal is not None
    assert (refusal.code, refusal.reason) == (_C.UNAUTHENTICATED, "UNAUTHENTICATED")


@ROUTES
def test_a_key_without_the_action_is_refused_by_its_name_over_rest(
    guarded: Guarded, method: str, path: str, rule: Rule
) -> None:
    if rule.action is None:
        return
    others = [one for one in Action if one != rule.action]
    with guarded.client(guarded.key("*", *others)) as client:
        told = problem(client.request(method, _address(path)), "permission_denied")
    assert told["detail"] == f"The caller is not allowed to {rule.action}."


@CALLS
def test_a_key_without_the_action_is_refused_by_its_name_over_grpc(
    guarded: Guarded, method: str, rule: Rule
) -> None:
    if rule.action is None:
        return
    others = [one for one in Action if one != rule.action]
    refusal = _refusal(guarded, method, with_key(guarded.key("*", *others)))
    assert refusal is not None
    assert (refusal.code, refusal.reason) == (_C.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert str(rule.action) in refusal.message


@ROUTES
def test_no_rest_route_takes_another_tenants_name(
    guarded: Guarded, method: str, path: str, rule: Rule
) -> None:
    if rule.is_open:
        return
    with guarded.client(guarded.key("a")) as client:
        body = client.request(method, _address(path), headers={"x-mien-tenant": "b"})
    told = problem(body, "permission_denied")
    if rule.action not in EVERYWHERE:
        assert told["detail"] == "The caller may not act for that tenant."


@CALLS
def test_no_grpc_method_takes_another_tenants_name(
    guarded: Guarded, method: str, rule: Rule
) -> None:
    if rule.is_open:
        return
    named = (*with_key(guarded.key("a")), ("x-mien-tenant", "b"))
    refusal = _refusal(guarded, method, named)
    assert refusal is not None
    assert refusal.code is _C.PERMISSION_DENIED


@pytest.mark.parametrize("scheme", ["Bearer {}", "bearer {}", "x-api-key"])
def test_a_key_is_taken_as_a_bearer_or_in_a_header_of_its_own(
    guarded: Guarded, scheme: str
) -> None:
    secret = guarded.key()
    name = "x-api-key" if scheme == "x-api-key" else "authorization"
    value = secret if scheme == "x-api-key" else scheme.format(secret)
    with guarded.client() as client:
        assert client.get("/v1/models", headers={name: value}).status_code == httpx.codes.OK
    with guarded.mien.gallery() as stub:
        stub.ListSubjects(gallery_pb2.ListSubjectsRequest(), metadata=((name, value),))


@pytest.fixture(
    params=["nonsense", "basic", "typo", "unknown", "wrong", "expired", "revoked", "token"]
)
def bad(request: pytest.FixtureRequest, guarded: Guarded) -> Iterator[str]:
    """Headers that nobody is let in with."""
    now, good = datetime.now(UTC), guarded.key()
    other = guarded.key()
    yield {
        "nonsense": "Bearer mien_",
        "basic": "Basic dXNlcjpwYXNz",
        "typo": f"Bearer {good[:-1]}{'A' if good[-1] != 'A' else 'B'}",
        "unknown": f"Bearer {_of_nobody()}",
        "wrong": f"Bearer {_of_nobody(good.split('_')[1])}",
        "expired": f"Bearer {guarded.new_key(expires=now - timedelta(seconds=1))}",
        "revoked": f"Bearer {guarded.new_key(revoked=now)}",
        "token": "Bearer a.b.c",
    }[request.param]
    with guarded.client(other) as client:  # what is refused is not refused for another reason
        assert client.get("/v1/models").status_code == httpx.codes.OK


def _of_nobody(key_id: str = "0123456789ab") -> str:
    return new_secret(key_id).text


def test_what_is_no_valid_key_is_refused_in_the_same_words(guarded: Guarded, bad: str) -> None:
    with guarded.client() as client:
        told = problem(
            client.get("/v1/subjects", headers={"authorization": bad}), "unauthenticated"
        )
    refusal = _refusal(guarded, "/mien.v1.GalleryService/ListSubjects", (("authorization", bad),))
    assert refusal is not None
    assert refusal.message == told["detail"]
    if not bad.startswith("Basic"):
        assert told["detail"] == "The API key or token is not valid."


def test_a_caller_is_refused_before_the_body_is_read(guarded: Guarded) -> None:
    host, port = guarded.mien.rest_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as raw:
        raw.sendall(b"POST /v1/identify HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
        assert raw.recv(100).startswith(b"HTTP/1.1 401")
    with guarded.mien.channel() as channel:
        never: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            "/mien.v1.GalleryService/Identify"
        )
        with pytest.raises(grpc.RpcError) as caught:
            list(never(_never(), timeout=5))
    assert rich_error(caught.value).code is _C.UNAUTHENTICATED


def _never() -> Iterator[bytes]:
    time.sleep(6)
    yield b""


def test_a_key_stands_for_its_tenant_and_one_of_all_tenants_for_any(guarded: Guarded) -> None:
    with guarded.client(guarded.key("own")) as own:
        assert own.post("/v1/subjects", json={"id": "mine"}).status_code == httpx.codes.CREATED
        named = own.get("/v1/subjects/mine", headers={"x-mien-tenant": "own"})
        assert named.status_code == httpx.codes.OK
    everybody = guarded.key("*", *OF_TENANT)
    with guarded.client(everybody) as client:
        problem(client.get("/v1/subjects/mine"), "subject_unknown")  # of the tenant "default"
        found = client.get("/v1/subjects/mine", headers={"x-mien-tenant": "own"})
        assert found.status_code == httpx.codes.OK
    with guarded.mien.gallery() as stub:
        ask = gallery_pb2.GetSubjectRequest(subject_id="mine")
        assert stub.GetSubject(ask, metadata=with_key(guarded.key("own"))).subject.id == "mine"
        named_too = (*with_key(everybody), ("x-mien-tenant", "own"))
        assert stub.GetSubject(ask, metadata=named_too).subject.id == "mine"


def test_health_checks_need_no_key(guarded: Guarded) -> None:
    with guarded.mien.channel() as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_same_mien_on_this_machine_alone_asks_for_no_key(weightless_mien: Any) -> None:
    with weightless_mien.client() as client:
        assert client.get("/v1/subjects").status_code == httpx.codes.OK
    with weightless_mien.faces() as faces, pytest.raises(grpc.RpcError) as caught:
        faces.Detect(face_pb2.DetectRequest())
    assert rich_error(caught.value).reason == "IMAGE_EMPTY"


def test_a_known_caller_who_asks_for_too_much_is_in_the_audit_log_by_key(guarded: Guarded) -> None:
    folder = place_of(guarded.settings).folder
    key = guarded.key("curious", Action.VERIFY)
    with guarded.client(key) as client:
        problem(client.delete("/v1/subjects/somebody"), "permission_denied")
    with guarded.client(key + "x") as stranger:
        problem(stranger.delete("/v1/subjects/somebody"), "unauthenticated")
    deadline = time.monotonic() + 10  # nobody waits for the record of a refusal
    while not (told := list(read(folder, Filter(tenant="curious")))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (refusal,) = told
    assert (refusal["action"], refusal["outcome"]) == ("access.refused", "permission_denied")
    assert refusal["who"] == key.split("_")[1]
