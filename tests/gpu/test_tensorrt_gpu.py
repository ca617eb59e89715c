"""TensorRT on a real GPU. Run `pytest -m gpu -s tests/gpu` there to see the measured speeds."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from structlog.testing import capture_logs

from models.zoo import Zoo
from services.runtime import tensorrt_engine
from services.runtime.cuda import Clock, DeviceMemory, PinnedMemory, Stream
from services.runtime.cuda_library import cuda_runtime
from services.runtime.engine import EngineError, EngineOptions
from services.runtime.onnxruntime_engine import OnnxRuntimeCudaEngine, OnnxRuntimeEngine
from services.runtime.parity import accepted, check_parity
from services.runtime.parity_inputs import generated_inputs
from services.runtime.plan_cache import PlanCache
from services.runtime.tensorrt_engine import TensorRtEngine
from services.runtime.tensorrt_profile import Profile
from tests.unit.tiny_onnx import tiny_embedder, tiny_map

pytestmark = [pytest.mark.gpu, pytest.mark.slow]

_SECONDS = 3.0
_BATCH = 32
_NO_GRAPHS = Profile(graph_batches=())
_MATRIX, _CHAIN = 4096, 64


@pytest.fixture(scope="module", autouse=True)
def _tensorrt() -> None:
    if reason := tensorrt_engine.why_not():
        pytest.skip(reason)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> PlanCache:
    return PlanCache(tmp_path_factory.mktemp("plans"))


@pytest.fixture(params=["tiny", "sface"])
def embedder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "tiny":
        return tiny_embedder(tmp_path / "tiny.onnx")
    weights: Path = request.getfixturevalue("sface")
    return weights


@pytest.fixture
def sface(mien_home: Path) -> Path:
    zoo = Zoo(mien_home)
    return zoo.weights(zoo.card("sface"))


@pytest.fixture
def yunet(mien_home: Path) -> Path:
    zoo = Zoo(mien_home)
    return zoo.weights(zoo.card("yunet"))


def _options(precision: str = "fp32", **others: Any) -> EngineOptions:
    return EngineOptions(precision=precision, **others)  # type: ignore[arg-type]


def _crops(engine: TensorRtEngine, count: int, seed: int = 1) -> dict[str, Any]:
    (info,) = engine.info.inputs
    rng = np.random.default_rng(seed)
    return {info.name: rng.uniform(0, 255, (count, *info.shape[1:])).astype(np.float32)}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_embeddings_agree_with_the_reference(
    embedder: Path, cache: PlanCache, precision: str, tmp_path: Path
) -> None:
    options = _options(precision)
    with closing(TensorRtEngine(embedder, options, cache=cache)) as engine:
        assert accepted(engine, embedder, options, cache=tmp_path / "verdicts") is engine
        report = check_parity(
            engine,
            OnnxRuntimeEngine(embedder, EngineOptions()),
            generated_inputs(engine.info.inputs),
            precision,
        )
    print(f"\n{embedder.name} {precision} on {engine.info.device}: {report}")  # noqa: T201


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_detector_with_free_sides_agrees(yunet: Path, cache: PlanCache, precision: str) -> None:
    options = _options(precision, free_dimensions=(("input", (1, 3, -1, -1)),))
    with closing(TensorRtEngine(yunet, options, cache=cache)) as engine:
        accepted(engine, yunet, options, cache=cache.folder / "verdicts")
        for side in (256, 640, 1024):
            assert all(np.isfinite(array).all() for array in engine.infer(_square(side)).values())


def _square(side: int) -> dict[str, Any]:
    rng = np.random.default_rng(side)
    return {"input": rng.uniform(0, 255, (1, 3, side, side)).astype(np.float32)}


def test_a_map_agrees(tmp_path: Path, cache: PlanCache) -> None:
    model = tiny_map(tmp_path / "map.onnx")
    options = _options(free_dimensions=(("input", (1, 3, -1, -1)),))
    with closing(TensorRtEngine(model, options, cache=cache)) as engine:
        accepted(engine, model, options, cache=tmp_path / "verdicts")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_graph_gives_what_plain_execution_gives(
    embedder: Path, cache: PlanCache, precision: str
) -> None:
    with capture_logs() as logs:
        graphed = TensorRtEngine(embedder, _options(precision), cache=cache)
    plain = TensorRtEngine(embedder, _options(precision), cache=cache, profile=_NO_GRAPHS)
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == []
    lane = graphed._lanes[0]
    assert sum(prepared.graph is not None for prepared in lane._prepared.values()) > 0
    with closing(graphed), closing(plain):
        (output,) = graphed.info.outputs
        for count in (1, 2, 3, 4, 16, 32, 33, 64, 100):
            for seed in (1, 2):
                crops = _crops(graphed, count, seed)
                np.testing.assert_allclose(
                    graphed.infer(crops)[output.name],
                    plain.infer(crops)[output.name],
                    rtol=0.02,
                    atol=0.02,
                )


def test_many_threads_get_their_own_answers(embedder: Path, cache: PlanCache) -> None:
    with closing(TensorRtEngine(embedder, _options(), cache=cache)) as engine:
        (output,) = engine.info.outputs
        alone = {count: engine.infer(_crops(engine, count))[output.name] for count in range(1, 20)}
        with ThreadPoolExecutor(8) as pool:
            for count, found in zip(
                [*alone] * 10,
                pool.map(lambda n: engine.infer(_crops(engine, n))[output.name], [*alone] * 10),
                strict=True,
            ):
                np.testing.assert_allclose(found, alone[count], rtol=0.01, atol=0.01)


def test_the_plan_and_the_kernels_are_found_the_next_time(
    embedder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = PlanCache(tmp_path / "plans")
    seconds = []
    for _ in range(2):
        start = time.monotonic()
        TensorRtEngine(embedder, _options(), cache=cache).close()
        seconds.append(time.monotonic() - start)
        monkeypatch.setattr("services.runtime.tensorrt_build._Build.run", _must_not_run)
    print(f"\n{embedder.name}: first start {seconds[0]:.2f} s, next {seconds[1]:.2f} s")  # noqa: T201


def _must_not_run(_: object) -> bytes:
    raise AssertionError("the plan was built again")


def test_closing_gives_the_memory_back(embedder: Path, cache: PlanCache) -> None:
    cuda = cuda_runtime()
    TensorRtEngine(embedder, _options(), cache=cache).close()  # what the libraries keep, they keep
    free = cuda.memory()[0]
    for _ in range(3):
        TensorRtEngine(embedder, _options(), cache=cache).close()

    assert cuda.memory()[0] > free - 64 * 1024 * 1024


def test_onnx_runtime_on_cuda_agrees(embedder: Path, tmp_path: Path) -> None:
    try:
        engine = OnnxRuntimeCudaEngine(embedder, EngineOptions())
    except EngineError as error:
        pytest.skip(str(error))
    with closing(engine):
        accepted(engine, embedder, EngineOptions(), cache=tmp_path)


@pytest.fixture(scope="module")
def ceilings(cache: PlanCache, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The card's own limits, measured: copies in both directions, and matrix products."""
    parts = [f"copy in {_copy_speed(inwards=True):.1f} GB/s"]
    parts.append(f"copy out {_copy_speed(inwards=False):.1f} GB/s")
    model = _matrix_chain(tmp_path_factory.mktemp("matrix") / "chain.onnx")
    parts += [
        f"matrix {precision} {_matrix_speed(model, precision, cache):.1f} TFLOP/s"
        for precision in ("fp32", "fp16")
    ]
    return ", ".join(parts)


def test_throughput(ceilings: str, sface: Path, cache: PlanCache) -> None:
    print(f"\nceilings: {ceilings}")  # noqa: T201
    for precision in ("fp32", "fp16"):
        for name, profile in (("plain", _NO_GRAPHS), ("CUDA graph", Profile())):
            engine = TensorRtEngine(sface, _options(precision), cache=cache, profile=profile)
            with closing(engine):
                speed = _faces_per_second(engine)
                moved = np.prod(engine.info.inputs[0].shape[1:]) * 4 * speed / 1e9
            print(  # noqa: T201
                f"{sface.name} {precision} {name}, batch {_BATCH}, {engine.info.streams} streams: "
                f"{speed:.0f} faces/s ({moved:.1f} GB/s copied in) on {engine.info.device}"
            )
            assert speed > 0


def _faces_per_second(engine: TensorRtEngine) -> float:
    crops = _crops(engine, _BATCH)
    engine.infer(crops)
    end = time.monotonic() + _SECONDS

    def work(_: int) -> int:
        done = 0
        while time.monotonic() < end:
            engine.infer(crops)
            done += _BATCH
        return done

    with ThreadPoolExecutor(engine.info.streams) as pool:
        return sum(pool.map(work, range(engine.info.streams))) / _SECONDS


def _copy_speed(inwards: bool, size: int = 256 * 1024 * 1024, times: int = 8) -> float:
    cuda = cuda_runtime()
    host, device = PinnedMemory(cuda, size), DeviceMemory(cuda, size)
    stream, clock = Stream(cuda), Clock(cuda)
    try:
        for count in (1, times):  # the first warms up
            clock.start(stream)
            for _ in range(count):
                if inwards:
                    stream.copy_in(device, host, size)
                else:
                    stream.copy_out(host, device, size)
            seconds = clock.stop(stream)
        return times * size / seconds / 1e9
    finally:
        for thing in (host, device, stream, clock):
            thing.close()


def _matrix_speed(model: Path, precision: str, cache: PlanCache) -> float:
    """TFLOP/s of a chain of products; long enough that the copies at its ends hardly count."""
    profile = Profile(batches=(_MATRIX, _MATRIX, _MATRIX), graph_batches=(_MATRIX,))
    options = _options(precision, streams=1)
    with closing(TensorRtEngine(model, options, cache=cache, profile=profile)) as engine:
        rows = {"x": np.random.default_rng(0).standard_normal((_MATRIX, _MATRIX), np.float32)}
        engine.infer(rows)
        start = time.monotonic()
        for _ in range(3):
            engine.infer(rows)
        seconds = (time.monotonic() - start) / 3
    return 2 * _MATRIX**3 * _CHAIN / seconds / 1e12


def _matrix_chain(path: Path) -> Path:
    # Scaled so that the values keep their size from one product to the next.
    matrix = np.random.default_rng(1).standard_normal((_MATRIX, _MATRIX), np.float32) / _MATRIX**0.5
    nodes = [
        helper.make_node("MatMul", [f"t{i}" if i else "x", "w"], [f"t{i + 1}"])
        for i in range(_CHAIN)
    ]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", _MATRIX])],
        [helper.make_tensor_value_info(f"t{_CHAIN}", TensorProto.FLOAT, ["rows", _MATRIX])],
        [numpy_helper.from_array(matrix, "w")],
    )
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path
