"""`mien models add`, `mien mapping list` and `apply`, as an operator with vectors meets them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from services.cli import mapping, models
from services.errors import Errors, MienError
from tests.integration.mapping.tiny_mapping import (
    SOURCE,
    TARGET,
    add_map,
    card_fields,
    end,
    threshold,
    units,
)
from tests.tiny_networks import expected_mapped, write_map

MANY = 2500
NATIVE = {
    "name": "old", "version": "1", "weights_sha256": "a" * 64, "preprocessing_sha256": "a" * 64,
    "origin": "native", "map": None,
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("MIEN_HOME", str(folder))
    monkeypatch.setenv("MIEN_ENGINE__PREFERENCE", "onnxruntime")
    monkeypatch.setenv("COLUMNS", "200")
    return folder


class Files:
    """Vectors on disk, and where they are to go."""

    def __init__(self, folder: Path, vectors: NDArray[Any], whose: dict[str, Any] | None) -> None:
        self.given, self.made = folder / "vectors.npy", folder / "mapped.npy"
        np.save(self.given, vectors)
        if whose is not None:
            (folder / "vectors.json").write_text(json.dumps(whose))

    def apply(self, *more: str, made: Path | None = None) -> Result:
        asked = ["apply", "--map", "tiny-map", "--in", str(self.given)]
        return CliRunner().invoke(mapping.app, [*asked, "--out", str(made or self.made), *more])

    def refused(self, *more: str) -> MienError:
        done = self.apply(*more)
        assert isinstance(done.exception, MienError), done.output
        left = sorted(one.name for one in self.made.parent.glob("mapped*"))
        assert left == [], "nothing is written when a row is refused"
        return done.exception


def test_a_fitted_map_is_added_and_listed(home: Path, tmp_path: Path) -> None:
    network = write_map(tmp_path / "map.onnx", SOURCE, TARGET)
    card = tmp_path / "card.json"
    thresholds = [threshold("map|T", 1e-3, 0.5)]
    confidence = {"bins": [], "gap": 0.02, "rank_correlation": None, "data": "made up"}
    fields = card_fields(network, thresholds=thresholds, confidence=confidence)
    card.write_text(json.dumps(fields))
    done = CliRunner().invoke(models.app, ["add", str(network), "--card", str(card)])
    assert done.exit_code == 0, done.output
    assert "tiny-map@1 is registered: old@1 to new@1" in done.output
    known = CliRunner().invoke(models.app, ["list", "--json"])
    rows = {one["model"]: one for one in json.loads(known.stdout)["models"]}
    assert rows["tiny-map@1"]["kind"] == "map"
    assert rows["tiny-map@1"]["weights_here"]
    told = CliRunner().invoke(mapping.app, ["list", "--json"])
    maps = {row["map"]: row for row in json.loads(told.stdout)["maps"]}
    one = maps["tiny-map@1"]
    assert (one["source"], one["target"]) == ("old@1", "new@1")
    assert one["confidence_gap"] == 0.02
    assert one["thresholds"] == [{"comparison": "map|T", "fmr": 1e-3, "similarity": 0.5}]
    assert "old@1" in CliRunner().invoke(mapping.app, ["list"]).output
    assert home.is_dir()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_a_file_of_vectors_is_mapped_with_identity_and_confidences(
    home: Path, tmp_path: Path, dtype: Any
) -> None:
    card = add_map(home)
    given = units(MANY).astype(dtype)
    files = Files(tmp_path, given, NATIVE)
    done = files.apply("--json")
    assert done.exit_code == 0, (done.output, done.exception)
    answer = json.loads(done.stdout[done.stdout.index("{\n") :])  # tests log to the same place
    assert (answer["map"], answer["vectors"]) == ("tiny-map@1", MANY)
    exact = given.astype(np.float32)
    # What half precision has cost in length is made good before the map.
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    made, trust = expected_mapped(exact, TARGET)
    found = np.load(files.made)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, made, atol=1e-5)
    np.testing.assert_allclose(np.load(tmp_path / "mapped.confidence.npy"), trust, atol=1e-5)
    told = json.loads((tmp_path / "mapped.json").read_text())
    assert (told["name"], told["origin"], told["map"]) == ("new", "mapped", "tiny-map@1")
    assert told["map_sha256"] == card.weights.sha256
    assert (told["vectors"], told["dimension"]) == (MANY, TARGET)
    assert told["mean_confidence"] == pytest.approx(float(trust.mean()), abs=1e-3)


def test_what_was_mapped_is_not_mapped_again(home: Path, tmp_path: Path) -> None:
    add_map(home)
    files = Files(tmp_path, units(3), NATIVE)
    assert files.apply().exit_code == 0
    add_map(home, "next-map", source=end("new", SOURCE, "b"))
    asked = ["apply", "--map", "next-map", "--in", str(files.made)]
    again = CliRunner().invoke(mapping.app, [*asked, "--out", str(tmp_path / "twice.npy")])
    assert isinstance(again.exception, MienError)
    assert again.exception.error is Errors.IDENTITY_MISMATCH
    assert "source.origin" in str(again.exception.field)


@pytest.mark.parametrize("row", [0, 1023, 1024, 2499])
def test_a_vector_that_is_refused_is_named_by_its_row(home: Path, tmp_path: Path, row: int) -> None:
    add_map(home)
    given = units(MANY)
    given[row, 3] = np.nan
    refused = Files(tmp_path, given, NATIVE).refused()
    assert refused.field == f"vectors[{row}]"
    assert "finite" in refused.detail
    assert refused.error is Errors.INVALID_REQUEST


def test_vectors_of_another_model_are_refused(home: Path, tmp_path: Path) -> None:
    add_map(home)
    other = {**NATIVE, "weights_sha256": "c" * 64}
    refused = Files(tmp_path, units(3), other).refused()
    assert refused.error is Errors.IDENTITY_MISMATCH
    assert "source.weights_sha256" in str(refused.field)


def test_vectors_of_another_dimension_are_refused(home: Path, tmp_path: Path) -> None:
    add_map(home)
    refused = Files(tmp_path, units(3, SOURCE + 1), NATIVE).refused()
    assert refused.field == "vectors[0]"
    assert "8 x 4" in refused.detail


def test_it_must_be_said_whose_vectors_these_are(home: Path, tmp_path: Path) -> None:
    add_map(home)
    refused = Files(tmp_path, units(3), None).refused()
    assert refused.field == "source"
    assert "--source" in refused.detail
    no_version = {key: value for key, value in NATIVE.items() if key != "version"}
    assert "version" in Files(tmp_path, units(3), no_version).refused().detail
    both = Files(tmp_path, units(3), NATIVE).refused("--source", "sface")
    assert both.error is Errors.IDENTITY_MISMATCH


def test_the_model_can_be_named_instead(home: Path, tmp_path: Path) -> None:
    add_map(home)
    refused = Files(tmp_path, units(3), None).refused("--source", "sface")
    assert refused.error is Errors.IDENTITY_MISMATCH
    assert "old@1" in refused.detail


@pytest.mark.parametrize(
    "vectors",
    [units(3)[0], np.ones((3, SOURCE), np.int64), np.zeros((0, SOURCE), np.float32)],
    ids=["one row", "whole numbers", "empty"],
)
def test_a_file_that_holds_no_vectors_is_refused(
    home: Path, tmp_path: Path, vectors: NDArray[Any]
) -> None:
    add_map(home)
    assert "must hold vectors" in Files(tmp_path, vectors, NATIVE).refused().detail


def test_a_file_that_is_no_array_is_refused(home: Path, tmp_path: Path) -> None:
    add_map(home)
    files = Files(tmp_path, units(1), NATIVE)
    files.given.write_bytes(b"no array")
    assert "no .npy file" in files.refused().detail


def test_the_original_vectors_are_not_written_over(home: Path, tmp_path: Path) -> None:
    add_map(home)
    files = Files(tmp_path, units(3), NATIVE)
    for made in (files.given, tmp_path / "vectors.bin"):
        done = files.apply(made=made)
        assert isinstance(done.exception, MienError)
        assert done.exception.field == "out"
    assert json.loads((tmp_path / "vectors.json").read_text()) == NATIVE
