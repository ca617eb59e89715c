"""How many requests a caller may send, by itself and over several gateways."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from limits.aio.storage import MemoryStorage

from services.access.policy import Action
from services.access.principal import Principal
from services.access.rates import Rates
from services.errors import Errors, MienError
from services.rpc.mien.v1 import gallery_pb2
from services.settings import Settings, SettingsError, load_settings
from services.shared import limits_storage
from tests.integration.access.conftest import Guarded, guarded_mien, with_key
from tests.integration.harness import rich_error
from tests.integration.redis_server import RedisServer, skip_without_redis
from tests.integration.rest import problem

_BUSY = Principal("busy", "a", frozenset({Action.VERIFY}))


@pytest.fixture(scope="module")
def slow(mien_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A Mien that takes three requests a minute from a caller."""
    with guarded_mien(mien_home, tmp_path_factory.mktemp("slow"), rate="3/minute") as made:
        yield made


def test_a_caller_of_too_many_requests_is_told_when_to_come_back(slow: Guarded) -> None:
    secret = slow.new_key("a")
    with slow.client(secret) as client:
        for _ in range(3):
            assert client.get("/v1/subjects").status_code == httpx.codes.OK
        told = problem(client.get("/v1/subjects"), "rate_limited")
        assert 1 <= told["retry_after"] <= 60
        assert client.get("/healthz/live").status_code == httpx.codes.OK
    with slow.mien.gallery() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.ListSubjects(gallery_pb2.ListSubjectsRequest(), metadata=with_key(secret))
    refusal = rich_error(caught.value)
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "RATE_LIMITED",
    )
    assert refusal.retry_seconds is not None
    assert 1 <= refusal.retry_seconds <= 60
    with slow.client(slow.new_key("a")) as other:  # of the same tenant
        assert other.get("/v1/subjects").status_code == httpx.codes.OK


def test_a_key_may_have_a_rate_of_its_own(slow: Guarded) -> None:
    with slow.client(slow.new_key("a", rate="5/minute")) as client:
        codes = [client.get("/v1/subjects").status_code for _ in range(6)]
    assert codes == [200] * 5 + [429]


def test_what_is_refused_for_its_action_counts_too(slow: Guarded) -> None:
    with slow.client(slow.new_key("a", Action.VERIFY)) as client:
        codes = [client.get("/v1/subjects").status_code for _ in range(4)]
    assert codes == [403] * 3 + [429]


async def test_the_window_moves_on() -> None:
    rates = Rates(MemoryStorage(), "2/second")
    await rates.count(_BUSY)
    await rates.count(_BUSY)
    with pytest.raises(MienError) as caught:
        await rates.count(_BUSY)
    assert caught.value.error is Errors.RATE_LIMITED
    assert 0 < float(caught.value.retry_after or 0) <= 1.1
    time.sleep(float(caught.value.retry_after or 0) + 0.05)  # noqa: ASYNC251 - alone in its loop
    await rates.count(_BUSY)


async def test_no_rate_is_no_limit() -> None:
    rates = Rates(MemoryStorage(), "")
    for _ in range(50):
        await rates.count(_BUSY)


async def test_gateways_that_share_a_redis_count_together() -> None:
    skip_without_redis()
    with RedisServer() as server:
        settings = Settings.model_validate({"redis": {"url": server.url, "timeout_seconds": 5}})
        first = Rates(limits_storage(settings), "3/minute")
        second = Rates(limits_storage(settings), "3/minute")
        for rates in (first, second, first):
            await rates.count(_BUSY)
        for rates in (first, second):
            with pytest.raises(MienError, match="3 per 1 minute"):
                await rates.count(_BUSY)


@pytest.mark.parametrize("rate", ["often", "0/minute", "600"])
def test_what_is_no_rate_is_refused(monkeypatch: pytest.MonkeyPatch, rate: str) -> None:
    monkeypatch.setenv("MIEN_ACCESS__RATE", rate)
    with pytest.raises(SettingsError, match="MIEN_ACCESS__RATE"):
        load_settings()
