"""REST beside verification: detection, models, health, metrics, request ids."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from models.zoo import Zoo
from services.gateway.core import Gateway
from services.gateway.rest.schemas import DetectOut, ModelsOut
from tests.integration.pictures import faceless
from tests.integration.rest import base64_of, files, problem


def test_detect_measures_every_face(rest: httpx.Client, both: bytes) -> None:
    response = rest.post("/v1/detect", files=files(image=both))
    assert response.status_code == 200
    answer = DetectOut.model_validate(response.json())
    assert (answer.width, answer.height) == (1080, 480)
    assert answer.face_count == len(answer.faces) == 2
    large, small = answer.faces
    assert large.box.width * large.box.height > small.box.width * small.box.height
    assert small.box.x + small.box.width < 300 < large.box.x
    for face in answer.faces:
        assert face.points[0].x < face.points[1].x
        assert 20 < face.inter_eye_distance < 200
    by_json = rest.post("/v1/detect", json={"image": base64_of(both)}).json()
    assert by_json["faces"] == response.json()["faces"]


def test_detect_finds_nothing_without_complaint(rest: httpx.Client) -> None:
    answer = rest.post("/v1/detect", files=files(image=faceless())).json()
    assert (answer["faces"], answer["face_count"]) == ([], 0)


def test_models_tells_what_is_served(rest: httpx.Client, mien_home: Path) -> None:
    card = Zoo(mien_home).embedder("poseface")
    (model,) = ModelsOut.model_validate(rest.get("/v1/models").json()).models
    assert (model.identity.name, model.identity.version) == (card.name, card.version)
    assert model.identity.weights_sha256 == card.weights.sha256
    assert model.identity.preprocessing_sha256 == card.preprocessing_sha256
    assert (model.is_default, model.dimension, model.metric) == (True, 128, "cosine")
    assert (model.crop.width, model.crop.height, model.crop.template) == (112, 112, "arcface")
    assert [threshold.fmr for threshold in model.thresholds] == [1e-2, 1e-3, 1e-4]
    assert model.engine.startswith("openvino")
    assert model.licence == "Apache-2.0"


def test_health_answers(rest: httpx.Client) -> None:
    assert rest.get("/healthz/live").json() == {"status": "live"}
    assert rest.get("/healthz/ready").json() == {"status": "ready"}


def test_not_ready_is_said_until_warm(rest: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gateway, "is_ready", property(lambda _: False))
    told = problem(rest.get("/healthz/ready"), "not_ready")
    assert told["retry_after"] == 1
    assert rest.get("/healthz/live").status_code == 200


def test_metrics_count_and_tell_nothing_of_faces(
    rest: httpx.Client, obama: bytes, biden: bytes
) -> None:
    name = "Erika-Mustermann"
    rest.get(f"/v1/{name}")
    rest.get(f"/healthz/{name}")
    rest.post("/v1/verify", data={name: name}, files=files(probe=obama, reference=biden))
    rest.post(
        "/v1/verify",
        data={"model": name},
        headers={"x-request-id": name},
        files=[("probe", (f"{name}.jpg", obama)), ("reference", (f"{name}.jpg", biden))],
    )
    before = _samples(rest, "mien_requests_total")
    rest.post("/v1/verify", files=files(probe=obama, reference=biden))
    response = rest.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    text = response.text
    assert name not in text
    ours = set(re.findall(r"^# TYPE (mien_\w+)", text, re.MULTILINE))
    assert {
        "mien_stage_seconds",
        "mien_requests_total",
        "mien_decisions_total",
        "mien_face_quality",
        "mien_similarity",
        "mien_batch_size",
        "mien_build_info",
    } <= ours
    labels = set(re.findall(r"[{,](\w+)=\"", text)) - {"le"}
    assert labels <= {
        "stage", "interface", "method", "outcome", "model", "decision", "version", "python",
        "enhancer", "status", "reason", "callable", "retry_num", "error_type", "map", "state",
        "error", "engine", "precision", "fell_back", "kind", "result", "use",
        "generation", "implementation", "major", "minor", "patchlevel",
    }  # fmt: skip
    key = 'interface="rest",method="/v1/verify",outcome="ok"'
    after = _samples(rest, "mien_requests_total")
    assert after[key] == before.get(key, 0) + 1


def _samples(rest: httpx.Client, name: str) -> dict[str, float]:
    found = re.findall(rf"^{name}{{(.*)}} (\S+)$", rest.get("/metrics").text, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def test_the_short_address_counts_as_the_long_one(light: httpx.Client) -> None:
    key = 'interface="rest",method="/v1/verify",outcome="malformed_body"'
    before = _samples(light, "mien_requests_total").get(key, 0)
    light.post("/verify", content=b"{", headers={"content-type": "application/json"})
    assert _samples(light, "mien_requests_total")[key] == before + 1


def test_a_request_is_timed_under_its_described_address(light: httpx.Client) -> None:
    name = "mien_request_seconds_count"
    keys = [f'interface="rest",method="{path}"' for path in ("/v1/verify", "other")]
    before = _samples(light, name)
    light.post("/verify", content=b"{", headers={"content-type": "application/json"})
    light.get("/v1/Erika-Mustermann")
    after = _samples(light, name)
    assert [after[key] - before.get(key, 0) for key in keys] == [1, 1]
    assert "Erika" not in light.get("/metrics").text


def test_a_request_id_is_echoed(rest: httpx.Client, obama: bytes) -> None:
    given = {"x-request-id": "order-4711.a:b_c"}
    response = rest.post("/v1/detect", files=files(image=obama), headers=given)
    assert response.headers["x-request-id"] == response.json()["request_id"] == "order-4711.a:b_c"
    response = rest.get("/nowhere", headers=given)
    assert problem(response, "not_found")["request_id"] == "order-4711.a:b_c"


@pytest.mark.parametrize("offered", [None, "", "x" * 129, "two words", "semi;colon", "<b>"])
def test_a_request_id_is_made_when_none_is_usable(light: httpx.Client, offered: str | None) -> None:
    headers = {} if offered is None else {"x-request-id": offered}
    made = [light.get("/healthz/live", headers=headers).headers["x-request-id"] for _ in range(2)]
    assert made[0] != made[1]
    for request_id in made:
        assert re.fullmatch("[0-9a-f]{32}", request_id)
