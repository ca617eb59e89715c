"""The few calls of the CUDA runtime that an engine needs, through ctypes: no package to install."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.runtime.engine import EngineError

_TO_DEVICE, _TO_HOST = 1, 2
_NON_BLOCKING_STREAM = 1
_BLOCKING_EVENT = 1  # the waiting thread sleeps; by default it would spin on a core
_CAPTURE_THREAD_LOCAL = 1  # other threads may go on allocating while this one captures
_MAJOR_ATTRIBUTE, _MINOR_ATTRIBUTE = 75, 76
# cudaDeviceProp begins with a name of 256 bytes in every version and has been about 1 KiB long; it
# is given ample room, and nothing after the name is read.
_NAME_BYTES, _PROPERTIES_BYTES = 256, 16 * 1024


class CudaError(EngineError):
    """A call of the CUDA runtime failed; the message names the call and CUDA's own error name."""


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        index: its number.
        name: for example "NVIDIA A100-SXM4-80GB".
        compute_capability: for example "8.0".
    """

    index: int
    name: str
    compute_capability: str

    def __str__(self) -> str:
        return f"{self.name} ({self.compute_capability})"


class CudaRuntime:
    """Checked calls of the CUDA runtime library.

    Args:
        library: the loaded library, or in tests whatever answers to its functions.
    """

    def __init__(self, library: Any) -> None:
        self._library = library

    def call(self, function: str, *arguments: object) -> None:
        """Calls a function.

        Raises:
            CudaError: it answered with an error, or the library does not have it.
        """
        try:
            code = getattr(self._library, function)(*arguments)
        except AttributeError as error:
            raise CudaError(f"{function}: this CUDA runtime does not have it.") from error
        if code != 0:
            raise CudaError(f"{function} failed: {self._error_name(code)}.")

    def device_count(self) -> int:
        """Devices that can be used.

        Raises:
            CudaError: there is no driver, or none that fits this runtime.
        """
        count = ctypes.c_int(0)
        self.call("cudaGetDeviceCount", ctypes.byref(count))
        return count.value

    def device(self, index: int = 0) -> Device:
        """A device's name and compute capability."""
        properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        # CUDA 12 renamed the function for its new layout; 13 took the old name back.
        twelve = "cudaGetDeviceProperties_v2"
        function = twelve if hasattr(self._library, twelve) else "cudaGetDeviceProperties"
        self.call(function, ctypes.byref(properties), ctypes.c_int(index))
        name = properties.raw[:_NAME_BYTES].split(b"\0", 1)[0].decode(errors="replace")
        major, minor = (
            self._attribute(attribute, index) for attribute in (_MAJOR_ATTRIBUTE, _MINOR_ATTRIBUTE)
        )
        return Device(index, name, f"{major}.{minor}")

    def use(self, device: Device) -> None:
        """Makes a device the calling thread's own; each thread has to say so itself."""
        self.call("cudaSetDevice", ctypes.c_int(device.index))

    def memory(self) -> tuple[int, int]:
        """Bytes free and bytes in all on the calling thread's device."""
        free, total = ctypes.c_size_t(0), ctypes.c_size_t(0)
        self.call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def _attribute(self, attribute: int, index: int) -> int:
        value = ctypes.c_int(0)
        self.call(
            "cudaDeviceGetAttribute",
            ctypes.byref(value),
            ctypes.c_int(attribute),
            ctypes.c_int(index),
        )
        return value.value

    def _error_name(self, code: int) -> str:
        try:
            name = self._library.cudaGetErrorName(ctypes.c_int(code))
        except AttributeError:
            return f"error {code}"
        return name.decode() if isinstance(name, bytes) else f"error {code}"


class _Memory:
    """Memory of one kind; freed by `close`."""

    def __init__(self, cuda: CudaRuntime, size: int, allocate: str, free: str) -> None:
        pointer = ctypes.c_void_p()
        cuda.call(allocate, ctypes.byref(pointer), ctypes.c_size_t(size))
        self._cuda, self._free = cuda, free
        self.address: int = pointer.value or 0
        self.size = size

    def close(self) -> None:
        """Gives the memory back."""
        address, self.address = self.address, 0
        if address:
            self._cuda.call(self._free, ctypes.c_void_p(address))


class DeviceMemory(_Memory):
    """Memory on the device."""

    def __init__(self, cuda: CudaRuntime, size: int) -> None:
        super().__init__(cuda, size, "cudaMalloc", "cudaFree")


class PinnedMemory(_Memory):
    """Memory of the host that stays in place, so that copies need no detour and can overlap."""

    def __init__(self, cuda: CudaRuntime, size: int) -> None:
        super().__init__(cuda, size, "cudaMallocHost", "cudaFreeHost")

    def array(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A view of its beginning as float32; not to be used after `close`."""
        count = int(np.prod(shape))
        if count * 4 > self.size:
            raise ValueError(f"{shape} does not fit into {self.size} bytes")
        cells = (ctypes.c_float * count).from_address(self.address)
        return np.ctypeslib.as_array(cells).reshape(shape)


class Graph:
    """Work that was captured from a stream and can be launched at once, again and again."""

    def __init__(self, cuda: CudaRuntime, captured: ctypes.c_void_p) -> None:
        self._cuda = cuda
        self._executable = ctypes.c_void_p()
        try:
            cuda.call(
                "cudaGraphInstantiateWithFlags",
                ctypes.byref(self._executable),
                captured,
                ctypes.c_ulonglong(0),
            )
        finally:
            cuda.call("cudaGraphDestroy", captured)

    def launch(self, stream: Stream) -> None:
        """Puts the work on a stream."""
        self._cuda.call("cudaGraphLaunch", self._executable, ctypes.c_void_p(stream.handle))

    def close(self) -> None:
        """Frees the graph."""
        if self._executable.value:
            self._cuda.call("cudaGraphExecDestroy", self._executable)
            self._executable = ctypes.c_void_p()


class Stream:
    """A queue of work on the device."""

    def __init__(self, cuda: CudaRuntime) -> None:
        self._cuda = cuda
        self._stream, self._done = ctypes.c_void_p(), ctypes.c_void_p()
        cuda.call(
            "cudaStreamCreateWithFlags",
            ctypes.byref(self._stream),
            ctypes.c_uint(_NON_BLOCKING_STREAM),
        )
        cuda.call(
            "cudaEventCreateWithFlags", ctypes.byref(self._done), ctypes.c_uint(_BLOCKING_EVENT)
        )

    @property
    def handle(self) -> int:
        """The stream, as other libraries take it."""
        return self._stream.value or 0

    def copy_in(self, target: DeviceMemory, source: PinnedMemory, size: int) -> None:
        """Puts a copy from the host to the device on the stream."""
        self._copy(target.address, source.address, size, _TO_DEVICE)

    def copy_out(self, target: PinnedMemory, source: DeviceMemory, size: int) -> None:
        """Puts a copy from the device to the host on the stream."""
        self._copy(target.address, source.address, size, _TO_HOST)

    def wait(self) -> None:
        """Sleeps until all work on the stream is done; raises the error of whatever failed."""
        self._cuda.call("cudaEventRecord", self._done, self._stream)
        self._cuda.call("cudaEventSynchronize", self._done)

    @contextmanager
    def capture(self) -> Iterator[list[Graph]]:
        """Records the work put on the stream in the block instead of doing it.

        Yields:
            A list that holds the graph after the block.
        """
        graphs: list[Graph] = []
        captured = ctypes.c_void_p()
        self._cuda.call("cudaStreamBeginCapture", self._stream, ctypes.c_int(_CAPTURE_THREAD_LOCAL))
        try:
            yield graphs
        except BaseException:
            self._abandon_capture()
            raise
        self._cuda.call("cudaStreamEndCapture", self._stream, ctypes.byref(captured))
        graphs.append(Graph(self._cuda, captured))

    def close(self) -> None:
        """Frees the stream."""
        if self._stream.value:
            self._cuda.call("cudaEventDestroy", self._done)
            self._cuda.call("cudaStreamDestroy", self._stream)
            self._stream, self._done = ctypes.c_void_p(), ctypes.c_void_p()

    def _abandon_capture(self) -> None:
        captured = ctypes.c_void_p()
        try:
            self._cuda.call("cudaStreamEndCapture", self._stream, ctypes.byref(captured))
        except CudaError:
            return  # the capture was broken already, which is why it is abandoned
        if captured.value:
            self._cuda.call("cudaGraphDestroy", captured)

    def _copy(self, target: int, source: int, size: int, direction: int) -> None:
        self._cuda.call(
            "cudaMemcpyAsync",
            ctypes.c_void_p(target),
            ctypes.c_void_p(source),
            ctypes.c_size_t(size),
            ctypes.c_int(direction),
            self._stream,
        )


class Clock:
    """Measures the device's own time between two points of a stream."""

    def __init__(self, cuda: CudaRuntime) -> None:
        self._cuda = cuda
        self._events = ctypes.c_void_p(), ctypes.c_void_p()
        for event in self._events:
            cuda.call("cudaEventCreateWithFlags", ctypes.byref(event), ctypes.c_uint(0))

    def start(self, stream: Stream) -> None:
        """Marks the first point."""
        self._cuda.call("cudaEventRecord", self._events[0], ctypes.c_void_p(stream.handle))

    def stop(self, stream: Stream) -> float:
        """Marks the second point, waits for it, and returns the seconds between."""
        self._cuda.call("cudaEventRecord", self._events[1], ctypes.c_void_p(stream.handle))
        self._cuda.call("cudaEventSynchronize", self._events[1])
        milliseconds = ctypes.c_float(0)
        self._cuda.call("cudaEventElapsedTime", ctypes.byref(milliseconds), *self._events)
        return milliseconds.value / 1000

    def close(self) -> None:
        """Frees the events."""
        for event in self._events:
            self._cuda.call("cudaEventDestroy", event)
