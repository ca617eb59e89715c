"""ONNX Runtime: on the CPU the reference that other engines are measured against; on CUDA too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from services.runtime.cuda_library import cuda_runtime
from services.runtime.engine import Arrays, EngineError, EngineInfo, EngineOptions, TensorInfo

_ERRORS_ONLY = 3
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_state = onnxruntime.capi.onnxruntime_pybind11_state
# What ONNX Runtime raises; its exceptions share no base class of their own.
_FAILURES: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    _state.Fail,
    _state.InvalidArgument,
    _state.InvalidGraph,
    _state.InvalidProtobuf,
    _state.NoSuchFile,
    _state.NotImplemented,
    _state.RuntimeException,
)


class OnnxRuntimeEngine:
    """A network run by ONNX Runtime in fp32.

    A network that was exported with a fixed batch is run once for each item. Fixed sizes other
    than the batch cannot be freed by this engine; `EngineOptions.free_dimensions` is ignored, so
    that `info.inputs` tells which sizes are possible.

    Args:
        path: ONNX file.
        options: threads; the precision must be fp32.

    Raises:
        EngineError: the file is no network that ONNX Runtime can load.
    """

    def __init__(self, path: Path, options: EngineOptions) -> None:
        self._open(path, options, _CPU, {}, "CPU")

    def _open(
        self,
        path: Path,
        options: EngineOptions,
        provider: str,
        provider_options: Mapping[str, str],
        device: str,
    ) -> None:
        if options.precision != "fp32":
            raise EngineError(f"ONNX Runtime runs fp32 here, not {options.precision}.")
        threads = options.resolved_threads()
        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = threads
        session_options.log_severity_level = _ERRORS_ONLY
        try:
            self._session = onnxruntime.InferenceSession(
                str(path),
                session_options,
                providers=[(provider, dict(provider_options))],
                enable_fallback=0,  # a provider that fails must not be replaced in silence
            )
        except _FAILURES as error:
            raise EngineError(f"ONNX Runtime cannot load {path.name}.") from error
        if provider not in self._session.get_providers():
            raise EngineError(f"ONNX Runtime passed {provider} over and would use the CPU.")
        inputs = tuple(TensorInfo(i.name, _dims(i.shape)) for i in self._session.get_inputs())
        self._fixed_batch = max((info.shape[0] for info in inputs if info.shape), default=-1)
        self._info = EngineInfo(
            engine=f"onnxruntime {onnxruntime.__version__}",
            device=device,
            precision="fp32",
            streams=1,
            threads=threads,
            inputs=inputs,
            outputs=tuple(TensorInfo(o.name, _dims(o.shape)) for o in self._session.get_outputs()),
        )

    @property
    def info(self) -> EngineInfo:
        """What runs the network, and where."""
        return self._info

    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        """Runs the network once; see `Engine.infer`."""
        missing = [info.name for info in self._info.inputs if info.name not in inputs]
        if missing:
            raise EngineError(f"The input {missing[0]!r} is missing.")
        count = inputs[self._info.inputs[0].name].shape[0]
        step = self._fixed_batch if self._fixed_batch > 0 else count
        try:
            parts = [
                self._session.run(
                    None, {name: array[start : start + step] for name, array in inputs.items()}
                )
                for start in range(0, count, step)
            ]
        except _FAILURES as error:
            raise EngineError("ONNX Runtime could not run the network on this input.") from error
        return {
            info.name: np.concatenate([part[index] for part in parts])
            for index, info in enumerate(self._info.outputs)
        }

    def close(self) -> None:
        """Frees the network's memory."""
        del self._session


class OnnxRuntimeCudaEngine(OnnxRuntimeEngine):
    """A network run by ONNX Runtime on the first CUDA device, in true fp32 (no TF32).

    Args:
        path: ONNX file.
        options: threads for what stays on the CPU; the precision must be fp32.

    Raises:
        EngineError: "no CUDA device", this ONNX Runtime has no CUDA provider, or it cannot load the
            network.
    """

    def __init__(self, path: Path, options: EngineOptions) -> None:
        # The device first: without one, asking ONNX Runtime would write to standard error.
        device = cuda_runtime().device()
        if _CUDA not in onnxruntime.get_available_providers():
            raise EngineError("this ONNX Runtime has no CUDA provider; install onnxruntime-gpu.")
        # The default search for convolutions tries all of them anew for each new shape.
        chosen = {
            "device_id": str(device.index),
            "use_tf32": "0",
            "cudnn_conv_algo_search": "HEURISTIC",
        }
        self._open(path, options, _CUDA, chosen, str(device))


def _dims(shape: list[int | str | None]) -> tuple[int, ...]:
    return tuple(dim if isinstance(dim, int) else -1 for dim in shape)


def why_no_cuda() -> str | None:
    """Why ONNX Runtime cannot use a GPU here, or None when it can."""
    if _CUDA not in onnxruntime.get_available_providers():
        return "this ONNX Runtime has no CUDA provider"
    try:
        cuda_runtime().device()
    except EngineError as error:
        return str(error)
    return None
