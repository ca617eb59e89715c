"""The parity gate: agreement is let through and remembered, disagreement is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from services.runtime import parity
from services.runtime.engine import Arrays, EngineError, EngineInfo, EngineOptions, TensorInfo
from services.runtime.onnx_graph import adapted_model
from services.runtime.onnxruntime_engine import OnnxRuntimeEngine
from services.runtime.openvino_engine import OpenVinoEngine
from services.runtime.parity import LIMITS, ParityError, ParityReport, accepted, check_parity
from services.runtime.parity_inputs import generated_inputs
from tests.unit.tiny_onnx import tiny_embedder, tiny_map

_OPTIONS = EngineOptions(threads=1)
_Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Altered:
    """The reference itself, with something done to its outputs."""

    def __init__(self, path: Path, change: _Change, precision: str = "fp32") -> None:
        self._inner = OnnxRuntimeEngine(path, _OPTIONS)
        self._change = change
        self._precision = precision
        self.calls = 0
        self.closed = False

    @property
    def info(self) -> EngineInfo:
        inner = self._inner.info
        return EngineInfo("altered 1", "CPU", self._precision, 1, 1, inner.inputs, inner.outputs)

    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        self.calls += 1
        return {name: self._change(array) for name, array in self._inner.infer(inputs).items()}

    def close(self) -> None:
        self.closed = True


def _unchanged(array: NDArray[np.float32]) -> NDArray[np.float32]:
    return array


def _turned(cosine: float) -> _Change:
    """Turns each row to a given cosine with what it was."""

    def turn(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        units = rows / lengths
        other = np.roll(units, 1, axis=1)
        other -= (other * units).sum(axis=1, keepdims=True) * units
        other /= np.linalg.norm(other, axis=1, keepdims=True)
        turned = cosine * units + np.sqrt(1 - cosine**2) * other
        return np.asarray(turned * lengths, np.float32)

    return turn


def _judge(path: Path, change: _Change, precision: str) -> ParityReport:
    reference = OnnxRuntimeEngine(path, _OPTIONS)
    inputs = generated_inputs(reference.info.inputs)
    return check_parity(Altered(path, change, precision), reference, inputs, precision)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_embedder(tmp_path / "embedder.onnx")


def test_the_projects_limits_have_not_been_loosened() -> None:
    assert {name: limits.cosine for name, limits in LIMITS.items()} == {
        "fp32": 0.9999,
        "fp16": 0.9999,
        "bf16": 0.9999,
        "int8": 0.999,
    }


@pytest.mark.parametrize(
    ("precision", "cosine", "passes"),
    [
        ("fp16", 0.99995, True),
        ("fp16", 0.99985, False),
        ("bf16", 0.99985, False),
        ("fp32", 0.99985, False),
        ("int8", 0.9995, True),
        ("int8", 0.9985, False),
    ],
)
def test_vectors_must_keep_their_direction(
    model: Path, precision: str, cosine: float, passes: bool
) -> None:
    report = _judge(model, _turned(cosine), precision)

    assert report.passed is passes
    assert report.cosine_min == pytest.approx(cosine, abs=1e-5)
    assert report.limit == LIMITS[precision].cosine


def test_one_bad_vector_in_a_batch_is_enough(model: Path) -> None:
    def spoil_last(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        if len(rows) > 1:
            rows[-1] = -rows[-1]
        return rows

    report = _judge(model, spoil_last, "int8")

    assert report.cosine_min == pytest.approx(-1)
    assert not report.passed


def _numbers_times(factor: float) -> _Change:
    """Changes outputs of one number for each item, and leaves vectors as they are."""

    def change(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return rows * np.float32(factor if rows.shape[1] == 1 else 1.0)

    return change


@pytest.mark.parametrize(
    ("precision", "factor", "passes"),
    [
        ("fp32", 1.0, True),
        ("fp32", 0.995, True),
        ("fp32", 1.02, False),
        ("fp16", 1.03, False),
        ("bf16", 0.96, True),
        ("bf16", 0.94, False),
        ("int8", 1.08, True),
        ("int8", 1.12, False),
        ("int8", 1e-3, False),
    ],
)
def test_a_number_for_each_item_must_keep_its_value(
    tmp_path: Path, precision: str, factor: float, passes: bool
) -> None:
    model = tiny_embedder(tmp_path / "weighing.onnx", weight="last")
    report = _judge(model, _numbers_times(factor), precision)
    assert report.passed is passes
    assert report.cosine_min == pytest.approx(1), "the cosine does not see it"
    assert report.number_max == pytest.approx(abs(1 - factor), abs=1e-6)
    assert report.number_limit == LIMITS[precision].number
    assert ("single numbers" in report.why) is not passes


def test_numbers_given_to_other_items_are_refused(tmp_path: Path) -> None:
    model = tiny_embedder(tmp_path / "weighing.onnx", weight="last")

    def swap(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return rows[::-1] if rows.shape[1] == 1 else rows

    assert not _judge(model, swap, "int8").passed


def test_rows_in_another_order_are_refused(model: Path) -> None:
    assert not _judge(model, lambda rows: rows[::-1], "int8").passed


def test_one_stray_cell_of_a_map_is_refused(tmp_path: Path) -> None:
    model = tiny_map(tmp_path / "map.onnx")

    def stray(array: NDArray[np.float32]) -> NDArray[np.float32]:
        array[0, 0, 0, 0] += 0.3 * np.abs(array).max()
        return array

    assert _judge(model, _unchanged, "fp32").passed
    report = _judge(model, stray, "fp16")
    assert report.cosine_min > report.limit
    assert report.error_max > report.error_limit
    assert not report.passed
    assert "relative error" in report.why


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda rows: rows * np.float32("nan"), "not finite"),
        (lambda rows: rows[:, :-1], "shape"),
        (lambda rows: rows[None], "shape"),
    ],
)
def test_outputs_that_cannot_be_compared_are_refused(
    model: Path, change: _Change, why: str
) -> None:
    report = _judge(model, change, "int8")

    assert not report.passed
    assert why in report.why


def test_nothing_at_all_is_like_nothing_but_not_like_something(model: Path) -> None:
    reference = Altered(model, np.zeros_like)
    inputs = generated_inputs(reference.info.inputs)

    assert check_parity(Altered(model, np.zeros_like), reference, inputs, "fp32").passed
    assert not check_parity(Altered(model, _unchanged), reference, inputs, "fp32").passed
    assert not _judge(model, np.zeros_like, "int8").passed


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_openvino_is_accepted_on_a_tiny_network(
    tmp_path: Path, model: Path, precision: Literal["fp32", "bf16"]
) -> None:
    options = EngineOptions(precision=precision, threads=1)
    try:
        engine = OpenVinoEngine(model, options)
    except EngineError as error:
        pytest.skip(str(error))

    assert accepted(engine, model, options, cache=tmp_path) is engine


def test_the_half_precision_graph_agrees(tmp_path: Path) -> None:
    model = tiny_embedder(tmp_path / "full.onnx", old_exporter=True)
    half = tmp_path / "half.onnx"
    half.write_bytes(adapted_model(model, {}, half=True))
    reference = OnnxRuntimeEngine(model, _OPTIONS)
    inputs = generated_inputs(reference.info.inputs)

    report = check_parity(OnnxRuntimeEngine(half, _OPTIONS), reference, inputs, "fp16")

    assert report.passed
    assert report.cosine_min < 1  # or nothing was halved
    assert half.stat().st_size < 0.7 * model.stat().st_size


def test_a_wrong_engine_is_closed_and_refused_each_time(tmp_path: Path, model: Path) -> None:
    for remembered in (False, True):
        engine = Altered(model, _turned(0.99))
        with pytest.raises(ParityError, match=r"altered 1 on CPU.*embedder\.onnx.*cosine 0\.99"):
            accepted(engine, model, _OPTIONS, cache=tmp_path / "verdicts")
        assert engine.closed
        assert (engine.calls == 0) == remembered


def test_a_pass_is_remembered(tmp_path: Path, model: Path) -> None:
    for calls in (2, 0):
        engine = Altered(model, _unchanged)
        accepted(engine, model, _OPTIONS, cache=tmp_path)
        assert engine.calls == calls
        assert not engine.closed


def test_a_pass_holds_only_for_what_was_compared(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs(path: Path, precision: str = "fp32", white: float = 255.0) -> bool:
        engine = Altered(path, _unchanged, precision)
        accepted(engine, path, _OPTIONS, value_range=(0.0, white), cache=tmp_path / "verdicts")
        return engine.calls > 0

    assert runs(model)
    assert not runs(model)
    assert runs(model, precision="fp16")
    assert runs(model, white=1.0)
    assert runs(tiny_embedder(tmp_path / "other.onnx", side=8))
    monkeypatch.setattr(parity, "INPUTS_VERSION", 0)
    assert runs(model)


def test_a_quantised_file_is_held_against_the_one_it_was_made_from(
    tmp_path: Path, model: Path
) -> None:
    quantised = tiny_embedder(tmp_path / "quantised.onnx", coarse=True)
    cache = tmp_path / "verdicts"

    accepted(OnnxRuntimeEngine(quantised, _OPTIONS), quantised, _OPTIONS, cache=cache)
    with pytest.raises(ParityError):
        accepted(
            OnnxRuntimeEngine(quantised, _OPTIONS),
            quantised,
            _OPTIONS,
            reference_path=model,
            cache=cache,
        )


def test_a_damaged_verdict_is_no_pass(tmp_path: Path, model: Path) -> None:
    accepted(Altered(model, _unchanged), model, _OPTIONS, cache=tmp_path / "verdicts")
    (verdict,) = (tmp_path / "verdicts").iterdir()
    for content in (b"", b"{}", verdict.read_bytes()[:-5]):
        verdict.write_bytes(content)
        engine = Altered(model, _unchanged)
        accepted(engine, model, _OPTIONS, cache=tmp_path / "verdicts")
        assert engine.calls > 0


def test_the_inputs_are_the_same_every_time_and_span_the_range() -> None:
    info = [TensorInfo("data", (-1, 3, -1, 64)), TensorInfo("code", (-1, 16))]
    first, again = (generated_inputs(info, (-1.0, 1.0)) for _ in range(2))

    assert [batch["data"].shape for batch in first] == [(1, 3, 160, 64), (7, 3, 160, 64)]
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one["data"], two["data"])
        np.testing.assert_array_equal(one["code"], two["code"])
    pictures = first[1]["data"]
    assert pictures.dtype == np.float32
    assert -1 <= pictures.min() < -0.95
    assert 0.95 < pictures.max() <= 1
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    np.testing.assert_allclose(np.linalg.norm(first[1]["code"], axis=1), 1, rtol=1e-5)


def test_a_fixed_batch_sees_every_kind_of_picture() -> None:
    batches = generated_inputs([TensorInfo("input", (1, 3, 32, 32))])

    assert len(batches) == 5
    assert len({batch["input"].tobytes() for batch in batches}) == 5
