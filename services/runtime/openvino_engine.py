"""OpenVINO on the CPU: the fastest engine here for small convolutional networks."""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from services.runtime.engine import Arrays, EngineError, EngineInfo, EngineOptions, TensorInfo

_PRIMING = threading.Lock()
_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoEngine:
    """A network compiled by OpenVINO, with one infer request for each stream.

    A caller's thread blocks in `infer` until a request is free; OpenVINO releases Python's lock
    while it computes, so as many calls run side by side as there are streams.

    Args:
        path: ONNX file.
        options: precision, threads and shapes.

    Raises:
        EngineError: the file is no network that OpenVINO can load, or the CPU lacks the precision.
    """

    def __init__(self, path: Path, options: EngineOptions) -> None:
        _prime_bindings()
        core = openvino.Core()
        self._check_precision(core, options)
        threads, streams = options.resolved_threads(), options.resolved_streams()
        try:
            model = core.read_model(path)
            model.reshape(_shapes(model, options))
            compiled = core.compile_model(
                model,
                "CPU",
                {
                    "PERFORMANCE_HINT": "THROUGHPUT",
                    "NUM_STREAMS": streams,
                    "INFERENCE_NUM_THREADS": threads,
                    "INFERENCE_PRECISION_HINT": _PRECISIONS[options.precision],
                },
            )
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot load {path.name}.") from error
        self._compiled = compiled
        # Compiling gives ports further names; the file's own are those of the uncompiled model.
        self._outputs = tuple(_name(port) for port in model.outputs)
        self._inputs = tuple(_name(port) for port in model.inputs)
        self._idle: queue.SimpleQueue[openvino.InferRequest] = queue.SimpleQueue()
        for _ in range(streams):
            self._idle.put(compiled.create_infer_request())
        self._info = EngineInfo(
            engine=f"openvino {openvino.__version__.split('-')[0]}",
            device="CPU",
            precision=options.precision,
            streams=streams,
            threads=threads,
            inputs=tuple(TensorInfo(_name(port), _dims(port)) for port in model.inputs),
            outputs=tuple(TensorInfo(_name(port), _dims(port)) for port in model.outputs),
        )

    @property
    def info(self) -> EngineInfo:
        """What runs the network, and where."""
        return self._info

    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        """Runs the network once; see `Engine.infer`."""
        request = self._idle.get()
        try:
            results = request.infer(
                [np.ascontiguousarray(inputs[name], dtype=np.float32) for name in self._inputs],
                share_inputs=True,
            )
            return {
                name: np.array(results[index], dtype=np.float32)
                for index, name in enumerate(self._outputs)
            }
        except KeyError as error:
            raise EngineError(f"The input {error.args[0]!r} is missing.") from error
        except RuntimeError as error:
            raise EngineError("OpenVINO could not run the network on this input.") from error
        finally:
            self._idle.put(request)

    def close(self) -> None:
        """Frees the network's memory."""
        while not self._idle.empty():
            self._idle.get_nowait()
        del self._compiled

    @staticmethod
    def _check_precision(core: openvino.Core, options: EngineOptions) -> None:
        capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if options.precision not in _PRECISIONS or options.precision.upper() not in capabilities:
            raise EngineError(f"This CPU does not compute in {options.precision}.")


@functools.cache
def _prime_bindings_once() -> None:
    from openvino import opset13  # noqa: PLC0415 - needed for a moment only

    given = opset13.parameter([1, 1], np.float32, name="given")
    model = openvino.Model([opset13.relu(given)], [given], "prime")
    request = openvino.Core().compile_model(model, "CPU").create_infer_request()
    np.array(request.infer([np.zeros((1, 1), np.float32)], share_inputs=True)[0])


def _prime_bindings() -> None:
    """Uses every part of OpenVINO's Python bindings once, on one thread.

    The bindings make their link to NumPy at the first use, in a function-local static that gives
    up Python's lock half way. Two threads that both come first wait for each other for ever (seen
    with OpenVINO 2026.4: one held the lock and waited for the static, one the other way round).
    """
    with _PRIMING:
        _prime_bindings_once()


def _name(port: openvino.ConstOutput) -> str:
    return str(port.get_any_name())


def _dims(port: openvino.ConstOutput) -> tuple[int, ...]:
    return tuple(
        -1 if dim.is_dynamic else int(dim.get_length()) for dim in port.get_partial_shape()
    )


def _shapes(model: openvino.Model, options: EngineOptions) -> dict[str, openvino.PartialShape]:
    asked = dict(options.free_dimensions)
    return {
        _name(port): openvino.PartialShape(list(asked.get(_name(port), (-1, *_dims(port)[1:]))))
        for port in model.inputs
    }
