"""drgan@1 as it is released: vectors, fusion weights, templates, drawn faces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from models.zoo import Zoo
from services.embedding import load_embedder, load_frontalizer
from services.gateway.alignment import CropGeometry
from services.gateway.faces import FaceChoice
from services.gateway.server import load_pipeline
from services.rpc.mien.v1 import embedding_pb2, embedding_pb2_grpc
from services.runtime import EngineOptions
from services.settings import EngineSettings, Settings
from services.templates import fuse
from tests.integration.harness import (
    NO_PROXY,
    embedding_in_thread,
    mien_in_thread,
    settings_on_free_ports,
)
from tests.integration.rest import files

SIDE = 96
Crop = NDArray[np.uint8]


@pytest.fixture(scope="module")
def crops(mien_home: Path, portraits: Path) -> dict[str, Crop]:
    """The photographs' faces, and one of them as a bad camera would have taken it."""
    settings = Settings(home=mien_home)
    pipeline = load_pipeline(Zoo(mien_home), settings)
    found = {}
    for name in ("obama", "obama2", "biden"):
        data = (portraits / f"{name}.jpg").read_bytes()
        face = pipeline.prepare(data, FaceChoice(), CropGeometry(SIDE, SIDE), name)
        assert face.crop is not None
        found[name] = face.crop
    found["blurred"] = np.asarray(cv2.GaussianBlur(found["obama"], (0, 0), 3.0), np.uint8)
    return found


@pytest.fixture(scope="module")
def stub(mien_home: Path) -> Iterator[embedding_pb2_grpc.EmbeddingServiceStub]:
    zoo = Zoo(mien_home)
    embedder = load_embedder(zoo, "drgan@1", options=EngineOptions(threads=2))
    drawing = [load_frontalizer(zoo, embedder.card, EngineSettings())]
    with (
        embedding_in_thread(embedder, frontalizers=drawing, frontalize=True) as address,
        grpc.insecure_channel(address, options=NO_PROXY) as channel,
    ):
        yield embedding_pb2_grpc.EmbeddingServiceStub(channel)


def vectors(packed: list[bytes]) -> NDArray[np.float32]:
    return np.stack([np.frombuffer(one, "<f4") for one in packed])


def embed(
    stub: embedding_pb2_grpc.EmbeddingServiceStub, *crops: Crop, sets: list[list[int]] | None = None
) -> embedding_pb2.EmbedResponse:
    request = embedding_pb2.EmbedRequest(crops=[crop.tobytes() for crop in crops])
    for one in sets or []:
        request.templates.add(crops=one)
    return stub.Embed(request)


def test_it_says_what_it_can_do(stub: embedding_pb2_grpc.EmbeddingServiceStub) -> None:
    (model,) = stub.ListModels(embedding_pb2.ListModelsRequest()).models
    assert (model.identity.name, model.identity.version) == ("drgan", "1")
    assert (model.crop.width, model.crop.height, model.dimension) == (SIDE, SIDE, 320)
    assert model.learned_weights
    assert model.can_frontalize


def test_two_photographs_of_a_person_are_alike_and_of_two_people_are_not(
    stub: embedding_pb2_grpc.EmbeddingServiceStub, crops: dict[str, Crop], mien_home: Path
) -> None:
    answer = embed(stub, crops["obama"], crops["obama2"], crops["biden"])
    one, other, stranger = vectors(list(answer.vectors))
    threshold = Zoo(mien_home).embedder("drgan@1").threshold(1e-3)
    assert threshold is not None
    assert one @ other > threshold.similarity > one @ stranger


def test_a_blurred_face_counts_for_less(
    stub: embedding_pb2_grpc.EmbeddingServiceStub, crops: dict[str, Crop]
) -> None:
    sharp, blurred = embed(stub, crops["obama"], crops["blurred"]).weights
    assert 0 < blurred < sharp < 1


def test_a_template_is_the_mean_of_the_networks_own_features_by_its_weights(
    stub: embedding_pb2_grpc.EmbeddingServiceStub, crops: dict[str, Crop]
) -> None:
    answer = embed(stub, crops["obama2"], crops["blurred"], crops["biden"], sets=[[0, 1], [2]])
    single = vectors(list(answer.vectors))
    features = single * np.array(answer.lengths, np.float32)[:, None]
    both, alone = vectors(list(answer.templates))
    np.testing.assert_allclose(both, fuse(features[:2], answer.weights[:2]), atol=1e-5)
    np.testing.assert_allclose(alone, single[2], atol=1e-5)
    assert both @ single[0] > both @ single[1]  # nearer to the one that counts for more
    assert both @ single[0] > both @ single[2]


def test_a_drawn_face_is_a_picture_that_depends_on_person_and_pose(
    stub: embedding_pb2_grpc.EmbeddingServiceStub, crops: dict[str, Crop]
) -> None:
    def draw(yaw: float) -> list[Crop]:
        given = [crops["obama"].tobytes(), crops["biden"].tobytes()]
        request = embedding_pb2.FrontalizeRequest(crops=given, yaw_degrees=yaw)
        answer = stub.Frontalize(request)
        assert answer.synthetic
        assert abs(answer.yaw_degrees - yaw) <= 7.5
        return [np.frombuffer(one, np.uint8).reshape(SIDE, SIDE, 3) for one in answer.images]

    frontal, turned = draw(0.0), draw(45.0)
    for picture in (*frontal, *turned):
        assert picture.std() > 20  # not a plain surface
    assert np.abs(frontal[0].astype(int) - frontal[1]).mean() > 3
    assert np.abs(frontal[0].astype(int) - turned[0]).mean() > 3


def test_verify_takes_it_by_name(mien_home: Path, portraits: Path) -> None:
    settings = settings_on_free_ports(mien_home)
    served = settings.embedding.model_copy(update={"models": ("poseface", "drgan")})
    named = settings.model_copy(update={"embedding": served})
    with mien_in_thread(named) as mien, mien.client() as client:
        for reference, decision in (("obama2", "same"), ("biden", "different")):
            pictures = files(
                probe=(portraits / "obama.jpg").read_bytes(),
                reference=(portraits / f"{reference}.jpg").read_bytes(),
            )
            answer = client.post("/v1/verify", data={"model": "drgan"}, files=pictures)
            assert answer.status_code == 200, answer.text
            assert answer.json()["decision"] == decision
            assert answer.json()["model"]["name"] == "drgan"
