"""How the TensorRT engine shares its streams, cuts batches and replays graphs, without a GPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from services.runtime import tensorrt_engine
from services.runtime.cuda import CudaRuntime
from services.runtime.cuda_library import cuda_runtime
from services.runtime.engine import EngineError, EngineOptions
from services.runtime.plan_cache import PlanCache
from services.runtime.tensorrt_build import PlanRequest, plan_key
from services.runtime.tensorrt_engine import TensorRtEngine, why_not
from services.runtime.tensorrt_profile import Profile
from tests.unit.fake_gpu import BROKEN_PLAN, FakeCudaLibrary, fake_tensorrt

_PROFILE = Profile(batches=(1, 2, 4), sides=(2, 3, 5), graph_batches=(2, 64))


class Bench:
    """An engine on pretended hardware."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.library = FakeCudaLibrary()
        self.module = fake_tensorrt(self.library)
        self.builds: list[PlanRequest] = []
        self.plans = [b"a plan"]
        self.cache = PlanCache(folder / "cache")
        self.model = folder / "model.onnx"
        self.model.write_bytes(b"a network")
        self._patch = monkeypatch

    def engine(
        self, shape: tuple[int, ...] = (-1, 3), streams: int = 2, compiles_late: bool = False
    ) -> TensorRtEngine:
        self.module = fake_tensorrt(self.library, shape, compiles_late)

        def cached(module: object, request: PlanRequest, cache: PlanCache) -> object:
            del module, cache
            self.builds.append(request)
            return plan_key(self.module, request), self.plans[
                (len(self.builds) - 1) % len(self.plans)
            ]

        for name, value in {
            "cuda_runtime": lambda: CudaRuntime(self.library),
            "for_device": lambda _: self.module,
            "cached_plan": cached,
        }.items():
            self._patch.setattr(tensorrt_engine, name, value)
        options = EngineOptions(streams=streams)
        return TensorRtEngine(self.model, options, profile=_PROFILE, cache=self.cache)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    return Bench(monkeypatch, tmp_path)


def _rows(count: int) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    return {"x": np.random.default_rng(count).standard_normal((count, 3)).astype(np.float32)}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
def test_every_batch_gets_its_own_answer(bench: Bench, count: int) -> None:
    engine = bench.engine()
    inputs = _rows(count)

    np.testing.assert_array_equal(engine.infer(inputs)["y"], 2 * inputs["x"])
    assert engine.info.device == "Pretend GPU (8.0)"
    assert engine.info.streams == 2


def test_a_captured_batch_is_replayed_and_others_are_not(bench: Bench) -> None:
    engine = bench.engine(streams=1)
    bench.library.calls.clear()

    engine.infer(_rows(2))
    assert bench.library.calls.count("cudaGraphLaunch") == 1
    assert "cudaMemcpyAsync" not in bench.library.calls

    engine.infer(_rows(3))
    assert bench.library.calls.count("cudaGraphLaunch") == 1
    assert bench.library.calls.count("cudaMemcpyAsync") == 2


def test_without_graphs_the_engine_says_so_once_and_runs_plainly(bench: Bench) -> None:
    bench.library.fail.add("cudaStreamBeginCapture")
    with capture_logs() as logs:
        engine = bench.engine(streams=3)

    assert [line["log_level"] for line in logs] == ["warning"]
    np.testing.assert_array_equal(engine.infer(_rows(2))["y"], 2 * _rows(2)["x"])


def test_many_threads_share_the_streams(bench: Bench) -> None:
    engine = bench.engine(streams=3)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda count: engine.infer(_rows(count))["y"], range(1, 60)))

    for count, answer in zip(range(1, 60), answers, strict=True):
        np.testing.assert_array_equal(answer, 2 * _rows(count)["x"])


def test_an_answer_is_not_overwritten_by_the_next(bench: Bench) -> None:
    engine = bench.engine(streams=1)
    first = engine.infer(_rows(2))["y"]
    kept = first.copy()
    engine.infer({"x": np.zeros((2, 3), np.float32)})

    np.testing.assert_array_equal(first, kept)


def test_wrong_inputs_are_refused(bench: Bench) -> None:
    engine = bench.engine()

    with pytest.raises(EngineError, match="'x' is missing"):
        engine.infer({"z": np.zeros((1, 3), np.float32)})
    with pytest.raises(EngineError, match=r"this plan takes 1x3\.\.4x3"):
        engine.infer({"x": np.zeros((1, 4), np.float32)})
    with pytest.raises(EngineError, match="this plan takes"):
        engine.infer({"x": np.zeros((0, 3), np.float32)})


def test_free_sides_are_held_to_the_profile(bench: Bench) -> None:
    engine = bench.engine(shape=(1, -1))

    assert engine.infer({"x": np.ones((2, 5), np.float32)})["y"].shape == (2, 5)
    with pytest.raises(EngineError, match=r"this plan takes 1x2\.\.1x5"):
        engine.infer({"x": np.ones((1, 6), np.float32)})
    assert "cudaGraphLaunch" not in bench.library.calls


def test_a_fixed_batch_is_run_in_whole_batches(bench: Bench) -> None:
    engine = bench.engine(shape=(2, 3))

    np.testing.assert_array_equal(engine.infer(_rows(4))["y"], 2 * _rows(4)["x"])
    with pytest.raises(EngineError, match="not whole batches"):
        engine.infer(_rows(3))


def test_a_plan_that_cannot_be_loaded_is_built_again_with_one_warning(bench: Bench) -> None:
    bench.plans = [BROKEN_PLAN, b"a plan"]
    with capture_logs() as logs:
        bench.engine()

    assert len(bench.builds) == 2
    assert [line["log_level"] for line in logs] == ["warning"]


def test_a_plan_that_never_loads_is_an_error(bench: Bench) -> None:
    bench.plans = [BROKEN_PLAN, BROKEN_PLAN]

    with pytest.raises(EngineError, match=r"cannot load its own plan of model\.onnx"):
        bench.engine()


def test_kernels_compiled_at_run_time_are_kept_for_the_next_start(bench: Bench) -> None:
    bench.engine(compiles_late=True)
    (entry,) = bench.cache.entries()
    assert entry.key is not None
    assert entry.key.kind == "runtime"
    assert bench.cache.get(entry.key) == b"lazyeager"
    written = entry.path.stat().st_mtime_ns

    bench.engine(compiles_late=True).close()
    assert entry.path.stat().st_mtime_ns == written
    assert len(bench.cache.entries()) == 1


def test_a_failure_on_the_device_frees_the_stream_for_the_next(bench: Bench) -> None:
    engine = bench.engine(streams=1)
    bench.library.fail.add("cudaMemcpyAsync")
    with pytest.raises(EngineError, match="cudaMemcpyAsync failed: cudaErrorMemoryAllocation"):
        engine.infer(_rows(3))
    bench.library.fail.clear()

    np.testing.assert_array_equal(engine.infer(_rows(3))["y"], 2 * _rows(3)["x"])


def test_closing_frees_everything_and_later_calls_are_refused(bench: Bench) -> None:
    engine = bench.engine()
    engine.close()
    engine.close()

    assert not bench.library.held
    for _ in range(2):
        with pytest.raises(EngineError, match="closed"):
            engine.infer(_rows(1))


def test_too_little_memory_frees_what_was_taken(bench: Bench) -> None:
    bench.library.fail.add("cudaMallocHost")
    with pytest.raises(EngineError, match="cudaMallocHost failed"):
        bench.engine()

    assert not bench.library.held


def test_without_a_device_the_engine_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        cuda_runtime()
    except EngineError:
        pass
    else:
        pytest.skip("there is a CUDA device here")
    with capture_logs() as logs, pytest.raises(EngineError, match=r"^no CUDA device"):
        TensorRtEngine(tmp_path / "model.onnx", EngineOptions())

    assert not logs
    assert capfd.readouterr() == ("", "")
    assert (why_not() or "").startswith("no CUDA device")
