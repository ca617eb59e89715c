import asyncio
import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from models.zoo import Zoo
from services.evaluation.alteration import shrink
from services.gain_gate import eyes_px
from services.gateway.core import crop_geometry
from services.gateway.faces import FaceChoice
from services.gateway.pipeline import PreparedFace
from services.local import local_mien
from services.rpc.mien.v1 import face_pb2
from services.settings import Settings, SettingsError
from services.telemetry import Stopwatch
from tests.integration.harness import Mien, mien_in_thread, settings_on_free_ports
from tests.integration.pictures import jpeg, portrait
from tests.integration.rest import files, problem
from tests.integration.tiny_enhancement import add_enhancer, gate, loaded, serving

HELPS_AT = 40
STRICT = 0.777
APPLIED = face_pb2.ENHANCEMENT_STATUS_APPLIED


def _settings(home: Path, **gateway: Any) -> Settings:
    plain = settings_on_free_ports(home, **gateway)
    served = plain.enhancement.model_copy(update={"models": ("negative",)})
    return plain.model_copy(update={"enhancement": served})


@pytest.fixture(scope="module")
def home(mien_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of all, and an enhancer that gives negatives, said to help poseface."""
    folder = tmp_path_factory.mktemp("enhancing")
    for part in ("weights", "engines"):
        if (mien_home / part).exists():
            (folder / part).symlink_to(mien_home / part)
    card = Zoo(mien_home).embedder("poseface")
    add_enhancer(
        folder, gates=[gate(card.reference, card.weights.sha256, HELPS_AT, at_0_001=STRICT)]
    )
    return folder


@pytest.fixture(scope="module")
def enhancing(home: Path) -> Iterator[Mien]:
    with mien_in_thread(_settings(home)) as running:
        yield running


@pytest.fixture(scope="module")
def rest(enhancing: Mien) -> Iterator[httpx.Client]:
    with enhancing.client() as client:
        yield client


@dataclass(frozen=True)
class Pictures:
    """One person, large and with few pixels."""

    large: bytes
    small: bytes


@pytest.fixture(scope="module")
def pictures(portraits: Path) -> Pictures:
    small = shrink(jpeg(portrait(portraits, "obama2.jpg")), 56)
    return Pictures(jpeg(portrait(portraits, "obama.jpg")), small)


def verify(client: httpx.Client, probe: bytes, reference: bytes, **fields: str) -> dict[str, Any]:
    sent = files(probe=probe, reference=reference)
    response = client.post("/v1/verify", files=sent, data=fields)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_a_face_of_few_pixels_is_enhanced_and_the_answer_says_so(
    rest: httpx.Client, pictures: Pictures
) -> None:
    answer = verify(rest, pictures.small, pictures.large)
    done = answer["probe"]["enhancement"]
    assert done["status"] == "applied"
    assert (done["enhancer"], done["condition"]) == ("negative@1", "low_resolution")
    assert len(done["enhancer_sha256"]) == 64
    assert 4 < done["eyes_px"] <= eyes_px(HELPS_AT)
    assert done["image"] is None
    assert {"enhance", "enhance_queue"} <= set(answer["timing_ms"])
    other = answer["reference"]["enhancement"]
    assert (other["status"], other["enhancer"], other["condition"]) == ("not_needed", None, None)
    assert other["eyes_px"] > eyes_px(HELPS_AT)


def test_what_was_compared_is_the_enhanced_face(rest: httpx.Client, pictures: Pictures) -> None:
    plain = verify(rest, pictures.small, pictures.large, enhance="false")
    drawn = verify(rest, pictures.small, pictures.large)
    assert plain["probe"]["enhancement"]["status"] == "off"
    assert plain["decision"] == "same"
    # A negative is nobody's face, and counts for half of the vector.
    assert drawn["similarity"] < plain["similarity"] - 0.1


def test_above_the_gate_nothing_changes(rest: httpx.Client, pictures: Pictures) -> None:
    with_it = verify(rest, pictures.large, pictures.large)
    without = verify(rest, pictures.large, pictures.large, enhance="false")
    assert with_it["similarity"] == without["similarity"]
    assert "enhance" not in with_it["timing_ms"]


def test_a_comparison_with_an_enhanced_face_has_the_threshold_fitted_for_it(
    rest: httpx.Client, pictures: Pictures
) -> None:
    body = {
        "probe": base64.b64encode(pictures.large).decode(),
        "references": [base64.b64encode(one).decode() for one in (pictures.large, pictures.small)],
    }
    answer = rest.post("/v1/verify", json={**body, "fmr": 1e-3}).json()
    own, enhanced = (one["threshold"] for one in answer["results"])
    assert answer["results"][1]["reference"]["enhancement"]["status"] == "applied"
    assert (enhanced, answer["fmr"]) == (STRICT, 1e-3)
    assert answer["threshold"] == own < STRICT
    # None was fitted for 1e-2: the model's own holds. A threshold of the caller's stays his.
    other = rest.post("/v1/verify", json={**body, "fmr": 1e-2}).json()
    assert len({one["threshold"] for one in other["results"]}) == 1
    named = rest.post("/v1/verify", json={**body, "threshold": 0.2}).json()
    assert {one["threshold"] for one in named["results"]} == {0.2}
    without = rest.post("/v1/verify", json={**body, "fmr": 1e-3, "enhance": False}).json()
    assert {one["threshold"] for one in without["results"]} == {own}


def test_the_enhanced_face_is_shown_on_request_alone(
    rest: httpx.Client, pictures: Pictures
) -> None:
    answer = verify(rest, pictures.small, pictures.large, include="enhanced")
    shown = base64.b64decode(answer["probe"]["enhancement"]["image"])
    picture = cv2.imdecode(np.frombuffer(shown, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (112, 112, 3)
    assert answer["reference"]["enhancement"]["image"] is None


def test_json_takes_the_same_fields(rest: httpx.Client, pictures: Pictures) -> None:
    body = {
        "probe": base64.b64encode(pictures.small).decode(),
        "reference": base64.b64encode(pictures.large).decode(),
        "include": ["enhanced"],
    }
    answer = rest.post("/v1/verify", json=body).json()
    assert answer["probe"]["enhancement"]["image"]
    off = rest.post("/v1/verify", json={**body, "enhance": False}).json()
    assert off["probe"]["enhancement"]["status"] == "off"
    assert off["probe"]["enhancement"]["image"] is None
    refused = problem(rest.post("/v1/verify", json={**body, "include": ["all"]}), "invalid_request")
    assert refused["field"] == "include.0"


def test_the_model_that_was_not_measured_is_left_alone(
    rest: httpx.Client, home: Path, pictures: Pictures
) -> None:
    plain = _settings(home)
    both = plain.embedding.model_copy(update={"models": ("poseface", "sface")})
    with (
        mien_in_thread(plain.model_copy(update={"embedding": both})) as running,
        running.client() as client,
    ):
        measured = verify(client, pictures.small, pictures.large)
        other = verify(client, pictures.small, pictures.large, model="sface")
    assert measured["probe"]["enhancement"]["status"] == "applied"
    assert other["probe"]["enhancement"]["status"] == "not_needed"


def test_grpc_says_the_same(enhancing: Mien, rest: httpx.Client, pictures: Pictures) -> None:
    request = face_pb2.VerifyRequest(
        probe=face_pb2.Image(content=pictures.small),
        references=[face_pb2.Image(content=pictures.large)],
        include=[face_pb2.INCLUDE_ENHANCED],
    )
    with enhancing.faces() as stub:
        answer = stub.Verify(request)
        request.no_enhancement = True
        plain = stub.Verify(request)
    done = answer.probe.enhancement
    assert (done.status, done.enhancer) == (APPLIED, "negative@1")
    assert done.condition == "low_resolution"
    assert done.image.startswith(b"\x89PNG")
    shown = verify(rest, pictures.small, pictures.large)
    assert answer.results[0].similarity == pytest.approx(shown["similarity"], abs=1e-5)
    assert (answer.results[0].threshold, answer.threshold) == (STRICT, STRICT)
    assert plain.probe.enhancement.status == face_pb2.ENHANCEMENT_STATUS_OFF


def test_without_the_service_faces_are_compared_as_they_are_and_it_is_said(
    home: Path, pictures: Pictures
) -> None:
    with serving(loaded(home, "negative")) as (_, address):
        settings = _settings(home, enhancement_address=address)
        started = mien_in_thread(settings)
        running = started.__enter__()
    try:
        with running.client() as client:
            answer = verify(client, pictures.small, pictures.large)
            again = verify(client, pictures.small, pictures.large)
    finally:
        started.__exit__(None, None, None)
    for one in (answer, again):
        assert one["decision"] == "same"
        assert one["probe"]["enhancement"]["status"] == "unavailable"


def test_a_gateway_reaches_the_service_over_the_wire(home: Path, pictures: Pictures) -> None:
    with serving(loaded(home, "negative")) as (_, address):
        settings = _settings(home, enhancement_address=address)
        with mien_in_thread(settings) as running, running.client() as client:
            answer = verify(client, pictures.small, pictures.large)
    assert answer["probe"]["enhancement"]["status"] == "applied"


def test_a_mien_that_was_told_not_to_does_not(home: Path, pictures: Pictures) -> None:
    with mien_in_thread(_settings(home, enhance=False)) as running, running.client() as client:
        answer = verify(client, pictures.small, pictures.large)
    assert answer["probe"]["enhancement"]["status"] == "off"


def test_the_service_by_itself_serves_its_networks_over_the_inference_protocol(home: Path) -> None:
    plain = _settings(home)
    own = plain.enhancement.model_copy(update={"port": 0, "http_port": 0})
    settings = plain.model_copy(update={"enhancement": own})
    with mien_in_thread(settings, "enhancement") as running, running.client() as client:
        assert client.get("/v2/health/ready").status_code == 200
        model = client.get("/v2/models/negative").json()
        picture = {"name": "image", "datatype": "FP32", "shape": [1, 3, 112, 112]}
        data = np.linspace(-1, 1, 3 * 112 * 112).tolist()
        answer = client.post(
            "/v2/models/negative/infer", json={"inputs": [{**picture, "data": data}]}
        ).json()
        metrics = client.get("/metrics").text
    assert model["inputs"] == [{**picture, "shape": [-1, 3, 112, 112]}]
    assert answer["outputs"][0]["data"] == pytest.approx([-value for value in data])
    assert "mien_batch_size" in metrics


def test_the_service_by_itself_needs_an_enhancer(home: Path) -> None:
    plain = _settings(home)
    nothing = plain.enhancement.model_copy(update={"models": ()})
    with (
        pytest.raises(SettingsError, match="MIEN_ENHANCEMENT__MODELS"),
        mien_in_thread(plain.model_copy(update={"enhancement": nothing}), "enhancement"),
    ):
        pass


# --- what is embedded -------------------------------------------------------------------------


async def _mended(settings: Settings, picture: bytes) -> tuple[PreparedFace, PreparedFace]:
    """The face as it is, and as the gateway would have it embedded."""
    async with local_mien(settings, ("poseface",)) as mien:
        info = await mien.embedding.model("poseface")
        geometry = crop_geometry(info)
        face = mien.pipeline.prepare(picture, FaceChoice(), geometry, "probe")
        (made,), _ = await mien.enhancement.apply([face], info, geometry, Stopwatch())
    return face, made


def test_a_face_of_few_pixels_is_embedded_as_redrawn_and_as_it_is(
    home: Path, pictures: Pictures
) -> None:
    face, made = asyncio.run(_mended(_settings(home), pictures.small))
    assert face.crop is not None
    assert len(face.crops) == 1
    drawn, mirrored, plain, turned = made.crops
    np.testing.assert_allclose(drawn.astype(int), 255 - face.crop.astype(int), atol=1)
    np.testing.assert_array_equal(plain, face.crop)
    np.testing.assert_array_equal(mirrored, drawn[:, ::-1])
    np.testing.assert_array_equal(turned, face.crop[:, ::-1])


def test_a_face_without_colours_is_embedded_as_redrawn_alone(
    mien_home: Path, tmp_path: Path, portraits: Path
) -> None:
    (tmp_path / "weights").symlink_to(mien_home / "weights")
    card = Zoo(mien_home).embedder("poseface")
    opened = gate(card.reference, card.weights.sha256, HELPS_AT, upwards=True)
    add_enhancer(tmp_path, operation="nir_to_visible", gates=[opened])
    grey = jpeg(portrait(portraits, "obama.jpg").convert("L").convert("RGB"))
    face, made = asyncio.run(_mended(_settings(tmp_path), grey))
    assert face.crop is not None
    (drawn,) = made.crops
    np.testing.assert_allclose(drawn.astype(int), 255 - face.crop.astype(int), atol=1)


def test_a_face_above_the_gate_is_embedded_as_it_is(home: Path, pictures: Pictures) -> None:
    face, made = asyncio.run(_mended(_settings(home), pictures.large))
    assert len(made.crops) == 1
    assert made.crop is face.crop
