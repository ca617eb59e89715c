"""Gateways beside each other: what callers notice of what they share."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.settings import Settings
from tests.integration.harness import (
    Mien,
    mien_in_thread,
    settings_on_free_ports,
    weightless_loader,
)
from tests.integration.redis_server import RedisServer, skip_without_redis
from tests.integration.subjects.people import (
    Identity,
    axis,
    enrol_vectors,
    identified,
    like,
    pictures,
)


@dataclass(frozen=True)
class Pair:
    """Two gateways on one gallery and one Redis."""

    redis: RedisServer
    one: httpx.Client
    other: httpx.Client

    @property
    def identity(self) -> Identity:
        told: dict[str, Any] = self.one.get("/v1/models").json()["models"][0]["identity"]
        return told


@pytest.fixture(scope="module")
def miens(
    mien_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RedisServer, Mien, Mien]]:
    """Two whole Miens whose embedder needs no weights, with Milvus Lite for a cluster."""
    skip_without_redis()
    gallery = f"milvus-lite:{tmp_path_factory.mktemp('shared') / 'gallery.db'}"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        plain = settings_on_free_ports(mien_home, gallery)
        given = {"url": server.url, "retry_seconds": 0.2}
        settings = Settings.model_validate({**dict(plain), "redis": given})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("services.serve.load_configured", weightless_loader())
            one = stack.enter_context(mien_in_thread(settings))
            other = stack.enter_context(mien_in_thread(settings))
        yield server, one, other


@pytest.fixture
def pair(miens: tuple[RedisServer, Mien, Mien]) -> Iterator[Pair]:
    """The same, with clients of a tenant that nobody else uses, and Redis up."""
    server, *both = miens
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(mien.client()) for mien in both]
        tenant = f"tenant-{uuid.uuid4().hex[:12]}"
        for client in clients:
            client.headers["x-mien-tenant"] = tenant
        yield Pair(server, *clients)


def test_one_face_is_not_enrolled_for_two_by_two_gateways_at_once(pair: Pair) -> None:
    identity = pair.identity
    enrol_vectors(pair.one, "first-of-all", [axis(99)], identity)
    for number in range(4):
        vector = axis(number)
        with ThreadPoolExecutor(2) as pool:
            calls = [
                pool.submit(enrol_vectors, client, f"{name}-{number}", [vector], identity)
                for client, name in ((pair.one, "a"), (pair.other, "b"))
            ]
            codes = sorted(call.result().status_code for call in calls)
        assert codes == [201, 409]


def test_one_subject_is_not_created_twice_by_two_gateways_at_once(pair: Pair) -> None:
    for number in range(4):
        bodies = [{"id": f"s-{number}", "name": name} for name in ("Ada", "Grace")]
        with ThreadPoolExecutor(2) as pool:
            calls = [
                pool.submit(client.post, "/v1/subjects", json=body)
                for client, body in zip((pair.one, pair.other), bodies, strict=True)
            ]
            codes = sorted(call.result().status_code for call in calls)
        assert codes == [201, 409]


def test_two_simultaneous_calls_with_one_key_do_the_work_once(pair: Pair, obama: bytes) -> None:
    headers = {"idempotency-key": "visit-1"}

    def enrol(client: httpx.Client) -> dict[str, Any]:
        path = "/v1/subjects/s/templates"
        answer = client.post(path, files=pictures(obama), headers=headers)
        assert answer.status_code in (200, 201), answer.text
        told: dict[str, Any] = answer.json()
        return told

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(enrol, (pair.one, pair.other) * 2))
    assert sorted(one["outcome"] for one in told) == ["enrolled", *["repeated"] * 3]
    assert len({tuple(one["template_ids"]) for one in told}) == 1
    for one in told:
        looked_at = one["outcome"] == "enrolled"
        assert len(one["pictures"]) == looked_at
        assert ("detect" in one["timing_ms"]) == looked_at


def test_enrolment_goes_on_without_redis_and_nothing_acknowledged_is_lost(pair: Pair) -> None:
    identity, ready = pair.identity, []
    enrol_vectors(pair.one, "first-of-all", [axis(99)], identity)

    def enrol(number: int) -> int:
        client = (pair.one, pair.other)[number % 2]
        vector = like((0.9, number), (0.3, number + 40))
        client.headers["idempotency-key"] = f"key-{number}"
        answer = enrol_vectors(client, f"s-{number}", [vector], identity)
        ready.append(client.get("/healthz/ready").status_code)
        return answer.status_code

    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(enrol, number) for number in range(16)]
        time.sleep(0.3)
        pair.redis.kill()
        time.sleep(0.8)
        pair.redis.start()
        codes = [call.result() for call in calls]
    assert set(ready) == {200}
    assert codes == [201] * 16
    for number in range(16):
        found = identified(pair.other, like((0.9, number), (0.3, number + 40)), identity)
        assert found["candidates"][0]["subject_id"] == f"s-{number}"
