"""REST as an app sees it: verification, and which face of a picture is meant."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from models.zoo import Zoo
from services.gateway.rest.schemas import VerifyOut
from tests.hostile import gradient
from tests.integration.pictures import faceless, jpeg, portrait, side_by_side
from tests.integration.rest import base64_of, files, problem


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
