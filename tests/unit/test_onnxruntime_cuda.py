"""ONNX Runtime on CUDA is taken only when there is a device, a provider, and the provider works."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnxruntime
import pytest

from services.runtime import onnxruntime_engine
from services.runtime.cuda import CudaRuntime
from services.runtime.engine import EngineError, EngineOptions
from services.runtime.onnxruntime_engine import OnnxRuntimeCudaEngine, OnnxRuntimeEngine
from tests.unit.fake_gpu import FakeCudaLibrary
from tests.unit.tiny_onnx import tiny_embedder

_CUDA = "CUDAExecutionProvider"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_embedder(tmp_path / "tiny.onnx")


@pytest.fixture
def _device(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = CudaRuntime(FakeCudaLibrary())
    monkeypatch.setattr(onnxruntime_engine, "cuda_runtime", lambda: cuda)


def _no_device() -> None:
    raise EngineError("no CUDA device: the driver sees none.")


def test_without_a_device_nothing_is_tried(
    monkeypatch: pytest.MonkeyPatch, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(onnxruntime_engine, "cuda_runtime", _no_device)

    with pytest.raises(EngineError, match="no CUDA device"):
        OnnxRuntimeCudaEngine(model, EngineOptions())
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("_device")
def test_an_onnx_runtime_without_the_provider_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])

    with pytest.raises(EngineError, match="install onnxruntime-gpu"):
        OnnxRuntimeCudaEngine(model, EngineOptions())


@pytest.mark.usefixtures("_device")
def test_a_provider_that_does_not_start_is_not_replaced_by_the_cpu(
    monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    if _CUDA in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has the CUDA provider")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [_CUDA])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(EngineError, match=f"passed {_CUDA} over"):
            OnnxRuntimeCudaEngine(model, EngineOptions())


@pytest.mark.parametrize("engine", [OnnxRuntimeEngine, OnnxRuntimeCudaEngine])
@pytest.mark.usefixtures("_device")
def test_only_fp32_is_run(
    monkeypatch: pytest.MonkeyPatch, model: Path, engine: type[OnnxRuntimeEngine]
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [_CUDA])

    with pytest.raises(EngineError, match="not bf16"):
        engine(model, EngineOptions(precision="bf16"))
