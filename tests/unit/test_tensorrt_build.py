"""Plans are compiled ahead of time for a named compute capability, which needs no GPU."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from models.zoo import DetectorCard, WeightsMissingError, Zoo
from services.runtime import tensorrt_build
from services.runtime.engine import EngineError, EngineOptions, TensorInfo
from services.runtime.plan_cache import PlanCache
from services.runtime.tensorrt_build import PlanRequest, build_plan, plan_key
from services.runtime.tensorrt_module import TensorRt, for_device, for_target
from services.runtime.tensorrt_profile import Profile, wanted_inputs
from tests.unit.fake_gpu import FakeCudaLibrary, fake_tensorrt
from tests.unit.tiny_onnx import (
    tiny_batch_mixer,
    tiny_embedder,
    tiny_map,
    tiny_quantised,
    tiny_unsupported,
)

_TARGET = "8.0"
_FREE_SIDES = (("input", (1, 3, -1, -1)),)


@pytest.fixture
def compiler() -> TensorRt:
    pytest.importorskip("tensorrt_rtx", reason="the package tensorrt-rtx is not installed")
    return for_target(_TARGET)


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "engines")


def _options(precision: str = "fp32", **others: Any) -> EngineOptions:
    return EngineOptions(precision=precision, **others)  # type: ignore[arg-type]


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("batch", ["batch", 1])
def test_a_plan_is_built_once_and_then_found(
    tmp_path: Path, cache: PlanCache, precision: str, batch: int | str
) -> None:
    model = tiny_embedder(tmp_path / "tiny.onnx", batch, old_exporter=True)

    with capture_logs() as logs:
        path = build_plan(model, _options(precision), _TARGET, cache=cache)
        written = path.stat().st_mtime_ns, path.read_bytes()
        again = build_plan(model, _options(precision), _TARGET, cache=cache)

    assert again == path
    assert (path.stat().st_mtime_ns, path.read_bytes()) == written
    assert [line["event"] for line in logs] == ["engine plan built"]
    (entry,) = cache.entries()
    assert entry.key is not None
    assert (entry.key.precision, entry.key.compute_capability) == (precision, _TARGET)
    assert cache.get(entry.key)


@pytest.mark.usefixtures("compiler")
def test_half_precision_makes_a_smaller_plan(tmp_path: Path, cache: PlanCache) -> None:
    model = tiny_embedder(tmp_path / "large.onnx", side=128)
    full, half = (
        build_plan(model, _options(precision), _TARGET, cache=cache).stat().st_size
        for precision in ("fp32", "fp16")
    )

    assert half < full - 200_000  # the last matrix has 131,072 numbers


@pytest.mark.usefixtures("compiler")
def test_whatever_a_plan_depends_on_makes_another(tmp_path: Path, cache: PlanCache) -> None:
    model = tiny_embedder(tmp_path / "tiny.onnx")
    other = tiny_embedder(tmp_path / "other.onnx", side=8)
    short = Profile(batches=(1, 2, 4))
    paths = {
        build_plan(model, _options(), _TARGET, cache=cache),
        build_plan(other, _options(), _TARGET, cache=cache),
        build_plan(model, _options("fp16"), _TARGET, cache=cache),
        build_plan(model, _options(), "12.0", cache=cache),
        build_plan(model, _options(), _TARGET, cache=cache, profile=short),
    }

    assert len(paths) == 5


@pytest.mark.usefixtures("compiler")
def test_a_damaged_plan_is_built_again_with_one_warning(tmp_path: Path, cache: PlanCache) -> None:
    model = tiny_embedder(tmp_path / "tiny.onnx")
    path = build_plan(model, _options(), _TARGET, cache=cache)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2])

    with capture_logs() as logs:
        assert build_plan(model, _options(), _TARGET, cache=cache) == path

    assert path.stat().st_size == pytest.approx(size, rel=0.01)
    assert [line["log_level"] for line in logs] == ["warning", "info"]


@pytest.mark.usefixtures("compiler")
def test_a_quantised_network_is_built_in_int8(tmp_path: Path, cache: PlanCache) -> None:
    model = tiny_quantised(tmp_path / "quantised.onnx")

    assert build_plan(model, _options("int8"), _TARGET, cache=cache).exists()


@pytest.mark.usefixtures("compiler")
def test_height_and_width_can_be_free(tmp_path: Path, cache: PlanCache) -> None:
    model = tiny_map(tmp_path / "map.onnx")

    assert build_plan(model, _options(free_dimensions=_FREE_SIDES), _TARGET, cache=cache).exists()


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (tiny_unsupported, r"tensorrt_rtx .* cannot read model\.onnx: .*Frobnicate"),
        (tiny_batch_mixer, r"cannot run in batches.*'y'"),
        (lambda path: path.write_bytes(b"no network"), r"cannot read model\.onnx"),
        (lambda path: path.unlink(missing_ok=True), r"model\.onnx cannot be read"),
    ],
)
def test_a_network_that_cannot_be_built_says_why(
    tmp_path: Path, cache: PlanCache, make: Any, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "model.onnx")

    with pytest.raises(EngineError, match=why):
        build_plan(tmp_path / "model.onnx", _options(), _TARGET, cache=cache)

    assert cache.entries() == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    ("options", "why"),
    [
        (_options("int8"), "quantised"),
        (_options("bf16"), "ask for fp16"),
        (_options("fp4"), "does not know the precision 'fp4'"),
        (_options(free_dimensions=(("other", (1, 3)),)), "no input 'other'"),
        (_options(free_dimensions=(("data", (1, 3)),)), "has 4 dimensions, not 2"),
    ],
)
def test_what_cannot_be_had_is_refused(
    tmp_path: Path, cache: PlanCache, options: EngineOptions, why: str
) -> None:
    with pytest.raises(EngineError, match=why):
        build_plan(tiny_embedder(tmp_path / "tiny.onnx"), options, _TARGET, cache=cache)


@pytest.mark.usefixtures("compiler")
def test_a_compute_capability_without_a_target_is_named(tmp_path: Path, cache: PlanCache) -> None:
    with pytest.raises(EngineError, match=r"has a target for 9\.0 \(.*8\.0"):
        build_plan(tiny_embedder(tmp_path / "tiny.onnx"), _options(), "9.0", cache=cache)


@pytest.mark.usefixtures("compiler")
def test_without_onnx_a_network_is_built_as_it_is_or_not_at_all(
    tmp_path: Path, cache: PlanCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = tiny_embedder(tmp_path / "free.onnx")
    fixed = tiny_embedder(tmp_path / "fixed.onnx", batch=1)
    monkeypatch.setitem(sys.modules, "onnx", None)

    assert build_plan(free, _options(), _TARGET, cache=cache).exists()
    for model, precision in ((fixed, "fp32"), (free, "fp16")):
        with pytest.raises(EngineError, match="needs the package onnx"):
            build_plan(model, _options(precision), _TARGET, cache=cache)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", [card.reference for card in Zoo(Path("nowhere")).cards()])
def test_the_released_models_are_built(
    tmp_path: Path, mien_home: Path, name: str, precision: str, record_property: Any
) -> None:
    zoo = Zoo(mien_home)
    card = zoo.card(name)
    try:
        weights = zoo.weights(card)
    except WeightsMissingError:
        if not card.weights.on_request:
            raise
        pytest.skip(f"{name} is pulled on request only")
    free = _FREE_SIDES if isinstance(card, DetectorCard) else ()
    options = _options(precision, free_dimensions=free)
    with capture_logs() as logs:
        path = build_plan(weights, options, _TARGET, cache=PlanCache(tmp_path))

    record_property("seconds", logs[0]["seconds"])
    record_property("bytes", path.stat().st_size)
    print(f"{name} {precision}: {logs[0]['seconds']} s, {path.stat().st_size} bytes")  # noqa: T201
    assert path.stat().st_size > 1_000_000


@pytest.mark.usefixtures("compiler")
def test_a_released_decoder_with_three_inputs_is_built(tmp_path: Path) -> None:
    zoo = Zoo(tmp_path)
    decoder = zoo.decoder(zoo.embedder("drgan@1"))
    plan = build_plan(decoder, _options(), _TARGET, cache=PlanCache(tmp_path))
    assert plan.stat().st_size > 1_000_000


def test_without_any_tensorrt_the_error_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)

    for find in (for_device, for_target):
        with pytest.raises(EngineError, match="neither tensorrt nor tensorrt_rtx is installed"):
            find(_TARGET)
    with pytest.raises(EngineError, match="neither"):
        build_plan(tmp_path / "model.onnx", _options(), _TARGET)


def test_a_module_that_tunes_on_the_device_keys_its_plans_by_it(tmp_path: Path) -> None:
    module = fake_tensorrt(FakeCudaLibrary())
    (tmp_path / "model.onnx").write_bytes(b"a network")
    request = PlanRequest(tmp_path / "model.onnx", _options(), Profile(), _TARGET)

    assert module.targets == ()
    with pytest.raises(EngineError, match="only for the device that it runs on"):
        plan_key(module, request)
    named = PlanRequest(tmp_path / "model.onnx", _options(), Profile(), _TARGET, "Pretend GPU")
    assert plan_key(module, named).device == "Pretend GPU"


class _Config:
    """Remembers what a builder's configuration was told."""

    def __init__(self) -> None:
        self.flags: set[str] = {"TF32"}
        self.int8_calibrator: Any = None

    def set_flag(self, flag: str) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: str) -> None:
        self.flags.discard(flag)


@pytest.mark.parametrize(
    ("precision", "flags"),
    [
        ("fp32", set()),
        ("fp16", {"FP16", "TF32"}),
        ("bf16", {"BF16", "TF32"}),
        ("int8", {"INT8", "FP16", "TF32"}),
    ],
)
def test_precision_is_a_flag_where_the_module_has_flags(
    tmp_path: Path, cache: PlanCache, precision: str, flags: set[str]
) -> None:
    module = _classic()
    calibration = [{"data": np.ones((2, 3), np.float32)}]
    (tmp_path / "model.onnx").write_bytes(b"a network")
    request = PlanRequest(
        tmp_path / "model.onnx", _options(precision), Profile(), _TARGET, "GPU", calibration
    )
    config = _Config()
    build = tensorrt_build._Build(module, request, cache, plan_key(module, request))
    build._set_precision(config, SimpleNamespace(num_layers=0))

    assert config.flags == flags
    assert (config.int8_calibrator is not None) is (precision == "int8")


def test_calibration_is_done_once_for_the_same_inputs(tmp_path: Path, cache: PlanCache) -> None:
    module = _classic()
    (tmp_path / "model.onnx").write_bytes(b"a network")

    def calibrator(value: float) -> Any:
        inputs = [{"data": np.full((2, 3), value, np.float32)}]
        request = PlanRequest(
            tmp_path / "model.onnx", _options("int8"), Profile(), _TARGET, "GPU", inputs
        )
        config = _Config()
        build = tensorrt_build._Build(module, request, cache, plan_key(module, request))
        build._set_precision(config, SimpleNamespace(num_layers=0))
        return config.int8_calibrator

    first = calibrator(1.0)
    assert first.get_batch_size() == 2
    assert first.read_calibration_cache() is None
    first.write_calibration_cache(b"scales")

    assert calibrator(1.0).read_calibration_cache() == b"scales"
    assert calibrator(2.0).read_calibration_cache() is None


def test_int8_without_inputs_or_scales_is_refused(tmp_path: Path, cache: PlanCache) -> None:
    module = _classic()
    (tmp_path / "model.onnx").write_bytes(b"a network")
    request = PlanRequest(tmp_path / "model.onnx", _options("int8"), Profile(), _TARGET, "GPU")
    build = tensorrt_build._Build(module, request, cache, plan_key(module, request))

    with pytest.raises(EngineError, match="int8 needs calibration inputs"):
        build._set_precision(_Config(), SimpleNamespace(num_layers=0))


def _classic() -> TensorRt:
    """A module that has flags for precision."""
    module = fake_tensorrt(FakeCudaLibrary())
    names = ("FP16", "BF16", "INT8", "TF32")
    module.api.BuilderFlag = SimpleNamespace(**{name: name for name in names})
    module.api.LayerType = SimpleNamespace(QUANTIZE="quantize")
    module.api.IInt8EntropyCalibrator2 = type("Base", (), {})
    return module


def test_a_profile_must_rise() -> None:
    with pytest.raises(ValueError, match="sides"):
        Profile(sides=(64, 32, 128))


def test_inputs_not_named_get_a_free_batch() -> None:
    found = (TensorInfo("a", (1, 3, 8, 8)), TensorInfo("b", (1, 4)))
    wanted = wanted_inputs(found, _options(free_dimensions=(("a", (1, 3, -1, -1)),)))

    assert [info.shape for info in wanted] == [(1, 3, -1, -1), (-1, 4)]
