"""The command `mien` as a user types it: output, exit codes, and one sentence when it fails."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import openvino
import pytest

from services.demo_pictures import PAIRS
from services.gateway.rest.document import openapi_text
from services.gateway.rest.schemas import DetectOut, VerifyOut
from tests.integration.harness import Mien, free_port, run_mien
from tests.integration.mapping.tiny_mapping import add_map
from tests.integration.pictures import faceless, jpeg, portrait, side_by_side
from tests.tiny_networks import SIDE, write_network


@pytest.fixture
def home(mien_home: Path, tmp_path: Path) -> Path:
    """A home of its own, with the weights and photographs of the shared one."""
    made = tmp_path / "home"
    made.mkdir()
    for name in ("weights", "demo"):
        (made / name).symlink_to(mien_home / name)
    return made


def answered(result: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    """The one JSON object on standard output."""
    assert result.returncode == code, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def sentence(result: subprocess.CompletedProcess[str]) -> str:
    """The one sentence on standard error of a command that failed."""
    assert result.returncode == 3, (result.stdout, result.stderr)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    told = result.stderr.strip()
    assert told.startswith("mien: "), result.stderr
    assert told.count("\n") <= 2
    return " ".join(told.split())


def usage(result: subprocess.CompletedProcess[str]) -> str:
    """What is said of a command that was not understood."""
    assert result.returncode == 3, (result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    assert "Usage: " in result.stderr
    return result.stderr


# --- verify and detect ----------------------------------------------------------------------------


def test_verify_says_same_or_different_by_its_exit_code(mien_home: Path, portraits: Path) -> None:
    for pair in PAIRS[:2]:
        result = run_mien(mien_home, "verify", portraits / pair.probe, portraits / pair.reference)
        assert result.returncode == (0 if pair.same else 1), result.stderr
        assert re.match(
            r"(same|different): similarity -?0\.\d+, threshold 0\.\d+ at FMR 0\.001, poseface@1",
            " ".join(result.stdout.split()),
        )
        assert result.stdout.startswith("same" if pair.same else "different")


def test_verify_is_inconclusive_without_a_face(
    mien_home: Path, portraits: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.jpg"
    empty.write_bytes(faceless())
    result = run_mien(mien_home, "verify", portraits / "obama.jpg", empty, "--json")
    answer = VerifyOut.model_validate(answered(result, 2))
    assert answer.decision == "inconclusive"
    assert answer.reasons == ["no_face_in_reference"]


def test_verify_answers_in_json_as_rest_does(mien: Mien, mien_home: Path, portraits: Path) -> None:
    names = ("obama.jpg", "obama2.jpg")
    options = ("--fmr", "1e-4", "--model", "poseface@1", "--json")
    result = run_mien(mien_home, "verify", *(portraits / name for name in names), *options)
    answer = answered(result)
    files = {
        field: (portraits / name).read_bytes()
        for field, name in zip(("probe", "reference"), names, strict=True)
    }
    with mien.client() as client:
        rest = client.post("/v1/verify", data={"fmr": "1e-4"}, files=files).json()
    assert answer["similarity"] == pytest.approx(rest["similarity"], abs=1e-5)
    for name in ("decision", "threshold", "fmr", "model"):
        assert answer[name] == rest[name]


def test_the_face_can_be_chosen(mien_home: Path, portraits: Path, tmp_path: Path) -> None:
    both = tmp_path / "both.jpg"
    people = portrait(portraits, "obama.jpg", 480), portrait(portraits, "biden.jpg", 300)
    both.write_bytes(jpeg(side_by_side(*people)))
    given = ("verify", both, portraits / "biden.jpg", "--face", "index", "--probe-index")
    assert run_mien(mien_home, *given, 1).returncode == 0
    assert "2 faces" in sentence(run_mien(mien_home, *given, 2))
    found = DetectOut.model_validate(answered(run_mien(mien_home, "detect", both, "--json")))
    assert (found.face_count, found.width, found.height) == (2, 780, 480)


def test_detect_prints_a_table(mien_home: Path, portraits: Path) -> None:
    result = run_mien(mien_home, "detect", portraits / "obama.jpg")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("1 faces in 910 x 1137 pixels")
    assert "visible" in result.stdout


# --- models ---------------------------------------------------------------------------------------


def test_models_are_listed_shown_and_pulled(home: Path) -> None:
    listed = {
        row["model"]: row for row in answered(run_mien(home, "models", "list", "--json"))["models"]
    }
    assert listed["sface@1"]["kind"] == "embedder"
    assert listed["sface@1"]["weights_here"]
    assert listed["yunet@2023mar"]["kind"] == "detector"
    card = answered(run_mien(home, "models", "show", "sface"))
    assert card["output"]["dimension"] == 128
    began = time.monotonic()
    result = run_mien(home, "models", "pull", "sface", "yunet")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("SHA-256 checked") == 2
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_an_engine_is_compared_with_the_reference(mien_home: Path, precision: str) -> None:
    can = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision != "fp32" and not {"BF16", "INT8"} <= set(can):
        pytest.skip("this CPU has no bf16 or no int8")
    options = ("--engine", "openvino", "--precision", precision, "--json")
    result = run_mien(mien_home, "engines", "verify", "poseface", *options)
    report = answered(result, 1 if precision == "bf16" else 0)
    assert report["precision"] == precision
    assert report["passed"] == (precision != "bf16")  # see docs/performance.md
    assert (report["cosine_min"] >= report["limit"]) == report["passed"]


def test_missing_weights_name_the_command_that_helps(portraits: Path, tmp_path: Path) -> None:
    picture = portraits / "obama.jpg"
    told = sentence(run_mien(tmp_path, "verify", picture, picture, "--model", "sface"))
    assert "mien models pull sface@1" in told


def test_models_to_map_from_are_pulled_only_when_they_are_named(mien_home: Path) -> None:
    result = run_mien(mien_home, "models", "pull")
    assert result.returncode == 0, result.stderr
    pulled = re.findall(r"^(\S+): here", result.stdout, re.MULTILINE)
    assert {"sface@1", "yunet@2023mar", "poseface@1"} <= set(pulled)
    assert not {"facenet@1", "dlib@1"} & set(pulled)


def test_pulling_offline_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, nowhere)
    monkeypatch.setenv("PIP_INDEX_URL", f"{nowhere}/simple")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    told = run_mien(tmp_path, "models", "pull", "yunet")
    assert told.returncode == 3
    assert "Traceback" not in told.stderr
    assert "online?" in told.stderr


def test_a_model_of_ones_own(home: Path, portraits: Path, tmp_path: Path) -> None:
    weights, card = write_network(tmp_path / "tiny.onnx"), tmp_path / "card.json"
    fields: dict[str, Any] = {
        "name": "tiny",
        "input": {"width": SIDE, "height": SIDE},
        "output": {"dimension": 8},
    }
    card.write_text(json.dumps(fields))
    added = answered(run_mien(home, "models", "add", weights, "--card", card, "--json"))
    assert (added["name"], added["version"], added["thresholds"]) == ("tiny", "1", [])
    pictures = (portraits / "obama.jpg", portraits / "obama2.jpg")
    given = ("verify", *pictures, "--model", "tiny")
    assert "no threshold" in sentence(run_mien(home, *given))
    result = run_mien(home, *given, "--threshold", -1, "--json")
    assert answered(result)["model"]["name"] == "tiny"

    card.write_text(json.dumps(fields | {"output": {"dimension": 9}, "version": "2"}))
    told = sentence(run_mien(home, "models", "add", weights, "--card", card))
    assert "the network gives 8" in told
    card.write_text(json.dumps(fields | {"version": "3"}))
    result = run_mien(home, "models", "add", portraits / "obama.jpg", "--card", card)
    assert result.returncode == 3
    assert "Traceback" not in result.stderr
    assert "mien: No engine can run obama.jpg." in result.stderr  # among what engines print


# --- evaluate -------------------------------------------------------------------------------------


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.tsv"
    rows = ["fold\tpath1\tpath2\tsame"]
    for fold in (1, 2):
        rows += [f"{fold}\t{pair.probe}\t{pair.reference}\t{int(pair.same)}" for pair in PAIRS]
    file.write_text("\n".join(rows) + "\n")
    return file


def test_evaluate_measures_plots_and_remembers(
    home: Path, portraits: Path, pairs: Path, tmp_path: Path
) -> None:
    given = ("evaluate", "--images", portraits, "--pairs", pairs, "--model", "sface", "--json")
    options = ("--cache", tmp_path / "cache", "--plot", tmp_path / "plots")
    first = answered(run_mien(home, *given, *options))
    assert first["model"] == "sface@1"
    assert (first["accuracy"], first["accuracy_se"]) == (100, 0)
    assert first["tar_at_fmr"].keys() == {"0.01", "0.001"}
    assert (first["eer"], first["fte"], first["pairs"]) == (0, 0, 6)
    assert first["all_comparisons"] is None, "no folders that say who is who"
    assert first["images_per_second"] > 0
    assert first["pictures_embedded"] == 3
    kinds = sorted(path.suffix for path in (tmp_path / "plots").iterdir())
    assert {".png", ".svg"} == set(kinds)
    for path in (tmp_path / "plots").iterdir():
        start = path.read_bytes()[:200]
        assert start.startswith(b"\x89PNG") if path.suffix == ".png" else b"<?xml" in start

    again = answered(run_mien(home, *given, "--cache", tmp_path / "cache"))
    assert again["pictures_embedded"] == 0
    for name in ("accuracy", "accuracy_se", "tar_at_fmr", "eer", "fte", "pairs", "model"):
        assert again[name] == first[name]


def test_evaluate_compares_everybody_where_folders_name_people(
    mien_home: Path, portraits: Path, tmp_path: Path
) -> None:
    for name in ("obama/1", "obama/2", "biden/1"):
        picture = tmp_path / "pictures" / f"{name}.jpg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes((portraits / f"{name[:5]}{name[6:].strip('1')}.jpg").read_bytes())
    file = tmp_path / "pairs.tsv"
    rows = [("obama/1", "obama/2", 1), ("obama/1", "biden/1", 0), ("biden/1", "obama/2", 0)]
    listed = [f"{fold}\t{a}.jpg\t{b}.jpg\t{same}" for fold in (1, 2) for a, b, same in rows]
    file.write_text("\n".join(["fold\tpath1\tpath2\tsame", *listed]) + "\n")
    given = ("evaluate", "--images", tmp_path / "pictures", "--pairs", file, "--model", "sface")
    every = answered(run_mien(mien_home, *given, "--json"))["all_comparisons"]
    # First pictures: one of each; second ones: obama/2 and biden/1.
    assert every["impostor_comparisons"] == 2
    assert every["tar_at_fmr"] == {"0.001": 100, "0.0001": 100}
    assert every["tar_interval"] == {"0.001": [100, 100], "0.0001": [100, 100]}
    assert "of 2 comparisons" in run_mien(mien_home, *given).stdout


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fold\tpath1\tpath2\tsame\n1\tobama.jpg\tobama2.jpg\tyes\n", "line 2"),
        ("fold\tpath1\tpath2\tsame\n1\tobama.jpg\tnobody.jpg\t1\n", "nobody.jpg"),
        ("fold\tpath1\tpath2\tsame\n1\tobama.jpg\tobama2.jpg\t1\n", "two folds"),
    ],
)
def test_pairs_that_cannot_be_used(
    mien_home: Path, portraits: Path, tmp_path: Path, text: str, told: str
) -> None:
    file = tmp_path / "bad.tsv"
    file.write_text(text)
    given = ("evaluate", "--images", portraits, "--pairs", file, "--model", "sface", "--json")
    assert told in sentence(run_mien(mien_home, *given))


# --- config, openapi, health, bench ---------------------------------------------------------------


def test_config_prints_what_is_set(mien_home: Path) -> None:
    result = run_mien(mien_home, "config", GATEWAY__HTTP_PORT=8123)
    assert result.returncode == 0, result.stderr
    assert "MIEN_GATEWAY__HTTP_PORT=8123" in result.stdout
    assert "MIEN_DECISION__DEFAULT_FMR=0.001" in result.stdout
    answer = answered(run_mien(mien_home, "config", "--json", IMAGE__MAX_BYTES=2048))
    assert answer["image"]["max_bytes"] == 2048


def test_openapi_is_written(mien_home: Path, tmp_path: Path) -> None:
    assert run_mien(mien_home, "openapi", tmp_path / "o.json").returncode == 0
    assert (tmp_path / "o.json").read_text() == openapi_text()


def test_health_tells_by_its_exit_code(mien_home: Path, mien: Mien) -> None:
    result = run_mien(mien_home, "health", mien.grpc_address)
    assert (result.returncode, result.stdout) == (0, f"{mien.grpc_address}: serving\n")
    nowhere = f"127.0.0.1:{free_port()}"
    result = run_mien(mien_home, "health", nowhere)
    assert (result.returncode, result.stdout) == (1, f"{nowhere}: not serving\n")


def test_bench_says_what_mapping_a_vector_costs_beside_extracting_it(
    mien_home: Path, tmp_path: Path
) -> None:
    add_map(tmp_path)
    for name in ("weights", "demo"):
        (tmp_path / name).symlink_to(mien_home / name)
    words = ("bench", "map", "--map", "tiny-map", "--json", "--seconds", 2)
    found = answered(run_mien(tmp_path, *words, timeout=240))
    assert found["unit"] == "vectors/s"
    assert found["map"] == "tiny-map@1"
    assert found["ratio"] == pytest.approx(found["value"] / found["reference"], rel=1e-2)
    cost = found["map_one_ms"] / found["extract_one_ms"]
    assert found["cost_of_extracting"] == pytest.approx(cost, rel=0.05)
    assert found["cost_of_extracting"] < found["most_cost"] == 0.1
    assert found["cpu_cost_of_extracting"] < found["most_cost"]
    nothing = run_mien(mien_home, "bench", "map", "--map", "unheard")
    assert nothing.returncode == 3
    assert "unheard" in nothing.stderr


def test_bench_measures_beside_a_reference(mien_home: Path) -> None:
    found = answered(run_mien(mien_home, "bench", "verify", "--json", "--seconds", 2))
    assert found["value"] > 0
    assert found["reference"] > 0
    assert found["ratio"] == pytest.approx(found["value"] / found["reference"], rel=1e-2)
    assert found["unit"] == "requests/s"


# --- failures -------------------------------------------------------------------------------------


def test_a_picture_that_is_none(mien_home: Path, portraits: Path, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("no picture")
    told = sentence(run_mien(mien_home, "verify", portraits / "obama.jpg", note))
    assert told.startswith("mien: reference: ")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--fmr", "0.5"), "no threshold for a false-match rate of 0.5"),
        (("--model", "nobody"), "no model 'nobody'"),
    ],
)
def test_verify_explains_what_it_cannot_do(
    mien_home: Path, portraits: Path, options: tuple[str, str], told: str
) -> None:
    pictures = (portraits / "obama.jpg", portraits / "biden.jpg")
    assert told in sentence(run_mien(mien_home, "verify", *pictures, *options))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("verify", "nowhere.jpg", "nobody.jpg"), "nowhere.jpg"),
        (("verify", __file__, __file__, "--fmr", "1e-3", "--threshold", "0.3"), "not both"),
        (("verify", __file__, __file__, "--threshold", "nan"), "finite"),
        (("recognise",), "recognise"),
        (("bench", "verify", "--seconds", "1"), "seconds"),
    ],
)
def test_usage_is_explained(mien_home: Path, arguments: tuple[str, ...], told: str) -> None:
    assert told in usage(run_mien(mien_home, *arguments))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"GATEWAY__HTTP_PORT": "many"}, "MIEN_GATEWAY__HTTP_PORT"),
        ({"COLOUR": "blue"}, "MIEN_COLOUR"),
        ({"CONFIG": "nowhere.toml"}, "nowhere.toml"),
    ],
)
def test_a_wrong_setting_is_named(mien_home: Path, settings: dict[str, str], told: str) -> None:
    assert told in sentence(run_mien(mien_home, "config", **settings))


def test_a_file_that_cannot_be_written(mien_home: Path, tmp_path: Path) -> None:
    told = sentence(run_mien(mien_home, "openapi", tmp_path / "nowhere" / "o.json"))
    assert "o.json" in told
