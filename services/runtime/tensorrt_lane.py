"""One stream of a TensorRT engine: its buffers, its execution contexts, its CUDA graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.runtime.cuda import CudaError, CudaRuntime, DeviceMemory, Graph, PinnedMemory, Stream
from services.runtime.engine import Arrays, EngineError
from services.runtime.tensorrt_contexts import Contexts
from services.runtime.tensorrt_profile import Shape, ShapeRange
from services.telemetry import get_logger

_log = get_logger(__name__)
_FLOAT_BYTES = 4
_SCRATCH = ""  # no tensor is called so


@dataclass
class _Prepared:
    """A context that stays at one set of shapes, and the graph captured from it, if it could be."""

    context: Any
    outputs: dict[str, Shape]
    graph: Graph | None = None


class Lane:
    """Runs one batch at a time on a stream of its own. Belongs to one thread at a time.

    A graph is valid only while the context that it was captured from stays as it was, so each
    captured batch size has a context of its own; all others share one.

    Args:
        cuda: the CUDA runtime.
        contexts: makes execution contexts.
        inputs: the range of shapes of each input.
        outputs: names of the outputs.
    """

    def __init__(
        self,
        cuda: CudaRuntime,
        contexts: Contexts,
        inputs: Mapping[str, ShapeRange],
        outputs: tuple[str, ...],
    ) -> None:
        self._contexts = contexts
        self._inputs, self._outputs = inputs, outputs
        self._prepared: dict[tuple[Shape, ...], _Prepared] = {}
        self._host: dict[str, PinnedMemory] = {}
        self._device: dict[str, DeviceMemory] = {}
        self._context: Any = None
        self._stream = Stream(cuda)
        try:
            self._scratch = self._device[_SCRATCH] = DeviceMemory(cuda, contexts.memory_size)
            self._context = contexts.make(self._scratch)
            greatest = {name: limits.greatest for name, limits in inputs.items()}
            for name, shape in (greatest | self._set_shapes(self._context, greatest)).items():
                self._host[name] = PinnedMemory(cuda, _bytes(shape))
                self._device[name] = DeviceMemory(cuda, _bytes(shape))
            self._bind(self._context)
        except EngineError:
            self.close()
            raise

    def run(self, arrays: Mapping[str, NDArray[np.float32]]) -> Arrays:
        """Runs one batch.

        Args:
            arrays: every input, of a shape within its range.

        Returns:
            Every output, in memory of its own.

        Raises:
            EngineError: TensorRT or CUDA failed.
        """
        shapes = {name: array.shape for name, array in arrays.items()}
        for name, array in arrays.items():
            self._host[name].array(array.shape)[...] = array
        prepared = self._prepared.get(tuple(shapes.values()))
        if prepared is not None and prepared.graph is not None:
            outputs = prepared.outputs
            prepared.graph.launch(self._stream)
        else:
            context = prepared.context if prepared else self._context
            outputs = prepared.outputs if prepared else self._set_shapes(context, shapes)
            self._enqueue(context, shapes, outputs)
        self._stream.wait()
        return {name: self._host[name].array(outputs[name]).copy() for name in outputs}

    def prepare(self, shapes: Mapping[str, Shape]) -> bool:
        """Captures a CUDA graph for one set of shapes.

        Returns:
            Whether there is a graph now; if not, such batches run as all others do.
        """
        context = self._contexts.make(self._scratch, fixed=True)
        outputs = self._set_shapes(context, shapes)
        self._bind(context)
        prepared = _Prepared(context, outputs)
        # TensorRT puts some work off to the first run, which must not become part of the graph.
        self._enqueue(context, shapes, outputs)
        self._stream.wait()
        try:
            if self._contexts.can_capture(context, self._stream):
                with self._stream.capture() as graphs:
                    self._enqueue(context, shapes, outputs)
                prepared.graph = graphs[0]
        except EngineError as error:
            _log.warning("no CUDA graph for a batch", shapes=str(dict(shapes)), why=str(error))
            return False
        self._prepared[tuple(shapes.values())] = prepared
        return prepared.graph is not None

    def close(self) -> None:
        """Frees streams, graphs and memory."""
        for prepared in self._prepared.values():
            if prepared.graph is not None:
                prepared.graph.close()
        self._prepared.clear()
        self._context = None
        for memory in (*self._host.values(), *self._device.values()):
            memory.close()
        self._stream.close()

    def _bind(self, context: Any) -> None:
        for name in self._host:
            if not context.set_tensor_address(name, self._device[name].address):
                raise EngineError(f"TensorRT refused the memory of {name!r}.")

    def _set_shapes(self, context: Any, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        """Sets the inputs' shapes and returns the outputs'."""
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise EngineError(f"TensorRT refused the shape {shape} of {name!r}.")
        outputs = {name: tuple(context.get_tensor_shape(name)) for name in self._outputs}
        for name, shape in outputs.items():
            if any(size < 0 for size in shape):
                raise EngineError(f"The size of the output {name!r} depends on the input's values.")
        return outputs

    def _enqueue(
        self, context: Any, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]
    ) -> None:
        """Puts copy in, network and copy out on the stream."""
        for name, shape in inputs.items():
            self._stream.copy_in(self._device[name], self._host[name], _bytes(shape))
        if not context.execute_async_v3(self._stream.handle):
            raise CudaError(f"TensorRT could not run the network: {self._contexts.complaints()}")
        for name, shape in outputs.items():
            self._stream.copy_out(self._host[name], self._device[name], _bytes(shape))


def _bytes(shape: Shape) -> int:
    return int(np.prod(shape)) * _FLOAT_BYTES
