"""Fusion weights and templates, asked for over gRPC and within a process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from services.gateway.embedding_client import EmbeddingClient, RpcLink
from services.rpc.mien.v1 import embedding_pb2
from tests.integration.harness import (
    call,
    rich_error,
)
from tests.integration.tiny_service import (
    Service,
    crops,
    features,
    pixels,
    request,
    serving,
    units,
    vectors,
)
from tests.tiny_networks import (
    expected_weights,
)

_C = grpc.StatusCode


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


def test_a_face_in_several_crops_has_the_mean_of_their_vectors(plain: Service) -> None:
    given = list(crops(6))
    faces = [given[:1], given[1:5], given[5:]]
    with client_of(plain) as client:
        model = call(client.model(""))
        made = call(client.embed_faces(faces, model))
        single = call(client.embed(given, model)).vectors
        nothing = call(client.embed_faces([], model))
    np.testing.assert_array_equal(made.vectors[[0, 2]], single[[0, 5]], "one crop: as it is")
    np.testing.assert_allclose(made.vectors[1], units(single[1:5].sum(axis=0)), atol=1e-5)
    assert made.identity == model.identity
    assert (made.weights, made.lengths) == (None, None)
    assert nothing.vectors.shape[0] == 0


def test_many_faces_keep_their_order_over_several_calls(
    plain: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.embedding_client._CALL", 6)
    given = list(crops(20))
    counts = [1, 4] * 4
    ends = np.cumsum(counts)
    faces = [given[end - count : end] for count, end in zip(counts, ends, strict=True)]
    with client_of(plain) as client:
        model = call(client.model(""))
        made = call(client.embed_faces(faces, model)).vectors
        single = call(client.embed(given, model)).vectors
    by_hand = [units(single[e - n : e].sum(axis=0)) for n, e in zip(counts, ends, strict=True)]
    assert len(made) == len(faces)
    np.testing.assert_allclose(made, np.stack(by_hand), atol=1e-5)


def test_a_face_in_several_crops_counts_as_its_first(weighing: Service) -> None:
    given = list(crops(3))
    with client_of(weighing) as client:
        model = call(client.model(""))
        made = call(client.embed_faces([given[:2], given[2:]], model))
        single = call(client.embed(given, model))
    assert made.weights is not None
    assert made.lengths is not None
    assert single.weights is not None
    assert single.lengths is not None
    np.testing.assert_allclose(made.weights, single.weights[[0, 2]], atol=1e-6)
    np.testing.assert_allclose(made.lengths, single.lengths[[0, 2]], atol=1e-5)
