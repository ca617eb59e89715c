"""An enhancer whose work can be computed by hand: it gives the negative of a picture."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from models.zoo import EnhancerCard, Zoo
from models.zoo.fetch import file_sha256
from services.enhancement import EnhancementServer, Enhancer, load_enhancer
from services.gain_gate import eyes_px
from services.rpc.mien.v1 import enhancement_pb2_grpc
from services.settings import EngineSettings, EnhancementSettings
from tests.gain_points import point
from tests.integration.harness import NO_PROXY, call
from tests.tiny_networks import write_enhancer


def gate(
    embedder: str, sha256: str, helps_at: int, *, upwards: bool = False, **thresholds: float
) -> dict[str, Any]:
    """A gate that says: up to so many pixels across the crop it helps, a little above no more.

    Args:
        embedder: that was measured.
        sha256: of its weights.
        helps_at: pixels.
        upwards: from them on, and a little below no more.
        thresholds: of comparisons with an enhanced face, "at_0_001" for a false-match rate of 1e-3.
    """
    beyond = helps_at + (-4 if upwards else 4)
    return {
        "embedder": embedder,
        "embedder_sha256": sha256,
        f"helps_{'from' if upwards else 'below'}_eyes_px": eyes_px(helps_at),
        "points": [p.model_dump() for p in (point(helps_at, 0.1), point(beyond, -0.3))],
        "faces": 20,
        "people": 5,
        "data": "made up",
        "command": "none",
        "hardware": "none",
        "date": "2026-01-01",
        "thresholds": [
            {
                "fmr": float(name.removeprefix("at_").replace("_", ".", 1)),
                "similarity": similarity,
                "interval": (similarity - 0.01, similarity + 0.01),
                "impostor_comparisons": 1000,
                "people": 5,
                "images": 20,
                "data": "made up",
                "command": "none",
            }
            for name, similarity in thresholds.items()
        ],
    }


def add_enhancer(home: Path, name: str = "negative", **fields: Any) -> EnhancerCard:
    """Puts the network and its card where the zoo finds them."""
    folder = home / "models" / name / "1"
    folder.mkdir(parents=True)
    network = write_enhancer(folder / "model.onnx")
    weights = {"sha256": file_sha256(network), "size_bytes": network.stat().st_size}
    card = {
        "kind": "enhancer", "name": name, "version": "1", "operation": "super_resolution",
        "licence": "CC0-1.0", "weights": weights, **fields,
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card))
    return Zoo(home).enhancer(name)


def loaded(home: Path, *names: str) -> list[Enhancer]:
    """Enhancers of a zoo, through the gate of parity."""
    engine = EngineSettings(preference="openvino", threads=1)
    return [load_enhancer(Zoo(home), name, engine) for name in names]


@contextlib.contextmanager
def serving(
    enhancers: list[Enhancer], **limits: Any
) -> Iterator[tuple[enhancement_pb2_grpc.EnhancementServiceStub, str]]:
    """Runs an enhancement service; yields a stub of it and its address."""

    async def start() -> EnhancementServer:
        server = EnhancementServer(enhancers, "127.0.0.1:0", EnhancementSettings(**limits))
        await server.start()
        return server

    server = call(start())
    try:
        with grpc.insecure_channel(server.address, options=NO_PROXY) as channel:
            yield enhancement_pb2_grpc.EnhancementServiceStub(channel), server.address
    finally:
        call(server.stop(0))
