"""A map whose work can be computed by hand, its card, and a service around it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from models.zoo import MapCard, Zoo
from models.zoo.fetch import file_sha256
from services.mapping import Mapper, MappingServer, load_mapper, probe_map
from services.rpc.mien.v1 import mapping_pb2, mapping_pb2_grpc, model_pb2
from services.settings import EngineSettings, MappingSettings
from tests.integration.harness import NO_PROXY, call
from tests.tiny_networks import write_map

Vectors = NDArray[np.float32]
SOURCE, TARGET = 8, 10


def end(name: str, dimension: int, letter: str) -> dict[str, Any]:
    """One of the two models of a card."""
    return {
        "name": name, "version": "1", "weights_sha256": letter * 64,
        "preprocessing_sha256": letter * 64, "dimension": dimension,
    }  # fmt: skip


def card_fields(network: Path, name: str = "tiny-map", **fields: Any) -> dict[str, Any]:
    """The card of a map from the model "old" to "new"."""
    return {
        "kind": "map", "name": name, "version": "1", "licence": "CC0-1.0", "method": "a matrix",
        "weights": {"sha256": file_sha256(network), "size_bytes": network.stat().st_size},
        "source": end("old", SOURCE, "a"), "target": end("new", TARGET, "b"),
        **fields,
    }  # fmt: skip


def threshold(comparison: str, fmr: float, similarity: float) -> dict[str, Any]:
    """One of a card's thresholds."""
    return {
        "comparison": comparison, "fmr": fmr, "similarity": similarity,
        "interval": [similarity - 0.01, similarity + 0.01], "impostor_comparisons": 100,
        "people": 10, "images": 20, "data": "made up", "command": "none",
    }  # fmt: skip


def add_map(home: Path, name: str = "tiny-map", **fields: Any) -> MapCard:
    """Adds a map to a zoo as `mien models add` does."""
    home.mkdir(parents=True, exist_ok=True)
    network = write_map(home / f"{name}.onnx", SOURCE, TARGET)
    card = home / f"{name}.json"
    card.write_text(json.dumps(card_fields(network, name, **fields)))
    return Zoo(home).add_map(network, card, probe_map)


def loaded(home: Path, *names: str) -> list[Mapper]:
    """Maps of a zoo, through the gate of parity."""
    engine = EngineSettings(preference="openvino", threads=1)
    return [load_mapper(Zoo(home), name, engine) for name in names]


@contextlib.contextmanager
def serving(mappers: list[Mapper], port: int = 0, **limits: Any) -> Iterator[MappingServer]:
    """Runs a mapping service."""

    async def start() -> MappingServer:
        server = MappingServer(mappers, f"127.0.0.1:{port}", MappingSettings(**limits))
        await server.start()
        return server

    server = call(start())
    try:
        yield server
    finally:
        call(server.stop(0))


@contextlib.contextmanager
def stub_of(server: MappingServer) -> Iterator[mapping_pb2_grpc.MappingServiceStub]:
    """A stub of a running service."""
    with grpc.insecure_channel(server.address, options=NO_PROXY) as channel:
        yield mapping_pb2_grpc.MappingServiceStub(channel)


def units(count: int, dimension: int = SOURCE, seed: int = 0) -> Vectors:
    """Random vectors of length 1."""
    rows = np.random.default_rng(seed).standard_normal((count, dimension))
    made: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return made


def source(**changes: Any) -> model_pb2.ModelIdentity:
    """Identity of the vectors that the tiny map takes."""
    said: dict[str, Any] = {
        "name": "old", "version": "1", "weights_sha256": "a" * 64,
        "preprocessing_sha256": "a" * 64, "origin": model_pb2.VECTOR_ORIGIN_NATIVE,
    }  # fmt: skip
    return model_pb2.ModelIdentity(**(said | changes))


def request(vectors: Vectors | Sequence[bytes], **fields: Any) -> mapping_pb2.MapRequest:
    """A batch for the tiny map; rows may be given as bytes."""
    rows = [row if isinstance(row, bytes) else row.tobytes() for row in vectors]
    said = {"map": "tiny-map", "source": source(), **fields}
    return mapping_pb2.MapRequest(vectors=rows, **said)


def vectors_of(answer: mapping_pb2.MapResponse) -> Vectors:
    """The vectors of an answer."""
    return np.stack([np.frombuffer(one, "<f4") for one in answer.vectors])
