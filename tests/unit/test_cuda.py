"""The CUDA wrapper, against a library that computes on the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from services.runtime.cuda import CudaError, CudaRuntime, DeviceMemory, PinnedMemory, Stream
from services.runtime.cuda_library import library_candidates, open_runtime
from services.runtime.engine import EngineError
from tests.unit.fake_gpu import FakeCudaLibrary


def test_a_failed_call_names_itself_and_the_cuda_error() -> None:
    library = FakeCudaLibrary()
    library.fail.add("cudaMalloc")

    with pytest.raises(CudaError, match=r"cudaMalloc failed: cudaErrorMemoryAllocation"):
        DeviceMemory(CudaRuntime(library), 16)


def test_a_device_has_a_name_and_a_compute_capability() -> None:
    device = CudaRuntime(FakeCudaLibrary()).device()

    assert str(device) == "Pretend GPU (8.0)"


def test_what_is_copied_in_and_out_again_is_the_same() -> None:
    library = FakeCudaLibrary()
    cuda = CudaRuntime(library)
    there, back = PinnedMemory(cuda, 24), PinnedMemory(cuda, 24)
    device, stream = DeviceMemory(cuda, 24), Stream(cuda)
    there.array((2, 3))[...] = np.arange(6).reshape(2, 3)

    stream.copy_in(device, there, 24)
    stream.copy_out(back, device, 24)
    stream.wait()

    np.testing.assert_array_equal(back.array((2, 3)), np.arange(6).reshape(2, 3))
    for thing in (there, back, device, stream):
        thing.close()
        thing.close()
    assert not library.held


def test_a_view_larger_than_the_memory_is_refused() -> None:
    memory = PinnedMemory(CudaRuntime(FakeCudaLibrary()), 8)

    with pytest.raises(ValueError, match="does not fit"):
        memory.array((3,))


def test_captured_work_is_done_when_the_graph_is_launched() -> None:
    cuda = CudaRuntime(FakeCudaLibrary())
    host, device, stream = PinnedMemory(cuda, 4), DeviceMemory(cuda, 4), Stream(cuda)
    result = PinnedMemory(cuda, 4)
    result.array((1,))[0] = -1

    with stream.capture() as graphs:
        stream.copy_in(device, host, 4)
        stream.copy_out(result, device, 4)
    host.array((1,))[0] = 5
    assert result.array((1,))[0] == -1

    graphs[0].launch(stream)
    assert result.array((1,))[0] == 5


def test_a_capture_that_breaks_is_ended_so_that_the_stream_can_be_used_again() -> None:
    library = FakeCudaLibrary()
    stream = Stream(CudaRuntime(library))

    with pytest.raises(EngineError, match="no"), stream.capture():
        raise EngineError("no")

    assert library.recording is None
    assert library.calls[-2:] == ["cudaStreamEndCapture", "cudaGraphDestroy"]


def test_without_a_library_there_is_no_device() -> None:
    def load(_: str) -> None:
        raise OSError

    with pytest.raises(EngineError, match=r"no CUDA device.*libcudart.*not installed"):
        open_runtime(load)


def test_a_library_that_sees_no_device_gives_its_reason() -> None:
    broken = FakeCudaLibrary()
    broken.fail.add("cudaGetDeviceCount")

    with pytest.raises(EngineError, match=r"no CUDA device.*cudaErrorMemoryAllocation"):
        open_runtime(lambda _: broken)
    with pytest.raises(EngineError, match="no CUDA device: the driver sees none"):
        open_runtime(lambda _: FakeCudaLibrary(devices=0))


def test_an_older_runtime_is_taken_when_the_driver_is_too_old_for_the_newest() -> None:
    newest, older = FakeCudaLibrary(), FakeCudaLibrary()
    newest.fail.add("cudaGetDeviceCount")

    runtime = open_runtime(lambda name: newest if name == "libcudart.so.13" else older)

    assert str(runtime.device()) == "Pretend GPU (8.0)"


def test_the_loaders_own_path_is_tried_first() -> None:
    assert library_candidates()[0] == "libcudart.so.13"
