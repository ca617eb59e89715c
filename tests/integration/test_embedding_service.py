"""The embedding service by itself, and the gateway when it is gone, slow or changed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from models.zoo import Zoo
from services.rpc.mien.v1 import embedding_pb2, embedding_pb2_grpc, face_pb2, model_pb2
from services.runtime.weightless_engine import WeightlessEngine
from tests.integration.harness import (
    NO_PROXY,
    Mien,
    MienProcess,
    StuckEngine,
    embedding_in_thread,
    free_port,
    mien_in_thread,
    rich_error,
    run_mien,
    settings_on_free_ports,
    weightless_embedder,
    weightless_loader,
)
from tests.integration.pictures import jpeg, portrait

_CROP_BYTES = 112 * 112 * 3
_C = grpc.StatusCode


@contextlib.contextmanager
def embedding_stub(address: str) -> Iterator[embedding_pb2_grpc.EmbeddingServiceStub]:
    with grpc.insecure_channel(address, options=NO_PROXY) as channel:
        yield embedding_pb2_grpc.EmbeddingServiceStub(channel)


@pytest.fixture(scope="module")
def stub(mien_home: Path) -> Iterator[embedding_pb2_grpc.EmbeddingServiceStub]:
    embedder = weightless_embedder(mien_home)
    with embedding_in_thread(embedder, max_batch=12) as address, embedding_stub(address) as made:
        yield made


@pytest.fixture(scope="module")
def pair(portraits: Path) -> dict[str, bytes]:
    return {
        "probe": jpeg(portrait(portraits, "obama.jpg")),
        "reference": jpeg(portrait(portraits, "obama2.jpg")),
    }


def crops(count: int) -> list[bytes]:
    noise = np.random.default_rng(5)
    return [noise.bytes(_CROP_BYTES) for _ in range(count)]


def embedded(
    stub: embedding_pb2_grpc.EmbeddingServiceStub, given: list[bytes], model: str = ""
) -> embedding_pb2.EmbedResponse:
    return stub.Embed(embedding_pb2.EmbedRequest(model=model, crops=given))


def grpc_request(pair: dict[str, bytes]) -> face_pb2.VerifyRequest:
    return face_pb2.VerifyRequest(
        probe=face_pb2.Image(content=pair["probe"]),
        references=[face_pb2.Image(content=pair["reference"])],
    )


# --- the service itself ---------------------------------------------------------------------------


def test_the_model_is_described_in_full(
    stub: embedding_pb2_grpc.EmbeddingServiceStub, mien_home: Path
) -> None:
    card = Zoo(mien_home).embedder("sface")
    (model,) = stub.ListModels(embedding_pb2.ListModelsRequest()).models
    assert model.identity == model_pb2.ModelIdentity(
        name="sface",
        version="1",
        weights_sha256=card.weights.sha256,
        preprocessing_sha256=card.preprocessing_sha256,
        origin=model_pb2.VECTOR_ORIGIN_NATIVE,
    )
    assert (model.crop.width, model.crop.height) == (112, 112)
    assert (model.crop.template, model.crop.template_scale) == ("arcface", 1.0)
    assert (model.dimension, model.metric) == (128, model_pb2.METRIC_COSINE)
    assert [threshold.fmr for threshold in model.thresholds] == [1e-2, 1e-3, 1e-4]
    for threshold in model.thresholds:
        assert threshold.interval_low <= threshold.similarity <= threshold.interval_high
    assert model.is_default
    assert (model.engine, model.device, model.licence) == ("weightless 1", "CPU", "Apache-2.0")


def test_vectors_come_in_the_order_of_the_crops(
    stub: embedding_pb2_grpc.EmbeddingServiceStub,
) -> None:
    given = crops(11)
    together = embedded(stub, given)
    assert len(together.vectors) == 11
    assert len(set(together.vectors)) == 11
    for crop, vector in zip(given, together.vectors, strict=True):
        (alone,) = embedded(stub, [crop]).vectors
        values = np.frombuffer(vector, "<f4")
        assert values.shape == (128,)
        np.testing.assert_allclose(values, np.frombuffer(alone, "<f4"), atol=1e-5)
        assert np.linalg.norm(values) == pytest.approx(1, abs=1e-5)


def test_vectors_carry_their_identity(stub: embedding_pb2_grpc.EmbeddingServiceStub) -> None:
    (model,) = stub.ListModels(embedding_pb2.ListModelsRequest()).models
    for name in ("", "sface", "sface@1"):
        answer = embedded(stub, crops(1), name)
        assert answer.identity == model.identity
        assert answer.inference_ms > 0
        assert answer.queue_ms >= 0


@pytest.mark.parametrize(
    ("given", "model", "code", "reason", "field"),
    [
        ([], "", _C.INVALID_ARGUMENT, "INVALID_REQUEST", "crops"),
        (crops(13), "", _C.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE", "crops"),
        ([*crops(2), b"short"], "", _C.INVALID_ARGUMENT, "INVALID_REQUEST", "crops[2]"),
        ([bytes(_CROP_BYTES + 1)], "", _C.INVALID_ARGUMENT, "INVALID_REQUEST", "crops[0]"),
        ([b""], "", _C.INVALID_ARGUMENT, "INVALID_REQUEST", "crops[0]"),
        (crops(1), "nobody", _C.NOT_FOUND, "MODEL_UNKNOWN", "model"),
        (crops(1), "sface@2", _C.NOT_FOUND, "MODEL_UNKNOWN", "model"),
    ],
    ids=["empty", "too many", "short crop", "long crop", "no crop", "model", "version"],
)
def test_a_wrong_batch_is_refused(
    stub: embedding_pb2_grpc.EmbeddingServiceStub,
    given: list[bytes],
    model: str,
    code: grpc.StatusCode,
    reason: str,
    field: str,
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        embedded(stub, given, model)
    told = rich_error(caught.value)
    assert (told.code, told.reason, told.fields) == (code, reason, [field])


def test_values_that_are_not_finite_are_an_error(mien_home: Path) -> None:
    class Broken(WeightlessEngine):
        def infer(self, inputs):  # type: ignore[no-untyped-def]
            return {"embedding": super().infer(inputs)["embedding"] * np.nan}

    embedder = weightless_embedder(mien_home, Broken(dimension=128))
    with embedding_in_thread(embedder) as address, embedding_stub(address) as broken:
        with pytest.raises(grpc.RpcError) as caught:
            embedded(broken, crops(1))
        assert rich_error(caught.value).reason == "INTERNAL"


def test_a_full_queue_answers_at_once(mien_home: Path) -> None:
    engine = StuckEngine()
    limits: dict[str, Any] = {"max_batch": 1, "batch_rows": 1, "queue_rows": 1}
    with (
        embedding_in_thread(weightless_embedder(mien_home, engine), **limits) as address,
        embedding_stub(address) as slow,
    ):
        request = embedding_pb2.EmbedRequest(crops=crops(1))
        calls = [slow.Embed.future(request) for _ in range(10)]
        deadline = time.monotonic() + 10
        while not (refused := [call for call in calls if call.done()]):
            assert time.monotonic() < deadline, "none is refused while the engine is stuck"
            time.sleep(0.01)
        engine.released.set()
        assert None in [call.exception(timeout=10) for call in calls]
    refusal = refused[0].exception()
    assert isinstance(refusal, grpc.RpcError)
    told = rich_error(refusal)
    assert (told.code, told.reason) == (_C.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert told.retry_seconds is not None
    assert told.retry_seconds > 0


# --- the gateway beside it ------------------------------------------------------------------------


def test_the_gateway_outlives_the_embedding_service(
    mien_home: Path, pair: dict[str, bytes]
) -> None:
    port = free_port()
    settings = settings_on_free_ports(mien_home, embedding_address=f"127.0.0.1:{port}")
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(contextlib.ExitStack())
        first.enter_context(embedding_in_thread(weightless_embedder(mien_home), port))
        gateway = stack.enter_context(mien_in_thread(settings, "gateway"))
        client = stack.enter_context(gateway.client())
        faces = stack.enter_context(gateway.faces())
        assert client.post("/v1/verify", files=pair).status_code == 200

        first.close()
        for response in (
            _within(5, lambda: client.post("/v1/verify", files=pair)),
            _within(5, lambda: client.get("/v1/models")),
            _within(5, lambda: client.post("/v1/verify", data={"model": "x"}, files=pair)),
        ):
            assert response.status_code == 503, response.text
            assert response.json()["code"] == "embedding_unavailable"
            assert response.headers["retry-after"] == "1"
        with pytest.raises(grpc.RpcError) as caught:
            faces.Verify(grpc_request(pair))
        told = rich_error(caught.value)
        assert (told.code, told.reason) == (_C.UNAVAILABLE, "EMBEDDING_UNAVAILABLE")
        assert told.retry_seconds == 1
        detected = client.post("/v1/detect", files={"image": pair["probe"]})
        assert detected.json()["face_count"] == 1

        time.sleep(3)  # long enough for attempts to connect again to become rare
        with embedding_in_thread(weightless_embedder(mien_home), port):
            _wait_for_200(client, pair, seconds=3)
            assert faces.Verify(grpc_request(pair)).results


def test_a_changed_model_is_never_compared_with_the_old_one(
    mien_home: Path, pair: dict[str, bytes]
) -> None:
    port = free_port()
    settings = settings_on_free_ports(mien_home, embedding_address=f"127.0.0.1:{port}")
    old = weightless_embedder(mien_home)
    new = weightless_embedder(mien_home)
    weights = new.card.weights.model_copy(update={"sha256": "a" * 64})
    new.card = new.card.model_copy(update={"weights": weights})
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(contextlib.ExitStack())
        first.enter_context(embedding_in_thread(old, port))
        gateway = stack.enter_context(mien_in_thread(settings, "gateway"))
        client = stack.enter_context(gateway.client())
        answer = client.post("/v1/verify", files=pair).json()
        assert answer["model"]["weights_sha256"] == old.card.weights.sha256
        first.close()
        with embedding_in_thread(new, port):
            seen = []
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline and 200 not in seen:
                response = client.post("/v1/verify", files=pair)
                seen.append(response.status_code)
            assert set(seen) == {503, 200}
            assert response.json()["model"]["weights_sha256"] == "a" * 64


def test_too_much_work_is_refused_at_once(mien_home: Path, pair: dict[str, bytes]) -> None:
    settings = settings_on_free_ports(mien_home, max_in_flight=1)
    engine = StuckEngine()
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("services.serve.load_configured", weightless_loader(engine))
        mien = stack.enter_context(mien_in_thread(settings))
        client = stack.enter_context(mien.client())
        faces = stack.enter_context(mien.faces())
        pool = stack.enter_context(ThreadPoolExecutor(1))
        stack.callback(engine.released.set)
        slow = pool.submit(httpx.post, f"{mien.rest_url}/v1/verify", files=pair, trust_env=False)
        assert engine.entered.wait(10)

        rest_times, grpc_times = [], []
        for _ in range(3):
            began = time.perf_counter()
            response = client.post("/v1/verify", files=pair)
            rest_times.append(time.perf_counter() - began)
            assert response.status_code == 429
            assert response.json()["code"] == "overloaded"
            assert int(response.headers["retry-after"]) >= 1
            began = time.perf_counter()
            with pytest.raises(grpc.RpcError) as caught:
                faces.Verify(grpc_request(pair))
            grpc_times.append(time.perf_counter() - began)
            told = rich_error(caught.value)
            assert (told.code, told.reason) == (_C.RESOURCE_EXHAUSTED, "OVERLOADED")
            assert told.retry_seconds is not None
            assert told.retry_seconds > 0
        assert min(rest_times) < 0.1
        assert min(grpc_times) < 0.1
        assert client.post("/v1/detect", files={"image": b"x"}).status_code == 429
        assert client.get("/healthz/ready").status_code == 200

        engine.released.set()
        assert slow.result().status_code == 200
        assert client.post("/v1/verify", files=pair).status_code == 200


def _within(seconds: float, work: Callable[[], httpx.Response]) -> httpx.Response:
    began = time.monotonic()
    response = work()
    assert time.monotonic() - began < seconds
    return response


def _wait_for_200(client: httpx.Client, pair: dict[str, bytes], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (response := client.post("/v1/verify", files=pair)).status_code != 200:
        assert response.status_code == 503
        assert time.monotonic() < deadline, "it does not recover"
        time.sleep(0.1)


# --- two processes --------------------------------------------------------------------------------


def test_gateway_and_embedding_run_apart(
    mien_home: Path, mien: Mien, pair: dict[str, bytes], tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((tmp_path / "log").open("wb"))
        metrics_port = free_port()
        embedding = stack.enter_context(
            MienProcess(mien_home, log, "embedding", EMBEDDING__HTTP_PORT=metrics_port)
        )
        address = f"127.0.0.1:{embedding.embedding_port}"
        gateway = stack.enter_context(
            MienProcess(mien_home, log, "gateway", GATEWAY__EMBEDDING_ADDRESS=address)
        ).wait_until_ready()
        for target in (address, gateway.mien.grpc_address):
            assert run_mien(mien_home, "health", target).returncode == 0
        with gateway.mien.client() as client, mien.client() as together:
            apart = client.post("/v1/verify", files=pair).json()
            assert apart["decision"] == "same"
            same = together.post("/v1/verify", files=pair).json()
            assert apart["similarity"] == pytest.approx(same["similarity"], abs=1e-6)
            metrics = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics", trust_env=False)
            embedded_once = 'mien_requests_total{interface="grpc",method="Embed",outcome="ok"} 1.0'
            assert embedded_once in metrics.text
            assert 'method="Embed"' not in client.get("/metrics").text
            assert embedding.stop() == 0
            assert client.post("/v1/verify", files=pair).status_code == 503
        assert run_mien(mien_home, "health", address).returncode == 1
        assert gateway.stop() == 0


def test_a_gateway_alone_must_be_told_where_embeddings_are(mien_home: Path) -> None:
    result = run_mien(mien_home, "serve", "gateway", GATEWAY__HTTP_PORT=0, GATEWAY__GRPC_PORT=0)
    assert result.returncode == 3
    assert "MIEN_GATEWAY__EMBEDDING_ADDRESS" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_gateway_without_embeddings_ends_with_a_sentence(mien_home: Path) -> None:
    result = run_mien(
        mien_home,
        "serve",
        "gateway",
        GATEWAY__HTTP_PORT=0,
        GATEWAY__GRPC_PORT=0,
        GATEWAY__TIMEOUT_SECONDS=1,
        GATEWAY__EMBEDDING_ADDRESS=f"127.0.0.1:{free_port()}",
    )
    assert result.returncode == 3
    assert "embedding service" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_a_port_that_is_taken_is_named(mien_home: Path, mien: Mien) -> None:
    taken = mien.rest_url.rpartition(":")[2]
    result = run_mien(mien_home, "serve", GATEWAY__HTTP_PORT=taken, GATEWAY__GRPC_PORT=0)
    assert result.returncode == 3
    assert taken in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    taken = mien.grpc_address.rpartition(":")[2]
    result = run_mien(mien_home, "serve", GATEWAY__HTTP_PORT=0, GATEWAY__GRPC_PORT=taken)
    assert result.returncode == 3
    assert taken in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
