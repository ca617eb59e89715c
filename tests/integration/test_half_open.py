"""Services that hang, or whose network swallows what is sent: callers are told soon, not late."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from services.bench.chaos.half_open import HalfOpenProxy
from services.errors import Errors, MienError
from services.gateway.embedding_client import RpcLink
from tests.integration.harness import call, embedding_in_thread, weightless_embedder

_PATIENCE = 30.0
_SOON = 10.0  # two pings and some time for a busy machine


async def _cut_and_mended(target: int) -> tuple[Errors, float, Errors, float, float]:
    """What two calls over a cut connection end in and when; then how long it takes to be back."""
    proxy = HalfOpenProxy(target)
    await proxy.start()
    link = RpcLink(f"127.0.0.1:{proxy.port}")
    failures: list[Errors] = []
    seconds: list[float] = []
    try:
        await link.list_models(_PATIENCE, wait=True)
        proxy.cut()
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(MienError) as caught:
                await link.list_models(_PATIENCE)
            failures.append(caught.value.error)
            seconds.append(time.monotonic() - began)
        proxy.mend()
        began = time.monotonic()
        await link.list_models(_PATIENCE, wait=True)
        return failures[0], seconds[0], failures[1], seconds[1], time.monotonic() - began
    finally:
        await link.close()
        await proxy.close()


def test_a_connection_that_swallows_everything_is_given_up_and_made_anew(tmp_path: Path) -> None:
    with embedding_in_thread(weightless_embedder(tmp_path)) as address:
        port = int(address.rpartition(":")[2])
        first, waited, second, then, back = call(_cut_and_mended(port))
    assert first is second is Errors.EMBEDDING_UNAVAILABLE
    assert waited < _SOON
    assert then < 1.0, "while it is gone, calls fail at once"
    assert back < _SOON


def test_an_idle_connection_is_not_closed_for_its_pings(tmp_path: Path) -> None:
    async def connections(target: int) -> int:
        proxy = HalfOpenProxy(target)
        await proxy.start()
        link = RpcLink(f"127.0.0.1:{proxy.port}")
        try:
            await link.list_models(_PATIENCE, wait=True)
            await asyncio.sleep(11)  # more pings than gRPC forgives by itself
            await link.list_models(_PATIENCE, wait=True)
            return proxy.taken
        finally:
            await link.close()
            await proxy.close()

    with embedding_in_thread(weightless_embedder(tmp_path)) as address:
        assert call(connections(int(address.rpartition(":")[2]))) == 1
