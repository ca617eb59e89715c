"""Several replicas of a service behind one name share its calls."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from models.zoo import Zoo
from services.embedding import Embedder
from services.gateway.embedding_client import RpcLink
from services.runtime.weightless_engine import WeightlessEngine
from tests.integration.harness import LoopThread, embedding_in_thread


def test_calls_are_spread_over_every_address_of_a_name(tmp_path: Path) -> None:
    models = ("sface", "poseface")  # by which the test tells the replicas apart
    with contextlib.ExitStack() as stack:
        addresses = [
            stack.enter_context(
                embedding_in_thread(
                    Embedder(Zoo(tmp_path).embedder(name), WeightlessEngine(dimension=128))
                )
            )
            for name in models
        ]
        loop = stack.enter_context(LoopThread())

        async def ask() -> set[str]:
            link = RpcLink(f"ipv4:{','.join(addresses)}")
            seen: set[str] = set()
            deadline = time.monotonic() + 30  # connections come up one after the other
            while seen != set(models) and time.monotonic() < deadline:
                answer = await link.list_models(10.0, wait=True)
                seen.add(answer.models[0].identity.name)
            await link.close()
            return seen

        assert loop.call(ask()) == set(models)
