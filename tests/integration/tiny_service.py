"""An embedding service with one tiny model, and what that model should say."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from models.zoo import EmbedderCard, Zoo
from models.zoo.fetch import file_sha256
from services.embedding import (
    load_embedder,
    load_frontalizer,
    probe_embedder,
)
from services.rpc.mien.v1 import embedding_pb2, embedding_pb2_grpc
from services.runtime import EngineOptions
from services.settings import EngineSettings
from tests.integration.harness import (
    NO_PROXY,
    embedding_in_thread,
)
from tests.tiny_networks import (
    NOISE,
    SIDE,
    YAW_BINS,
    expected,
    write_decoder,
    write_network,
)

_Stub = embedding_pb2_grpc.EmbeddingServiceStub
_INPUT = {"width": SIDE, "height": SIDE, "mean": 127.5}
SIDES = (SIDE, SIDE, 3)


def add_model(home: Path, *, fusion: bool = True, decoder: bool = True, **output: Any) -> Zoo:
    """A zoo with one tiny model in it."""
    home.mkdir(parents=True, exist_ok=True)
    network = write_network(home / "tiny.onnx", fusion="omega" if fusion else None)
    fields: dict[str, Any] = {
        "name": "tiny",
        "input": _INPUT,
        "output": {"dimension": 8, **({"weight": "omega"} if fusion else {}), **output},
    }
    if decoder:
        path = write_decoder(home / "decoder.onnx")
        weights = {"sha256": file_sha256(path), "size_bytes": path.stat().st_size}
        fields["decoder"] = {"weights": weights, "yaw_bins": YAW_BINS, "noise": NOISE}
    (home / "card.json").write_text(json.dumps(fields))
    zoo = Zoo(home)
    zoo.add(network, home / "card.json", probe_embedder)
    return zoo


@dataclass(frozen=True)
class Service:
    """A running embedding service with one tiny model."""

    stub: _Stub
    address: str
    card: EmbedderCard


@contextlib.contextmanager
def serving(
    home: Path,
    *,
    fusion: bool = True,
    decoder: bool = True,
    frontalize: bool = False,
    **output: Any,
) -> Iterator[Service]:
    zoo = add_model(home, fusion=fusion, decoder=decoder, **output)
    card = zoo.embedder("tiny")
    embedder = load_embedder(zoo, "tiny", "openvino", EngineOptions(threads=1))
    drawing = []
    if frontalize and decoder:
        drawing = [load_frontalizer(zoo, card, EngineSettings(preference="openvino"))]
    limits = {"frontalize": frontalize, "max_batch": 24}
    with (
        embedding_in_thread(embedder, frontalizers=drawing, **limits) as address,
        grpc.insecure_channel(address, options=NO_PROXY) as channel,
    ):
        yield Service(_Stub(channel), address, card)


def crops(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (count, *SIDES), np.uint8)


def pixels(given: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What reaches the network."""
    centred: NDArray[np.float32] = given.transpose(0, 3, 1, 2).astype(np.float32) - 127.5
    return centred


def features(given: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the network gives, computed without any engine."""
    return expected(pixels(given), 8)


def units(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return scaled


def vectors(packed: Any) -> NDArray[np.float32]:
    return np.stack([np.frombuffer(one, "<f4") for one in packed])


def request(
    given: NDArray[np.uint8], *sets: tuple[list[int], list[float]]
) -> embedding_pb2.EmbedRequest:
    return embedding_pb2.EmbedRequest(
        crops=[crop.tobytes() for crop in given],
        templates=[embedding_pb2.TemplateSet(crops=one, weights=w) for one, w in sets],
    )
