"""Fusion weights, templates and drawn faces, asked for over gRPC and within a process."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from models.zoo import EmbedderCard, Zoo, ZooError
from models.zoo.fetch import file_sha256
from services.embedding import (
    EmbeddingService,
    InProcessLink,
    load_configured,
    load_embedder,
    load_frontalizer,
    probe_embedder,
)
from services.errors import Errors, MienError
from services.gateway.embedding_client import EmbeddingClient, EmbeddingLink, RpcLink
from services.rpc.mien.v1 import embedding_pb2, embedding_pb2_grpc
from services.runtime import EngineOptions
from services.settings import EmbeddingSettings, EngineSettings, Settings
from tests.integration.harness import (
    NO_PROXY,
    call,
    embedding_in_thread,
    free_port,
    mien_in_thread,
    rich_error,
)
from tests.tiny_networks import (
    NOISE,
    SIDE,
    YAW_BINS,
    expected,
    expected_pictures,
    expected_weights,
    write_decoder,
    write_network,
)

_C = grpc.StatusCode
_Stub = embedding_pb2_grpc.EmbeddingServiceStub
_INPUT = {"width": SIDE, "height": SIDE, "mean": 127.5}
_SIDES = (SIDE, SIDE, 3)


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


@pytest.fixture(scope="module")
def weighing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Its model has learned weights; it draws faces."""
    with serving(tmp_path_factory.mktemp("weighing"), frontalize=True) as running:
        yield running


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Its model has neither weights nor a decoder; the service would draw."""
    home = tmp_path_factory.mktemp("plain")
    with serving(home, fusion=False, decoder=False, frontalize=True) as running:
        yield running


def crops(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (count, *_SIDES), np.uint8)


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


# --- weights --------------------------------------------------------------------------------------


def test_learned_weights_come_with_the_vectors(weighing: Service) -> None:
    given = crops(11)
    answer = weighing.stub.Embed(request(given))
    learned = expected_weights(pixels(given))[:, 0]
    assert learned.std() > 0.02, "weights that are all alike could be mixed up"
    np.testing.assert_allclose(answer.weights, learned, atol=1e-5)
    raw = vectors(answer.vectors) * np.array(answer.lengths)[:, None]
    np.testing.assert_allclose(raw, features(given), rtol=1e-3, atol=1e-4)
    assert not answer.templates
    (model,) = weighing.stub.ListModels(embedding_pb2.ListModelsRequest()).models
    assert model.learned_weights


def test_a_model_without_learned_weights_has_none(plain: Service) -> None:
    answer = plain.stub.Embed(request(crops(3)))
    assert (len(answer.vectors), len(answer.weights), len(answer.lengths)) == (3, 0, 0)
    (model,) = plain.stub.ListModels(embedding_pb2.ListModelsRequest()).models
    assert not model.learned_weights
    assert not model.can_frontalize


# --- templates ------------------------------------------------------------------------------------


def test_templates_of_learned_weights_are_the_mean_of_raw_features(weighing: Service) -> None:
    given = crops(6)
    answer = weighing.stub.Embed(request(given, ([4, 0, 2], []), ([5], []), ([1, 3], [])))
    made = vectors(answer.templates)
    raw, learned = features(given), expected_weights(pixels(given))
    for row, members in enumerate([[4, 0, 2], [5], [1, 3]]):
        by_hand = (learned[members] * raw[members]).sum(axis=0) / learned[members].sum()
        np.testing.assert_allclose(made[row], units(by_hand), atol=1e-4)
    members = [4, 0, 2]
    of_units = units((learned[members] * units(raw[members])).sum(axis=0))
    assert np.abs(made[0] - of_units).max() > 0.01, "lengths count too"
    assert np.abs(made[0] - units(raw[members].sum(axis=0))).max() > 0.01, "weights count too"
    np.testing.assert_allclose(made[1], vectors(answer.vectors)[5], atol=1e-6)
    assert answer.identity.name == "tiny"


@pytest.mark.parametrize("weights", [[], [3.0, 0.5, 1.0]])
def test_other_templates_are_the_mean_of_unit_vectors(plain: Service, weights: list[float]) -> None:
    given = crops(4)
    answer = plain.stub.Embed(request(given, ([3, 0, 1], weights), ([2], weights[:1])))
    shares = np.array(weights or [1.0, 1.0, 1.0])[:, None]
    by_hand = units((shares * units(features(given)[[3, 0, 1]])).sum(axis=0))
    made = vectors(answer.templates)
    np.testing.assert_allclose(made[0], by_hand, atol=1e-4)
    np.testing.assert_allclose(made[1], vectors(answer.vectors)[2], atol=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_vectors_of_any_length_are_averaged_as_they_are_compared(
    tmp_path: Path, metric: str
) -> None:
    given = crops(3)
    output: dict[str, Any] = {"normalise": False, "metric": metric}
    with serving(tmp_path, fusion=False, decoder=False, **output) as running:
        answer = running.stub.Embed(request(given, ([0, 1, 2], [])))
    raw = features(given)
    by_hand = raw.mean(axis=0) if metric == "euclidean" else units(units(raw).mean(axis=0))
    np.testing.assert_allclose(vectors(answer.templates)[0], by_hand, rtol=1e-3, atol=1e-4)


def test_the_order_within_a_set_does_not_matter(weighing: Service) -> None:
    given = crops(5)
    one = weighing.stub.Embed(request(given, ([0, 1, 2, 3, 4], []))).templates
    other = weighing.stub.Embed(request(given, ([3, 1, 4, 0, 2], []))).templates
    turned = weighing.stub.Embed(request(given[[3, 1, 4, 0, 2]], ([0, 1, 2, 3, 4], []))).templates
    np.testing.assert_allclose(vectors(one), vectors(other), atol=1e-6)
    np.testing.assert_allclose(vectors(one), vectors(turned), atol=1e-5)


_BAD_SETS = [
    ([([], [])], "templates[0].crops"),
    ([([0, 1], []), ([], [])], "templates[1].crops"),
    ([([0, 3], [])], "templates[0].crops[1]"),
    ([([4_000_000_000], [])], "templates[0].crops[0]"),
    ([([0, 0], [])], "templates[0].crops[1]"),
    ([([0, 1], []), ([2, 1], [])], "templates[1].crops[1]"),
    ([([0, 1], [1.0])], "templates[0].weights"),
    ([([0], [1.0, 1.0])], "templates[0].weights"),
    ([([0, 1], [1.0, -1.0])], "templates[0].weights[1]"),
    ([([0, 1], [float("nan"), 1.0])], "templates[0].weights[0]"),
    ([([0, 1], [1.0, float("inf")])], "templates[0].weights[1]"),
    ([([0, 1], [0.0, 0.0])], "templates[0].weights"),
]


@pytest.mark.parametrize(("sets", "field"), _BAD_SETS)
def test_a_bad_set_is_refused_with_its_field(
    plain: Service, sets: list[tuple[list[int], list[float]]], field: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        plain.stub.Embed(request(crops(3), *sets))
    told = rich_error(caught.value)
    assert (told.code, told.reason, told.fields) == (
        _C.INVALID_ARGUMENT, "INVALID_REQUEST", [field],
    )  # fmt: skip


def test_a_model_that_weighs_by_itself_takes_no_weights(weighing: Service) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        weighing.stub.Embed(request(crops(2), ([0, 1], [1.0, 1.0])))
    told = rich_error(caught.value)
    assert (told.reason, told.fields) == ("INVALID_REQUEST", ["templates[0].weights"])


def test_vectors_that_cancel_have_no_template(plain: Service) -> None:
    # Pixels mirrored about the middle of their range give the opposite vector.
    given = crops(1)
    opposite = np.concatenate([given, 255 - given])
    with pytest.raises(grpc.RpcError) as caught:
        plain.stub.Embed(request(opposite, ([0, 1], [])))
    assert rich_error(caught.value).fields == ["templates[0]"]
    answer = plain.stub.Embed(request(opposite, ([0, 1], [2.0, 1.0])))
    np.testing.assert_allclose(vectors(answer.templates), vectors(answer.vectors)[:1], atol=1e-4)


# --- the gateway's client -------------------------------------------------------------------------


@contextlib.contextmanager
def client_of(service: Service) -> Iterator[EmbeddingClient]:
    async def connect() -> EmbeddingClient:
        return EmbeddingClient(RpcLink(service.address), 10.0)

    client = call(connect())
    try:
        yield client
    finally:
        call(client.close())


def test_the_client_asks_for_templates_by_quality(plain: Service) -> None:
    given = list(crops(5))
    qualities = [[90.0, 30.0, 0.0], [50.0, 50.0]]
    with client_of(plain) as client:
        model = call(client.model(""))
        made = call(client.templates([given[:3], given[3:]], model, qualities=qualities))
        even = call(client.templates([given[:3], given[3:]], model))
        single = call(client.embed(given, model))
    assert made.crops.weights is None
    np.testing.assert_array_equal(made.crops.vectors, single.vectors)
    rows = single.vectors
    first = (90 * rows[0] + 30 * rows[1] + rows[2]) / 121
    np.testing.assert_allclose(made.vectors[0], units(first), atol=1e-5)
    np.testing.assert_allclose(made.vectors[1], units(rows[3] + rows[4]), atol=1e-5)
    np.testing.assert_allclose(even.vectors[0], units(rows[:3].mean(axis=0)), atol=1e-5)


def test_the_client_leaves_weights_to_a_model_that_learned_them(weighing: Service) -> None:
    given = crops(3)
    with client_of(weighing) as client:
        model = call(client.model(""))
        made = call(client.templates([list(given)], model, qualities=[[90.0, 1.0, 1.0]]))
    assert made.crops.weights is not None
    assert made.crops.lengths is not None
    np.testing.assert_allclose(made.crops.weights, expected_weights(pixels(given))[:, 0], atol=1e-5)
    shares = (made.crops.weights * made.crops.lengths)[:, None]
    np.testing.assert_allclose(
        made.vectors[0], units((shares * made.crops.vectors).sum(axis=0)), atol=1e-5
    )


@pytest.mark.parametrize("qualities", [[[50.0]], [[50.0, 50.0], [50.0]], [], [[50.0, 101.0]]])
def test_qualities_that_do_not_fit_are_refused(
    plain: Service, qualities: list[list[float]]
) -> None:
    with client_of(plain) as client:
        model = call(client.model(""))
        with pytest.raises(ValueError, match=r"one quality for each crop|between 0 and 100"):
            call(client.templates([list(crops(2))], model, qualities=qualities))


# --- drawn faces ----------------------------------------------------------------------------------


def drawing(given: NDArray[np.uint8], yaw: float = 0.0, **fields: Any) -> Any:
    return embedding_pb2.FrontalizeRequest(
        crops=[crop.tobytes() for crop in given], yaw_degrees=yaw, **fields
    )


def pictures(answer: embedding_pb2.FrontalizeResponse) -> NDArray[np.int64]:
    return np.stack([np.frombuffer(one, np.uint8).reshape(_SIDES) for one in answer.images]).astype(
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
