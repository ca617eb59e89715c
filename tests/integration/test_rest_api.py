"""REST as an app sees it: decisions, errors, limits, and the OpenAPI description."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, ValidationError

from models.zoo import Zoo
from services.errors import BY_CODE
from services.gateway.core import Gateway
from services.gateway.embedding_client import EmbeddingLink
from services.gateway.rest.document import openapi_text
from services.gateway.rest.schemas import DetectOut, ModelsOut, ProblemOut, VerifyOut
from tests.hostile import encoded, gradient
from tests.integration.harness import Mien, mien_in_thread, settings_on_free_ports
from tests.integration.pictures import faceless, jpeg, portrait, side_by_side

_DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
_FILE = ("face.jpg", b"never read")


@pytest.fixture(scope="module")
def rest(mien: Mien) -> Iterator[httpx.Client]:
    with mien.client() as client:
        yield client


@pytest.fixture(scope="module")
def light(weightless_mien: Mien) -> Iterator[httpx.Client]:
    with weightless_mien.client() as client:
        yield client


@pytest.fixture(scope="module")
def obama(portraits: Path) -> bytes:
    return jpeg(portrait(portraits, "obama.jpg"))


@pytest.fixture(scope="module")
def obama2(portraits: Path) -> bytes:
    return jpeg(portrait(portraits, "obama2.jpg"))


@pytest.fixture(scope="module")
def biden(portraits: Path) -> bytes:
    return jpeg(portrait(portraits, "biden.jpg"))


@pytest.fixture(scope="module")
def both(portraits: Path) -> bytes:
    """A small Biden on the left, a large Obama in the middle, nothing on the right."""
    small, large = portrait(portraits, "biden.jpg", 300), portrait(portraits, "obama2.jpg", 480)
    return jpeg(side_by_side(small, large, gradient(300, 300)))


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def files(**given: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [(name, (f"{name}.jpg", data)) for name, data in given.items()]


def problem(response: httpx.Response, code: str) -> dict[str, Any]:
    """The answer as a problem, after all that every problem has in common."""
    kind = BY_CODE[code].value
    assert response.status_code == kind.http, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    ProblemOut.model_validate(body)
    assert set(body) >= {"type", "title", "status", "detail", "instance", "code", "request_id"}
    assert body["type"] == f"urn:mien:error:{code}"
    assert (body["code"], body["title"], body["status"]) == (code, kind.title, kind.http)
    assert body["instance"] == response.request.url.path
    assert body["request_id"] == response.headers["x-request-id"]
    assert re.fullmatch(r"\w.*\.", body["detail"]), body["detail"]
    assert not re.search(r"Traceback|Error\b|Exception|Value error|File \"", body["detail"])
    assert "retry_after" not in body or int(response.headers["retry-after"]) >= 1
    return body


# --- verification -------------------------------------------------------------------------------


def test_photographs_of_one_person_are_the_same(
    rest: httpx.Client, obama: bytes, obama2: bytes
) -> None:
    response = rest.post("/v1/verify", files=files(probe=obama, reference=obama2))
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    answer = VerifyOut.model_validate(response.json())
    assert answer.decision == "same"
    assert answer.reasons == []
    assert answer.similarity is not None
    assert answer.similarity >= answer.threshold
    assert answer.fmr == 1e-3
    assert answer.model.name == "poseface"
    assert re.fullmatch("[0-9a-f]{64}", answer.model.weights_sha256)
    assert re.fullmatch("[0-9a-f]{64}", answer.model.preprocessing_sha256)
    for chosen in (answer.probe, answer.reference):
        assert (chosen.face_count, chosen.face_index, chosen.selection) == (1, 0, "largest")
        assert chosen.face is not None
        assert len(chosen.face.points) == 5
        assert abs(chosen.face.pose.yaw) < 30
        assert 10 < chosen.face.quality.unified <= 100
        assert chosen.face.modality == "visible"
    stages = {"decode", "detect", "measure", "queue", "inference", "compare", "total"}
    assert stages <= set(answer.timing_ms)
    assert answer.timing_ms["total"] > answer.timing_ms["inference"] > 0


def test_photographs_of_two_people_are_different(
    rest: httpx.Client, obama: bytes, biden: bytes
) -> None:
    answer = rest.post("/v1/verify", files=files(probe=obama, reference=biden)).json()
    assert answer["decision"] == "different"
    assert answer["similarity"] < answer["threshold"]


@pytest.mark.parametrize("prefix", ["", "data:image/jpeg;base64,"])
def test_json_answers_as_multipart_does(
    rest: httpx.Client, obama: bytes, obama2: bytes, prefix: str
) -> None:
    body = {"probe": prefix + base64_of(obama), "reference": prefix + base64_of(obama2)}
    by_json = rest.post("/v1/verify", json=body)
    assert by_json.status_code == 200, by_json.text
    by_form = rest.post("/v1/verify", files=files(probe=obama, reference=obama2))
    changing = {"timing_ms": None, "request_id": None}
    assert by_json.json() | changing == by_form.json() | changing


def test_several_references_get_a_decision_each_in_their_order(
    rest: httpx.Client, obama: bytes, obama2: bytes, biden: bytes
) -> None:
    given = [("probe", ("p.jpg", obama))]
    given += [("reference", ("r.jpg", data)) for data in (biden, obama2, faceless(), biden)]
    by_form = rest.post("/v1/verify", files=given).json()
    decisions = [result["decision"] for result in by_form["results"]]
    assert decisions == ["different", "same", "inconclusive", "different"]
    assert by_form["results"][2]["reasons"] == ["no_face_in_reference"]
    assert {name: by_form[name] for name in by_form["results"][0]} == by_form["results"][0]
    references = [base64_of(data) for data in (biden, obama2, faceless(), biden)]
    body = {"probe": base64_of(obama), "references": references}
    by_json = rest.post("/v1/verify", json=body).json()
    assert by_json["results"] == by_form["results"]


def test_reference_and_references_together_keep_their_order(
    rest: httpx.Client, obama: bytes, obama2: bytes, biden: bytes
) -> None:
    body = {
        "probe": base64_of(obama),
        "reference": base64_of(biden),
        "references": [base64_of(obama2)],
    }
    answer = rest.post("/v1/verify", json=body).json()
    assert [result["decision"] for result in answer["results"]] == ["different", "same"]


def test_verify_has_a_short_address_too(rest: httpx.Client, obama: bytes, biden: bytes) -> None:
    answer = rest.post("/verify", files=files(probe=obama, reference=biden)).json()
    assert answer["decision"] == "different"


@pytest.mark.parametrize("fmr", [1e-2, 1e-3, 1e-4])
def test_the_threshold_is_that_of_the_named_fmr(
    rest: httpx.Client, mien_home: Path, obama: bytes, obama2: bytes, fmr: float
) -> None:
    fitted = Zoo(mien_home).embedder("poseface").threshold(fmr)
    assert fitted is not None
    given = {"fmr": f"{fmr:g}"}
    answer = rest.post("/v1/verify", data=given, files=files(probe=obama, reference=obama2)).json()
    assert (answer["fmr"], answer["threshold"]) == (fmr, round(fitted.similarity, 6))


def test_a_threshold_of_the_callers_own_decides(
    rest: httpx.Client, obama: bytes, obama2: bytes
) -> None:
    for threshold, decision in (("-1", "same"), ("0.99", "different")):
        answer = rest.post(
            "/v1/verify",
            data={"threshold": threshold},
            files=files(probe=obama, reference=obama2),
        ).json()
        assert answer["decision"] == decision
        assert (answer["fmr"], answer["threshold"]) == (None, float(threshold))


def test_a_model_may_be_named(rest: httpx.Client, obama: bytes, obama2: bytes) -> None:
    for name in ("poseface", "poseface@1"):
        response = rest.post(
            "/v1/verify", data={"model": name}, files=files(probe=obama, reference=obama2)
        )
        assert response.json()["model"]["version"] == "1"


def test_a_picture_without_a_face_is_an_answer(rest: httpx.Client, obama: bytes) -> None:
    response = rest.post("/v1/verify", files=files(probe=faceless(), reference=obama))
    assert response.status_code == 200
    answer = response.json()
    assert (answer["decision"], answer["similarity"]) == ("inconclusive", None)
    assert answer["reasons"] == ["no_face_in_probe"]
    assert (answer["probe"]["face"], answer["probe"]["face_count"]) == (None, 0)
    assert answer["probe"]["face_index"] is None
    assert answer["reference"]["face"] is not None


# --- which face ---------------------------------------------------------------------------------


def test_the_largest_face_is_taken_and_the_number_reported(
    rest: httpx.Client, both: bytes, obama: bytes
) -> None:
    answer = rest.post("/v1/verify", files=files(probe=both, reference=obama)).json()
    assert answer["decision"] == "same"
    assert (answer["probe"]["face_count"], answer["probe"]["face_index"]) == (2, 0)


def test_a_face_can_be_chosen_by_index(rest: httpx.Client, both: bytes, biden: bytes) -> None:
    given = files(probe=both, reference=biden)
    for index, decision in (("0", "different"), ("1", "same")):
        answer = rest.post(
            "/v1/verify", data={"face": "index", "probe_index": index}, files=given
        ).json()
        assert answer["decision"] == decision
        assert answer["probe"]["face_index"] == int(index)
        assert answer["probe"]["selection"] == "index"
        assert answer["reference"]["face_index"] == 0


def test_an_index_that_no_face_has_is_an_error(
    rest: httpx.Client, both: bytes, biden: bytes
) -> None:
    given = {"face": "index", "probe_index": "2"}
    response = rest.post("/v1/verify", data=given, files=files(probe=both, reference=biden))
    told = problem(response, "face_index_out_of_range")
    assert (told["field"], told["face_count"]) == ("probe", 2)
    given = {"face": "index", "reference_index": "1"}
    response = rest.post("/v1/verify", data=given, files=files(probe=both, reference=biden))
    assert problem(response, "face_index_out_of_range")["field"] == "reference"


def test_several_faces_can_be_refused(rest: httpx.Client, both: bytes, obama: bytes) -> None:
    given = {"face": "refuse"}
    answer = rest.post("/v1/verify", data=given, files=files(probe=obama, reference=both)).json()
    assert answer["decision"] == "inconclusive"
    assert answer["reasons"] == ["several_faces_in_reference"]
    assert (answer["reference"]["face_count"], answer["reference"]["face"]) == (2, None)
    answer = rest.post("/v1/verify", data=given, files=files(probe=obama, reference=obama)).json()
    assert answer["decision"] == "same"


def test_the_central_face_can_be_chosen(rest: httpx.Client, portraits: Path, biden: bytes) -> None:
    large, small = portrait(portraits, "obama.jpg", 480), portrait(portraits, "biden.jpg", 300)
    picture = jpeg(side_by_side(large, small, gradient(480, 480)))
    given = files(probe=picture, reference=biden)
    answer = rest.post("/v1/verify", data={"face": "central"}, files=given).json()
    assert (answer["decision"], answer["probe"]["face_index"]) == ("same", 1)
    answer = rest.post("/v1/verify", files=given).json()
    assert (answer["decision"], answer["probe"]["face_index"]) == ("different", 0)


# --- detection, models, health, metrics -----------------------------------------------------------


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
        "generation", "implementation", "major", "minor", "patchlevel",
    }  # fmt: skip
    key = 'interface="rest",method="/v1/verify",outcome="ok"'
    after = _samples(rest, "mien_requests_total")
    assert after[key] == before[key] + 1


def _samples(rest: httpx.Client, name: str) -> dict[str, float]:
    found = re.findall(rf"^{name}{{(.*)}} (\S+)$", rest.get("/metrics").text, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def test_the_short_address_counts_as_the_long_one(light: httpx.Client) -> None:
    key = 'interface="rest",method="/v1/verify",outcome="malformed_body"'
    before = _samples(light, "mien_requests_total").get(key, 0)
    light.post("/verify", content=b"{", headers={"content-type": "application/json"})
    assert _samples(light, "mien_requests_total")[key] == before + 1


# --- request id ---------------------------------------------------------------------------------


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


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"fmr": "1e-3", "threshold": "0.3"}, None, "invalid_request"),
        ({"fmr": "0"}, "fmr", "invalid_request"),
        ({"fmr": "1"}, "fmr", "invalid_request"),
        ({"fmr": "nan"}, "fmr", "invalid_request"),
        ({"fmr": "often"}, "fmr", "invalid_request"),
        ({"fmr": "0.0005"}, "fmr", "threshold_unknown"),
        ({"threshold": "inf"}, "threshold", "invalid_request"),
        ({"threshold": "nan"}, "threshold", "invalid_request"),
        ({"model": "nobody"}, "model", "model_unknown"),
        ({"model": "poseface@99"}, "model", "model_unknown"),
        ({"model": "x" * 101}, "model", "invalid_request"),
        ({"face": "prettiest"}, "face", "invalid_request"),
        ({"face": "index", "probe_index": "-1"}, "probe_index", "invalid_request"),
        ({"face": "index", "reference_index": "one"}, "reference_index", "invalid_request"),
        ({"colour": "blue"}, "colour", "invalid_request"),
    ],
)
def test_a_wrong_field_is_named(
    light: httpx.Client, fields: dict[str, str], field: str | None, code: str
) -> None:
    picture = faceless()
    given = files(probe=picture, reference=picture)
    told = problem(light.post("/v1/verify", data=fields, files=given), code)
    assert told.get("field") == field
    body = {"probe": base64_of(picture), "reference": base64_of(picture), **fields}
    told = problem(light.post("/v1/verify", json=body), code)
    assert told.get("field") == field


def test_an_unknown_fmr_says_which_are_known(light: httpx.Client) -> None:
    given = files(probe=faceless(), reference=faceless())
    told = problem(light.post("/v1/verify", data={"fmr": "0.2"}, files=given), "threshold_unknown")
    assert "0.01, 0.001, 0.0001" in told["detail"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ([("reference", _FILE)], "probe"),
        ([("probe", _FILE)], "reference"),
        ([("probe", _FILE), ("probe", _FILE), ("reference", _FILE)], "probe"),
        ([("probe", _FILE), ("reference", _FILE), ("portrait", _FILE)], "portrait"),
        ([("probe", _FILE), ("reference", _FILE), ("fmr", _FILE)], "fmr"),
        ([("probe", (None, b"text")), ("reference", _FILE)], "probe"),
        ([("probe", _FILE), ("reference", (None, b"text"))], "reference"),
        ([("probe", _FILE), ("reference", _FILE)] + [("face", (None, b"refuse"))] * 2, "face"),
    ],
)
def test_a_wrong_part_is_named(light: httpx.Client, given: Any, field: str) -> None:
    assert problem(light.post("/v1/verify", files=given), "invalid_request")["field"] == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "probe"),
        ({"probe": "AAAA"}, "reference"),
        ({"probe": "AAAA", "references": []}, "reference"),
        ({"probe": "AAAA", "references": ["AAAA"] * 3}, "references"),
        ({"probe": "no base64!", "reference": "AAAA"}, "probe"),
        ({"probe": "AAAA", "reference": "A"}, "reference"),
        ({"probe": "AAAA", "references": ["AAAA", "*"]}, "references[1]"),
        ({"probe": 7, "reference": "AAAA"}, "probe"),
        ({"probe": "AAAA", "references": "AAAA"}, "references"),
        ({"probe": "AAAA", "references": ["AAAA", None]}, "references.1"),
        ([], None),
        ("text", None),
        (None, None),
    ],
)
def test_a_wrong_json_member_is_named(light: httpx.Client, body: Any, field: str | None) -> None:
    told = problem(
        light.post("/v1/verify", content=json.dumps(body), headers=_JSON), "invalid_request"
    )
    assert told.get("field") == field


_JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("path", ["/v1/verify", "/verify", "/v1/detect"])
def test_a_body_that_cannot_be_read(light: httpx.Client, path: str) -> None:
    problem(light.post(path, content=b'{"probe": ', headers=_JSON), "malformed_body")
    no_boundary = {"content-type": "multipart/form-data"}
    problem(light.post(path, content=b"--x--", headers=no_boundary), "malformed_body")


@pytest.mark.parametrize("path", ["/v1/verify", "/v1/detect"])
@pytest.mark.parametrize(
    "media_type",
    [None, "image/jpeg", "text/plain", "application/x-www-form-urlencoded", "nonsense"],
)
def test_a_wrong_content_type(light: httpx.Client, path: str, media_type: str | None) -> None:
    headers = {} if media_type is None else {"content-type": media_type}
    problem(light.post(path, content=b"{}", headers=headers), "unsupported_media_type")


def test_too_many_references(light: httpx.Client) -> None:
    given = [("probe", _FILE)] + [("reference", _FILE)] * 3
    assert (
        problem(light.post("/v1/verify", files=given), "invalid_request")["field"] == "references"
    )
    given += [("reference", _FILE)]
    problem(light.post("/v1/verify", files=given), "malformed_body")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "image_empty"),
        (b"GIF89a" + bytes(50), "image_unsupported_format"),
        (encoded(gradient(), "JPEG")[:400], "image_truncated"),
        (encoded(gradient(8, 8), "PNG"), "image_too_small"),
        (encoded(gradient(300, 300), "BMP"), "image_too_many_bytes"),
        (encoded(gradient().convert("1").resize((9000, 9000)), "PNG"), "image_too_many_pixels"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "image_corrupt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_picture_that_cannot_be_used(light: httpx.Client, data: bytes, code: str) -> None:
    assert problem(light.post("/v1/detect", files=files(image=data)), code)["field"] == "image"
    good = faceless()
    response = light.post("/v1/verify", files=files(probe=good, reference=data))
    assert problem(response, code)["field"] == "reference"
    given = [("probe", ("a", good)), ("reference", ("b", good)), ("reference", ("c", data))]
    response = light.post("/v1/verify", files=given)
    assert problem(response, code)["field"] == "references[1]"


def test_nothing_at_an_unknown_address(light: httpx.Client) -> None:
    for path in ("/", "/v1/nothing", "/v2/verify", "/v1/verify/", "/metrics/x"):
        problem(light.get(path), "not_found")


def test_a_wrong_method_is_told_the_right_one(light: httpx.Client) -> None:
    for method, path, allowed in (
        ("GET", "/v1/verify", "POST"),
        ("PUT", "/v1/detect", "POST"),
        ("DELETE", "/v1/models", "GET"),
        ("POST", "/healthz/live", "GET"),
    ):
        response = light.request(method, path)
        problem(response, "method_not_allowed")
        assert response.headers["allow"] == allowed


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("media_type", ["application/json", "multipart/form-data; boundary=x"])
def test_an_oversized_body_is_refused(
    weightless_mien: Mien, media_type: str, chunked: bool
) -> None:
    size = 2_000_000  # the limit: three pictures of 200,000 bytes as base64, and some slack
    start = b'--x\r\nContent-Disposition: form-data; name="probe"; filename="p"\r\n\r\n'

    def pieces() -> Iterator[bytes]:
        yield start
        for _ in range(size // 10_000):
            yield bytes(10_000)

    content: Any = pieces() if chunked else b"".join(pieces())
    with weightless_mien.client() as client:
        response = client.post("/v1/verify", content=content, headers={"content-type": media_type})
        problem(response, "request_too_large")
        assert client.get("/healthz/live").status_code == 200


def test_a_failure_inside_tells_nothing(
    light: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(Gateway, "detect", fail)
    response = light.post("/v1/detect", files=files(image=b"x"), headers={"x-request-id": "mine"})
    told = problem(response, "internal")
    assert told["request_id"] == "mine"
    assert "secret" not in response.text


def test_a_request_that_takes_too_long(mien_home: Path) -> None:
    settings = settings_on_free_ports(mien_home, timeout_seconds=0.001)
    # Only requests get so little time; without more, Mien itself would not start.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.gateway.server.EmbeddingClient", _patient_client)
        with mien_in_thread(settings) as running, running.client() as client:
            response = client.post("/v1/detect", files=files(image=jpeg(gradient(3000, 3000))))
            problem(response, "deadline_exceeded")


def _patient_client(link: EmbeddingLink, _: float) -> Any:
    from services.gateway.embedding_client import EmbeddingClient  # noqa: PLC0415 - unpatched

    return EmbeddingClient(link, 30.0)


# --- the OpenAPI description ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    described: dict[str, Any] = json.loads(openapi_text())
    return described


def test_the_committed_description_is_current() -> None:
    assert _DOCUMENT.read_text(encoding="utf-8") == openapi_text(), (
        "run: mien openapi docs/openapi.json"
    )


def test_the_description_is_served(light: httpx.Client) -> None:
    served = light.get("/openapi.json").json()
    assert served["paths"].keys() == json.loads(openapi_text())["paths"].keys()


def test_the_description_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert {"title", "version"} <= set(document["info"])
    operations = [
        operation
        for path in document["paths"].values()
        for method, operation in path.items()
        if method in ("get", "post", "put", "delete", "patch")
    ]
    ids = [operation["operationId"] for operation in operations]
    assert sorted(ids) == ["detect", "listModels", "live", "ready", "verify"]
    for operation in operations:
        for status, answer in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d", status)
            assert answer["description"]


def test_every_reference_in_the_description_leads_somewhere(document: dict[str, Any]) -> None:
    references = list(_values(document, "$ref"))
    assert references
    for reference in references:
        assert reference.startswith("#/"), reference
        target: Any = document
        for part in reference[2:].split("/"):
            assert part in target, reference
            target = target[part]


def test_every_example_has_its_schemas_shape(document: dict[str, Any]) -> None:
    shapes: dict[str, type[BaseModel]] = {
        shape.__name__: shape for shape in (DetectOut, VerifyOut, ModelsOut, ProblemOut)
    }
    checked = set()
    for operation in (op for path in document["paths"].values() for op in path.values()):
        for status, answer in operation["responses"].items():
            for content in answer.get("content", {}).values():
                name = content["schema"]["$ref"].rpartition("/")[2]
                examples = [e["value"] for e in content.get("examples", {}).values()]
                if "example" in content:
                    examples.append(content["example"])
                for example in examples:
                    shapes[name].model_validate(example, strict=False)
                    assert set(example) <= set(shapes[name].model_fields)
                    assert example.get("status", int(status)) == int(status)
                    checked.add(name)
    assert {"DetectOut", "VerifyOut", "ProblemOut"} <= checked


def test_a_wrong_example_would_be_noticed(document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/verify"]["post"]["responses"]["200"]["content"]
    example = content["application/json"]["example"]
    with pytest.raises(ValidationError):
        VerifyOut.model_validate(example | {"decision": "perhaps"})
    with pytest.raises(ValidationError):
        VerifyOut.model_validate(example | {"unheard_of": 1})


def test_every_error_that_is_answered_is_described(document: dict[str, Any]) -> None:
    responses = document["paths"]["/v1/verify"]["post"]["responses"]
    described = {
        code
        for answer in responses.values()
        for content in answer["content"].values()
        for code in content.get("examples", {})
    }
    expected = {code for code in BY_CODE if code.startswith("image_")} | {
        "invalid_request", "malformed_body", "unsupported_media_type", "request_too_large",
        "face_index_out_of_range", "model_unknown", "threshold_unknown", "overloaded",
        "embedding_unavailable", "deadline_exceeded",
    }  # fmt: skip
    assert expected <= described


def _values(node: Any, key: str) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key and isinstance(value, str):
                yield value
            else:
                yield from _values(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from _values(value, key)
