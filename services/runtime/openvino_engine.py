"""OpenVINO on the CPU: the fastest engine here for small convolutional networks."""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from services.runtime.engine import (
    Arrays,
    EngineError,
    EngineInfo,
    EngineOptions,
    PrecisionError,
    TensorInfo,
)
from services.runtime.openvino_mixed import mixed_precision
from services.runtime.parity_inputs import generated_inputs
from services.telemetry import get_logger

_PRIMING = threading.Lock()
_PRECISIONS = {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}
_log = get_logger(__name__)


class OpenVinoEngine:
    """A network compiled by OpenVINO, with one infer request for each stream.

    A caller's thread blocks in `infer` until a request is free; OpenVINO releases Python's lock
    while it computes, so as many calls run side by side as there are streams.

    Args:
        path: ONNX file.
        options: precision, threads and shapes. "int8" is mixed precision (`openvino_mixed`).
        value_range: what black and white are for the network; int8 is calibrated within it.

    Raises:
        EngineError: the file is no network that OpenVINO can load, or the CPU lacks the precision.
    """

    def __init__(
        self,
        path: Path,
        options: EngineOptions,
        value_range: tuple[float, float] = (0.0, 255.0),
    ) -> None:
        _prime_bindings()
        self._core = openvino.Core()
        self._check_precision(self._core, options)
        self._options = options
        try:
            model = self._core.read_model(path)
            model.reshape(_shapes(model, options))
            # Compiling gives ports further names; the file's own are those of the read model.
            self._inputs = tuple(_name(port) for port in model.inputs)
            self._outputs = tuple(_name(port) for port in model.outputs)
            tensors = (
                tuple(TensorInfo(_name(port), _dims(port)) for port in model.inputs),
                tuple(TensorInfo(_name(port), _dims(port)) for port in model.outputs),
            )
            if options.precision == "int8":
                sample = generated_inputs(tensors[0], value_range)
                shapes = _shapes(model, options)
                model = mixed_precision(path, shapes, sample, options.exact_layers)
            self._any_shape = self._compile(model)
            self._model: openvino.Model | None = model  # for other shapes; None once closed
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot load {path.name}.") from error
        self._fixed: dict[tuple[int, ...], _Requests] = {}
        self._info = EngineInfo(
            engine=f"openvino {openvino.__version__.split('-')[0]}",
            device="CPU",
            precision=options.precision,
            streams=options.resolved_streams(),
            threads=options.resolved_threads(),
            inputs=tensors[0],
            outputs=tensors[1],
        )

    @property
    def info(self) -> EngineInfo:
        """What runs the network, and where."""
        return self._info

    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        """Runs the network once; see `Engine.infer`."""
        try:
            given = [np.ascontiguousarray(inputs[name], dtype=np.float32) for name in self._inputs]
        except KeyError as error:
            raise EngineError(f"The input {error.args[0]!r} is missing.") from error
        requests = self._fixed.get(given[0].shape, self._any_shape)
        try:
            return dict(zip(self._outputs, requests.run(given), strict=True))
        except RuntimeError as error:
            raise EngineError("OpenVINO could not run the network on this input.") from error

    def specialise(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Compiles the network once more for each of some shapes of its only input.

        A network of small layers runs up to a third faster when its shapes are known. Other shapes
        still run. A form that does not agree with the free one is not used.

        Raises:
            EngineError: the network has several inputs, or does not take one of the shapes.
        """
        if len(self._inputs) != 1:
            raise EngineError("Only a network with one input is compiled for fixed shapes.")
        rng = np.random.default_rng(0)
        if self._model is None:
            raise EngineError("The engine is closed.")
        for shape in shapes:
            given = [rng.uniform(0, 255, shape).astype(np.float32)]
            try:
                model = self._model.clone()
                model.reshape(openvino.PartialShape(list(shape)))
                requests = self._compile(model)
                pairs = list(zip(requests.run(given), self._any_shape.run(given), strict=True))
            except RuntimeError as error:
                raise EngineError(f"OpenVINO cannot compile the shape {shape}.") from error
            if all(np.allclose(ours, free, rtol=1e-3, atol=1e-3) for ours, free in pairs):
                self._fixed[shape] = requests
            else:
                _log.warning("fixed shape disagrees and is not used", shape=shape)

    def close(self) -> None:
        """Frees the network's memory."""
        for requests in (self._any_shape, *self._fixed.values()):
            requests.close()
        self._fixed.clear()
        self._model = None

    def _compile(self, model: openvino.Model) -> _Requests:
        streams = self._options.resolved_streams()
        compiled = self._core.compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": "THROUGHPUT",
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": self._options.resolved_threads(),
                "INFERENCE_PRECISION_HINT": _PRECISIONS[self._options.precision],
            },
        )
        return _Requests(compiled, streams, len(self._outputs))

    @staticmethod
    def _check_precision(core: openvino.Core, options: EngineOptions) -> None:
        capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        needed = {"int8": ("INT8", "BF16")}.get(options.precision, (options.precision.upper(),))
        if options.precision not in _PRECISIONS or not set(needed) <= set(capabilities):
            raise PrecisionError(f"This CPU does not compute in {options.precision}.")


class _Requests:
    """A compiled network and its idle infer requests.

    Python's own `InferRequest.infer` looks at every input and builds a dictionary; setting tensors
    and waiting costs 0.3 ms less, which for a small network is a quarter of the whole.
    """

    def __init__(self, compiled: openvino.CompiledModel, count: int, outputs: int) -> None:
        self._outputs = range(outputs)
        self._idle: queue.SimpleQueue[openvino.InferRequest] = queue.SimpleQueue()
        for _ in range(count):
            self._idle.put(compiled.create_infer_request())

    def run(self, inputs: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """All outputs in order, in memory of their own.

        Raises:
            RuntimeError: OpenVINO's.
        """
        request = self._idle.get()
        try:
            for index, array in enumerate(inputs):
                request.set_input_tensor(index, openvino.Tensor(array, shared_memory=True))
            request.start_async()
            request.wait()
            return [
                np.array(request.get_output_tensor(index).data, dtype=np.float32)
                for index in self._outputs
            ]
        finally:
            self._idle.put(request)

    def close(self) -> None:
        """Frees what is idle."""
        while not self._idle.empty():
            self._idle.get_nowait()


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
