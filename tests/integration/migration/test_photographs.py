"""People are enrolled with one model, migrated, and identified from new photographs by the next."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models.r3an.report import end_of
from models.zoo import EmbedderCard, Zoo
from models.zoo.fetch import file_sha256
from services.gallery.values import Vector
from services.gateway.core import crop_geometry
from services.gateway.faces import FaceChoice
from services.local import local_mien
from services.mapping import probe_map
from services.settings import Settings
from tests.integration.harness import call, mien_in_thread
from tests.integration.migration.migrating import settings_of
from tests.integration.pictures import jpeg, portrait
from tests.tiny_networks import write_map

_SOURCE, _TARGET, _MAP, _BACK = "sface", "poseface", "faces-map", "poseface-to-sface"


@pytest.fixture
def home(mien_home: Path, tmp_path: Path) -> Path:
    """A home of its own with the pulled weights and photographs."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in ("weights", "demo"):
        (folder / name).symlink_to(mien_home / name)
    return folder


@pytest.fixture
def biden2(portraits: Path) -> bytes:
    """Another photograph, as far as there is one: smaller and darker."""
    return jpeg(portrait(portraits, "biden.jpg", 300).point(lambda value: value * 0.8))


def _settings(home: Path, **migration: Any) -> Settings:
    told: dict[str, Any] = settings_of(home, **migration).model_dump()
    told["gateway"] |= {"http_port": 0, "grpc_port": 0, "workers": 2, "enhance": False}
    told["embedding"] |= {"models": (_SOURCE, _TARGET)}
    return Settings.model_validate(told)


async def _embedded(home: Path, files: list[bytes]) -> list[Vector]:
    """Vectors of the largest faces, by each of the two models."""
    async with local_mien(_settings(home), (_SOURCE, _TARGET)) as mien:
        made = []
        for name in (_SOURCE, _TARGET):
            model = await mien.embedding.model(name)
            geometry = crop_geometry(model)
            faces = [mien.pipeline.prepare(one, FaceChoice(), geometry, "picture") for one in files]
            crops = [face.crop for face in faces if face.crop is not None]
            made.append((await mien.embedding.embed(crops, model)).vectors)
        return [one / np.linalg.norm(one, axis=1, keepdims=True) for one in made]


def _add_map(home: Path, files: list[bytes]) -> None:
    """A linear map that takes these faces where the target model sees them, and others anywhere."""
    source, target = call(_embedded(home, files))
    inverse = np.linalg.pinv(source)
    size = source.shape[1]
    rest = np.random.default_rng(1).standard_normal((size, target.shape[1])) / size
    matrix = inverse @ target + (np.eye(size) - inverse @ source) @ rest
    network = onnx.load(write_map(home / "map.onnx", size, target.shape[1]))
    (old,) = (one for one in network.graph.initializer if one.name == "matrix")
    old.CopyFrom(numpy_helper.from_array(matrix.astype(np.float32), "matrix"))
    onnx.save(network, home / "map.onnx")
    zoo = Zoo(home)
    ends = [zoo.embedder(one) for one in (_SOURCE, _TARGET)]
    (home / "map.json").write_text(json.dumps(_card(home / "map.onnx", *ends)))
    zoo.add_map(home / "map.onnx", home / "map.json", probe_map)


def _card(network: Path, source: EmbedderCard, target: EmbedderCard) -> dict[str, Any]:
    """Its card; on these faces the target model's own thresholds hold."""
    return {
        "kind": "map", "name": _MAP, "version": "1", "licence": "CC0-1.0", "method": "a matrix",
        "weights": {"sha256": file_sha256(network), "size_bytes": network.stat().st_size},
        "source": end_of(source).model_dump(), "target": end_of(target).model_dump(),
        "thresholds": [
            {**one.model_dump(), "comparison": "T|map"} for one in target.thresholds
        ],
    }  # fmt: skip


@pytest.fixture(params=[(_MAP,), (_MAP, _BACK)], ids=["one way", "and back"])
def maps(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The maps that are served."""
    served: tuple[str, ...] = request.param
    return served


@pytest.fixture
def api(home: Path, maps: tuple[str, ...], obama: bytes, biden: bytes) -> Iterator[httpx.Client]:
    _add_map(home, [obama, biden])
    settings = _settings(home, renew=True, renew_min_quality=0, renew_fpir=0.01, shadow=1.0)
    changed = {
        "enrolment": settings.enrolment.model_copy(update={"model": _SOURCE}),
        "mapping": settings.mapping.model_copy(update={"models": maps}),
    }
    with (
        mien_in_thread(settings.model_copy(update=changed)) as mien,
        mien.client() as client,
    ):
        yield client


def _first(api: httpx.Client, file: bytes) -> tuple[str, dict[str, Any]]:
    """The decision on the face in a picture, and the first candidate."""
    answer = api.post("/v1/identify", files=[("picture", ("face.jpg", file))])
    assert answer.status_code == 200, answer.text
    ((face,),) = (one["faces"] for one in answer.json()["pictures"])
    return face["decision"], face["candidates"][0]


@pytest.mark.slow
def test_people_enrolled_with_one_model_are_identified_by_the_next_without_their_photographs(
    api: httpx.Client,
    maps: tuple[str, ...],
    obama: bytes,
    obama2: bytes,
    biden: bytes,
    biden2: bytes,
) -> None:
    for subject, file in (("o", obama), ("b", biden)):
        enrolled = api.post(
            f"/v1/subjects/{subject}/templates", files=[("picture", ("face.jpg", file))]
        )
        assert enrolled.status_code == 201, enrolled.text
    decision, before = _first(api, obama2)
    assert (decision, before["subject_id"]) == ("known", "o")
    assert before["model"]["name"] == _SOURCE

    plan = api.post("/v1/migrations", json={"map": _MAP}).json()
    assert plan["threshold"] is not None
    path = f"/v1/migrations/{plan['id']}"
    api.post(f"{path}/start")
    deadline = time.monotonic() + 30
    while api.get(path).json()["migration"]["state"] != "caught_up":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # The gateway asks the gallery for its collections every few seconds.
    while not (seen := api.get(f"{path}/shadow").json())["looked"]:
        assert time.monotonic() < deadline
        assert _first(api, obama2)[1]["model"]["name"] == _SOURCE
        time.sleep(0.5)
    assert (seen["same"], seen["agreement"]) == (seen["looked"], 1.0)
    assert sum(seen["live_leads"]) == sum(seen["next_leads"]) == seen["looked"]

    assert api.post(f"{path}/switch").json()["migration"]["state"] == "switched"

    for file, subject in ((obama2, "o"), (biden2, "b")):
        decision, found = _first(api, file)
        assert (decision, found["subject_id"]) == ("known", subject)
        assert (found["model"]["name"], found["model"]["map"]) == (_TARGET, f"{_MAP}@1")
    # Seen again, each has a native template now, of the photograph that was shown.
    for file, subject in ((obama2, "o"), (biden2, "b")):
        decision, found = _first(api, file)
        assert (decision, found["subject_id"], found["model"]["map"]) == ("known", subject, None)
        assert found["similarity"] > 0.99

    assert api.post(f"{path}/rollback").json()["migration"]["state"] == "rolled_back"
    decision, after = _first(api, obama2)
    assert (decision, after["subject_id"], after["model"]["name"]) == ("known", "o", _SOURCE)
    if _BACK in maps:  # the photograph that was shown meanwhile has come back with it
        assert after["model"]["map"] == f"{_BACK}@1"
        assert after["similarity"] > before["similarity"]
    else:
        assert after["model"]["map"] is None
        assert after["similarity"] == pytest.approx(before["similarity"], abs=1e-4)
