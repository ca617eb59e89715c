"""Lets TensorRT choose int8 scales by looking at inputs; only for modules that work so."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from services.runtime.cuda import CudaRuntime, DeviceMemory, PinnedMemory, Stream
from services.runtime.cuda_library import cuda_runtime
from services.runtime.engine import Arrays, EngineError
from services.runtime.plan_cache import PlanCache, PlanKey
from services.runtime.tensorrt_module import TensorRt


def calibration_digest(batches: Sequence[Arrays]) -> str:
    """SHA-256 over the calibration inputs; empty if there are none."""
    if not batches:
        return ""
    digest = hashlib.sha256()
    for batch in batches:
        for name in sorted(batch):
            digest.update(f"{name} {batch[name].shape}\n".encode())
            digest.update(np.ascontiguousarray(batch[name], np.float32).tobytes())
    return digest.hexdigest()


def make_calibrator(
    module: TensorRt, batches: Sequence[Arrays], cache: PlanCache, key: PlanKey
) -> Any:
    """A calibrator that shows the batches to the network, or the scales that it once gave.

    The scales depend on the network and the inputs, not on shapes or the device.

    Raises:
        EngineError: there are neither batches nor scales, or batches of unequal shape.
    """
    scales = replace(key, device="", compute_capability="", shapes="", kind="calibration")
    if not batches and cache.get(scales) is None:
        raise EngineError("int8 needs calibration inputs, or a network that is quantised.")
    shapes = {tuple((name, batch[name].shape) for name in sorted(batch)) for batch in batches}
    if len(shapes) > 1:
        raise EngineError("The calibration inputs must all be batches of one shape.")
    feeder = _Feeder(batches)
    size = next(iter(batches[0].values())).shape[0] if batches else 1

    def start(self: Any) -> None:
        module.api.IInt8EntropyCalibrator2.__init__(self)

    def keep(_: Any, content: bytes) -> None:
        cache.put(scales, bytes(content))

    methods = {
        "__init__": start,
        "get_batch_size": lambda _: size,
        "get_batch": lambda _, names: feeder.next(names),
        "read_calibration_cache": lambda _: cache.get(scales),
        "write_calibration_cache": keep,
    }
    return type("Calibrator", (module.api.IInt8EntropyCalibrator2,), methods)()


class _Feeder:
    """Brings one batch after the other to the device."""

    def __init__(self, batches: Sequence[Arrays]) -> None:
        self._batches = iter(batches)
        self._memory: dict[str, tuple[PinnedMemory, DeviceMemory]] = {}
        self._cuda: CudaRuntime | None = None
        self._stream: Stream | None = None

    def next(self, names: Sequence[str]) -> list[int] | None:
        """Device addresses of the next batch by input; None after the last."""
        batch = next(self._batches, None)
        if batch is None:
            self._close()
            return None
        if self._cuda is None or self._stream is None:
            self._cuda = cuda_runtime()
            self._stream = Stream(self._cuda)
        addresses = []
        for name in names:
            array = batch[name]
            if name not in self._memory:
                size = array.size * 4
                pair = PinnedMemory(self._cuda, size), DeviceMemory(self._cuda, size)
                self._memory[name] = pair
            host, device = self._memory[name]
            host.array(array.shape)[...] = array
            self._stream.copy_in(device, host, host.size)
            addresses.append(device.address)
        self._stream.wait()
        return addresses

    def _close(self) -> None:
        for pair in self._memory.values():
            for memory in pair:
                memory.close()
        self._memory.clear()
        if self._stream is not None:
            self._stream.close()
            self._stream = None
