"""Drawn faces: off by default, synthetic, in the nearest pose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from models.zoo import ZooError
from services.embedding import (
    EmbeddingService,
    InProcessLink,
    load_configured,
    load_embedder,
    load_frontalizer,
)
from services.errors import Errors, MienError
from services.gateway.embedding_client import EmbeddingLink, RpcLink
from services.rpc.mien.v1 import embedding_pb2
from services.runtime import EngineOptions
from services.settings import EmbeddingSettings, EngineSettings, Settings
from tests.integration.harness import (
    call,
    free_port,
    mien_in_thread,
    rich_error,
)
from tests.integration.tiny_service import (
    SIDES,
    Service,
    add_model,
    crops,
    features,
)
from tests.tiny_networks import (
    YAW_BINS,
    expected_pictures,
)

_C = grpc.StatusCode


def drawing(given: NDArray[np.uint8], yaw: float = 0.0, **fields: Any) -> Any:
    return embedding_pb2.FrontalizeRequest(
        crops=[crop.tobytes() for crop in given], yaw_degrees=yaw, **fields
    )


def pictures(answer: embedding_pb2.FrontalizeResponse) -> NDArray[np.int64]:
    return np.stack([np.frombuffer(one, np.uint8).reshape(SIDES) for one in answer.images]).astype(
        np.int64
    )


@pytest.mark.parametrize(("yaw", "pose"), [(0.0, 1), (-80.0, 0), (16.0, 2), (14.0, 1)])
def test_faces_are_drawn_in_the_nearest_pose(weighing: Service, yaw: float, pose: int) -> None:
    given = crops(7)  # more than one batch of the decoder
    answer = weighing.stub.Frontalize(drawing(given, yaw))
    wanted = expected_pictures(features(given), pose).astype(np.int64)
    assert np.abs(pictures(answer) - wanted).max() <= 1
    assert answer.yaw_degrees == YAW_BINS[pose]


def test_a_drawn_face_says_that_it_is_synthetic_and_whose(weighing: Service) -> None:
    answer = weighing.stub.Frontalize(drawing(crops(1)))
    (model,) = weighing.stub.ListModels(embedding_pb2.ListModelsRequest()).models
    assert answer.synthetic is True
    assert answer.identity == model.identity
    assert weighing.card.decoder is not None
    assert answer.decoder_sha256 == weighing.card.decoder.weights.sha256
    assert answer.inference_ms > 0
    assert model.can_frontalize


@pytest.mark.parametrize(
    ("asked", "code", "reason", "field"),
    [
        (drawing(crops(0)), _C.INVALID_ARGUMENT, "INVALID_REQUEST", "crops"),
        (drawing(crops(17)), _C.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE", "crops"),
        (
            embedding_pb2.FrontalizeRequest(crops=[crops(1).tobytes(), b"short"]),
            _C.INVALID_ARGUMENT,
            "INVALID_REQUEST",
            "crops[1]",
        ),
        (drawing(crops(1), 181.0), _C.INVALID_ARGUMENT, "INVALID_REQUEST", "yaw_degrees"),
        (drawing(crops(1), float("nan")), _C.INVALID_ARGUMENT, "INVALID_REQUEST", "yaw_degrees"),
        (drawing(crops(1), model="nobody"), _C.NOT_FOUND, "MODEL_UNKNOWN", "model"),
    ],
)
def test_a_wrong_drawing_is_refused(
    weighing: Service,
    asked: embedding_pb2.FrontalizeRequest,
    code: grpc.StatusCode,
    reason: str,
    field: str,
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        weighing.stub.Frontalize(asked)
    told = rich_error(caught.value)
    assert (told.code, told.reason, told.fields) == (code, reason, [field])


def test_a_model_without_a_decoder_cannot_draw(plain: Service) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        plain.stub.Frontalize(drawing(crops(1)))
    told = rich_error(caught.value)
    assert (told.code, told.reason) == (_C.FAILED_PRECONDITION, "FRONTALIZE_UNAVAILABLE")
    assert told.fields == ["model"]
    assert "tiny@1" in told.message


def test_faces_are_drawn_within_a_process_too(tmp_path: Path) -> None:
    zoo = add_model(tmp_path)
    given = crops(2)

    async def drawn(frontalize: bool) -> embedding_pb2.FrontalizeResponse:
        card = zoo.embedder("tiny")
        service = EmbeddingService(
            [load_embedder(zoo, "tiny", "openvino", EngineOptions(threads=1))],
            EmbeddingSettings(frontalize=frontalize),
            [load_frontalizer(zoo, card, EngineSettings(preference="onnxruntime"))],
        )
        link: EmbeddingLink = InProcessLink(service)
        try:
            (model,) = (await link.list_models(10.0)).models
            assert model.can_frontalize is frontalize
            return await link.frontalize(drawing(given), 10.0)
        finally:
            await service.close()

    wanted = expected_pictures(features(given), 1).astype(np.int64)
    assert np.abs(pictures(call(drawn(True))) - wanted).max() <= 1
    with pytest.raises(MienError) as caught:
        call(drawn(False))
    assert caught.value.error is Errors.FRONTALIZE_UNAVAILABLE


def settings_for(home: Path, **embedding: Any) -> Settings:
    own = {"models": ("tiny",), "port": free_port(), "http_port": 0, **embedding}
    engine = {"preference": "openvino", "threads": 1}
    return Settings.model_validate({"home": home, "embedding": own, "engine": engine})


def asked_over_the_wire(settings: Settings) -> embedding_pb2.FrontalizeResponse:
    """What a served Mien answers to the gateway's link."""

    async def ask() -> embedding_pb2.FrontalizeResponse:
        link: EmbeddingLink = RpcLink(f"127.0.0.1:{settings.embedding.port}")
        try:
            return await link.frontalize(drawing(crops(1)), 10.0)
        finally:
            await link.close()

    with mien_in_thread(settings, "embedding"):
        return call(ask())


def test_a_decoder_is_loaded_only_where_the_setting_is_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The session's Mien without weights puts another loader there, for as long as it runs.
    monkeypatch.setattr("services.serve.load_configured", load_configured)
    zoo = add_model(tmp_path)
    decoder = zoo.decoder(zoo.embedder("tiny"))
    assert asked_over_the_wire(settings_for(tmp_path, frontalize=True)).synthetic
    decoder.unlink()
    with pytest.raises(MienError) as caught:
        asked_over_the_wire(settings_for(tmp_path))
    assert caught.value.error is Errors.FRONTALIZE_UNAVAILABLE
    assert caught.value.field is None
    with pytest.raises(ZooError, match=r"decoder\.onnx"):
        asked_over_the_wire(settings_for(tmp_path, frontalize=True))
