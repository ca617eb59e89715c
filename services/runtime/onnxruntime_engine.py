"""ONNX Runtime on the CPU: the reference that other engines are measured against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from services.runtime.engine import Arrays, EngineError, EngineInfo, EngineOptions, TensorInfo

_ERRORS_ONLY = 3
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
        if options.precision != "fp32":
            raise EngineError(f"ONNX Runtime runs fp32 on the CPU, not {options.precision}.")
        threads = options.resolved_threads()
        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = threads
        session_options.log_severity_level = _ERRORS_ONLY
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), session_options, providers=["CPUExecutionProvider"]
            )
        except _FAILURES as error:
            raise EngineError(f"ONNX Runtime cannot load {path.name}.") from error
        inputs = tuple(TensorInfo(i.name, _dims(i.shape)) for i in self._session.get_inputs())
        self._fixed_batch = max((info.shape[0] for info in inputs if info.shape), default=-1)
        self._info = EngineInfo(
            engine=f"onnxruntime {onnxruntime.__version__}",
            device="CPU",
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


def _dims(shape: list[int | str | None]) -> tuple[int, ...]:
    return tuple(dim if isinstance(dim, int) else -1 for dim in shape)
