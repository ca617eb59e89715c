"""A CUDA runtime and a TensorRT that compute on the CPU, so that what uses them can be tested."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from services.runtime.tensorrt_module import TensorRt

BROKEN_PLAN = b"a plan of another version"
_MEMORY_ERROR = 2
_HANDLERS = {
    "cudaGetDeviceCount": "_count_devices",
    "cudaGetDeviceProperties": "_describe",
    "cudaDeviceGetAttribute": "_attribute",
    "cudaMalloc": "_allocate",
    "cudaMallocHost": "_allocate",
    "cudaFree": "_free",
    "cudaFreeHost": "_free",
    "cudaMemcpyAsync": "_copy",
    "cudaStreamBeginCapture": "_begin_capture",
    "cudaStreamEndCapture": "_end_capture",
    "cudaGraphInstantiateWithFlags": "_instantiate",
    "cudaGraphLaunch": "_launch",
}


class FakeCudaLibrary:
    """Answers to the functions of libcudart. Work on a stream is done at once, or recorded.

    Attributes:
        calls: names of the functions called.
        fail: names of the functions that answer with an error.
        held: memory that has not been freed, by address.
        recording: the work of the stream that is being captured; None if none is.
    """

    def __init__(self, devices: int = 1) -> None:
        self.calls: list[str] = []
        self.fail: set[str] = set()
        self.held: dict[int, Any] = {}
        self.recording: list[Callable[[], None]] | None = None
        self._graphs: dict[int, list[Callable[[], None]]] = {}
        self._handles = itertools.count(1000)
        self._devices = devices

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cuda") or name.endswith("_v2"):
            raise AttributeError(name)

        def call(*arguments: Any) -> int | bytes:
            if name == "cudaGetErrorName":
                return b"cudaErrorMemoryAllocation"
            self.calls.append(name)
            if name in self.fail:
                return _MEMORY_ERROR
            if name in _HANDLERS:
                getattr(self, _HANDLERS[name])(*arguments)
            elif "Create" in name:
                arguments[0]._obj.value = next(self._handles)
            return 0

        return call

    def work(self, action: Callable[[], None]) -> None:
        """Does something now, or when the graph is launched."""
        if self.recording is None:
            action()
        else:
            self.recording.append(action)

    def _count_devices(self, count: Any) -> None:
        count._obj.value = self._devices

    def _describe(self, properties: Any, _: Any) -> None:
        properties._obj.value = b"Pretend GPU"

    def _attribute(self, value: Any, attribute: Any, _: Any) -> None:
        value._obj.value = {75: 8, 76: 0}[attribute.value]

    def _allocate(self, pointer: Any, size: Any) -> None:
        memory = ctypes.create_string_buffer(size.value)
        pointer._obj.value = ctypes.addressof(memory)
        self.held[pointer._obj.value] = memory

    def _free(self, pointer: Any) -> None:
        del self.held[pointer.value]

    def _copy(self, to: Any, source: Any, size: Any, *_: Any) -> None:
        def move() -> None:
            ctypes.memmove(to.value, source.value, size.value)

        self.work(move)

    def _begin_capture(self, *_: Any) -> None:
        self.recording = []

    def _end_capture(self, _: Any, graph: Any) -> None:
        graph._obj.value = next(self._handles)
        self._graphs[graph._obj.value] = self.recording or []
        self.recording = None

    def _instantiate(self, out: Any, graph: Any, _: Any) -> None:
        out._obj.value = next(self._handles)
        self._graphs[out._obj.value] = self._graphs[graph.value]

    def _launch(self, graph: Any, _: Any) -> None:
        for action in self._graphs[graph.value]:
            action()


class _Context:
    """Doubles its input."""

    def __init__(self, library: FakeCudaLibrary) -> None:
        self._library = library
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}

    def set_device_memory(self, address: int, size: int) -> None:
        assert address in self._library.held
        assert size > 0

    def set_input_shape(self, _: str, shape: tuple[int, ...]) -> bool:
        self._shape = tuple(shape)
        return True

    def get_tensor_shape(self, _: str) -> tuple[int, ...]:
        return self._shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, _: int) -> bool:
        count = int(np.prod(self._shape))

        def double() -> None:
            views = (
                np.ctypeslib.as_array((ctypes.c_float * count).from_address(self._addresses[name]))
                for name in ("x", "y")
            )
            x, y = views
            y[:] = 2 * x

        self._library.work(double)
        return True


class _RuntimeCache:
    """Holds what was put into it, and one kernel more for each context that was made with it."""

    def __init__(self) -> None:
        self.content = b""

    def deserialize(self, content: bytes) -> bool:
        self.content = content
        return True

    def serialize(self) -> bytes:
        return self.content


class _RuntimeConfig:
    def __init__(self) -> None:
        self.cache = _RuntimeCache()
        self.dynamic_shapes_kernel_specialization_strategy = ""

    def create_runtime_cache(self) -> _RuntimeCache:
        return self.cache

    def set_runtime_cache(self, cache: _RuntimeCache) -> bool:
        self.cache = cache
        return True

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        assert strategy == "user"


def fake_tensorrt(
    library: FakeCudaLibrary, shape: tuple[int, ...] = (-1, 3), compiles_late: bool = False
) -> TensorRt:
    """A TensorRT whose engines double an input of the given shape.

    Args:
        library: what computes.
        shape: of the input and the output.
        compiles_late: whether it compiles kernels at run time and can keep them, as RTX does.
    """

    class Engine:
        num_io_tensors = 2
        device_memory_size_v2 = 64

        def get_tensor_name(self, index: int) -> str:
            return "xy"[index]

        def get_tensor_dtype(self, _: str) -> str:
            return "float"

        def get_tensor_shape(self, _: str) -> tuple[int, ...]:
            return shape

        def get_tensor_mode(self, name: str) -> str:
            return {"x": "input", "y": "output"}[name]

        def create_runtime_config(self) -> _RuntimeConfig:
            return _RuntimeConfig()

        def create_execution_context(self, how: Any) -> _Context:
            if compiles_late:
                strategy = how.dynamic_shapes_kernel_specialization_strategy
                if strategy.encode() not in how.cache.content:
                    how.cache.content += strategy.encode()
            else:
                assert how == "user"
            return _Context(library)

    class Runtime:
        def __init__(self, _: Any) -> None: ...

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            return None if plan == BROKEN_PLAN else Engine()

    class Logger:
        Severity = SimpleNamespace(ERROR=SimpleNamespace(value=1))

    api = SimpleNamespace(
        __version__="10.0",
        BuilderFlag=SimpleNamespace(FP16="FP16"),
        DataType=SimpleNamespace(FLOAT="float"),
        TensorIOMode=SimpleNamespace(INPUT="input"),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user"),
        ILogger=Logger,
        Runtime=Runtime,
    )
    if compiles_late:
        api.IRuntimeCache = _RuntimeCache
        api.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(LAZY="lazy", EAGER="eager")
    return TensorRt("tensorrt", api)
