"""The engine that runs a network on an Open Inference Protocol server, against Mien's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.embedding import Embedder
from services.rpc.server import RpcServer
from services.runtime import EngineError, EngineOptions, load_engine
from services.runtime.triton_engine import EngineBusyError, RemoteModel, TritonEngine
from tests.integration.inference_server import (
    DIMENSION,
    MAX_ROWS,
    Loop,
    Server,
    random_batch,
    tiny_card,
    tiny_server,
    unused_port,
)
from tests.tiny_networks import SIDE, expected, write_network


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with tiny_server(tmp_path_factory.mktemp("tiny")) as running:
        yield running


class TestTritonEngine:
    def test_gives_the_vectors_of_the_local_engine(self, server: Server, tmp_path: Path) -> None:
        path = write_network(tmp_path / "model.onnx", DIMENSION)
        local = Embedder(
            tiny_card(SIDE, DIMENSION), load_engine(path, "onnxruntime", EngineOptions(threads=1))
        )
        remote = Embedder(
            tiny_card(SIDE, DIMENSION), TritonEngine(RemoteModel(server.grpc, "tiny", "3"))
        )
        crops = np.random.default_rng(3).integers(0, 256, (9, SIDE, SIDE, 3), np.uint8)
        try:
            np.testing.assert_allclose(remote.embed(crops), local.embed(crops), atol=1e-6)
            assert remote.engine.info.inputs == local.engine.info.inputs
            assert "mien" in remote.engine.info.engine
        finally:
            remote.close()
            local.close()

    def test_more_rows_than_a_call_takes_are_sent_as_several(self, server: Server) -> None:
        engine = TritonEngine(RemoteModel(server.grpc, "tiny", max_batch=MAX_ROWS))
        batch = random_batch(2 * MAX_ROWS + 1)
        got = engine.infer({"data": batch})["embedding"]
        np.testing.assert_allclose(got, expected(batch, DIMENSION), rtol=1e-4, atol=1e-4)
        engine.close()

    @pytest.mark.parametrize(
        ("model", "version", "words"),
        [
            ("nobody", "", "is not there"),
            ("tiny", "9", "is not there"),
            ("loading", "", "is not ready"),
            ("mirror", "", "is not compatible"),
        ],
    )
    def test_a_model_that_cannot_be_used(
        self, server: Server, model: str, version: str, words: str
    ) -> None:
        with pytest.raises(EngineError, match=words):
            TritonEngine(RemoteModel(server.grpc, model, version))

    def test_a_server_that_is_not_there(self) -> None:
        address = f"127.0.0.1:{unused_port()}"
        with pytest.raises(EngineError, match="did not answer within"):
            TritonEngine(RemoteModel(address, "tiny", connect_timeout=0.5))

    def test_a_server_of_another_kind(self) -> None:
        with Loop() as thread:

            async def start() -> RpcServer:
                other = RpcServer("127.0.0.1:0", [], 1024)
                await other.start()
                return other

            other = thread.call(start())
            with pytest.raises(EngineError, match="does not speak the Open Inference Protocol"):
                TritonEngine(RemoteModel(other.address, "tiny"))
            thread.call(other.stop(0))

    def test_a_busy_server_is_told_from_a_broken_one(self, server: Server) -> None:
        array = np.zeros((1, 2), np.float32)
        busy = TritonEngine(RemoteModel(server.grpc, "busy"))
        with pytest.raises(EngineBusyError):
            busy.infer({"data": array})
        busy.close()
        broken = TritonEngine(RemoteModel(server.grpc, "broken"))
        with pytest.raises(EngineError, match="INTERNAL") as caught:
            broken.infer({"data": array})
        assert not isinstance(caught.value, EngineBusyError)
        broken.close()

    def test_wrong_inputs(self, server: Server) -> None:
        engine = TritonEngine(RemoteModel(server.grpc, "tiny"))
        with pytest.raises(EngineError, match="'data' is missing"):
            engine.infer({})
        with pytest.raises(EngineError, match="did not take this input"):
            engine.infer({"data": np.zeros((1, 3, 5, 5), np.float32)})
        engine.close()
