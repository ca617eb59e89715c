"""TensorRT on an NVIDIA GPU: plans from the cache, pinned memory, streams, CUDA graphs."""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.runtime.cuda_library import cuda_runtime
from services.runtime.engine import Arrays, EngineError, EngineInfo, EngineOptions, TensorInfo
from services.runtime.plan_cache import PlanCache, PlanKey
from services.runtime.tensorrt_build import PlanRequest, cached_plan
from services.runtime.tensorrt_contexts import Contexts
from services.runtime.tensorrt_lane import Lane
from services.runtime.tensorrt_module import TensorRt, for_device, installed
from services.runtime.tensorrt_profile import Profile

# While one stream computes, a second can copy in and a third copy out.
_LANES = 3


class TensorRtEngine:
    """A network run by TensorRT on the first CUDA device.

    The plan is built when it is not in the cache, which takes from a second to minutes. A caller's
    thread sleeps in `infer` until a stream is free and its batch is done; Python's lock is free
    meanwhile.

    Args:
        path: ONNX file.
        options: precision (fp32, fp16; bf16 and int8 as the module allows), shapes and streams.
        profile: ranges of what is free, and batches for which CUDA graphs are captured.
        cache: where plans are kept.
        calibration: inputs to choose int8 scales by, if the file does not hold scales.

    Raises:
        EngineError: "no CUDA device", no TensorRT that fits it, or the network cannot be built.
    """

    def __init__(
        self,
        path: Path,
        options: EngineOptions,
        *,
        profile: Profile | None = None,
        cache: PlanCache | None = None,
        calibration: Sequence[Arrays] = (),
    ) -> None:
        self._cuda = cuda_runtime()
        self._device = self._cuda.device()
        self._cuda.use(self._device)
        self._profile = profile or Profile()
        self._lanes: list[Lane] = []
        self._idle: queue.SimpleQueue[Lane | None] = queue.SimpleQueue()
        module = for_device(self._device.compute_capability)
        cache = cache or PlanCache()
        request = PlanRequest(
            path,
            options,
            self._profile,
            self._device.compute_capability,
            self._device.name,
            calibration,
        )
        self._listener = module.listener()
        key, engine = self._load(module, request, cache)
        self._inputs, self._outputs = self._tensors(module, engine)
        self._cache = cache
        self._kernels_key = replace(key, device=self._device.name, kind="runtime")
        self._kernels = cache.get(self._kernels_key) if module.has_runtime_cache else None
        self._contexts = Contexts(module, engine, self._listener, self._kernels)
        self._start(options.streams or _LANES)
        self._keep_kernels()
        self._info = EngineInfo(
            engine=module.version,
            device=str(self._device),
            precision=options.precision,
            streams=len(self._lanes),
            threads=0,
            inputs=self._inputs,
            outputs=self._outputs,
        )

    @property
    def info(self) -> EngineInfo:
        """What runs the network, and where."""
        return self._info

    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        """Runs the network once; see `Engine.infer`. Batches beyond the profile are cut."""
        arrays, count = self._checked(inputs)
        step = self._step()
        lane = self._take()
        try:
            self._cuda.use(self._device)
            parts = [
                lane.run({name: array[start : start + step] for name, array in arrays.items()})
                for start in range(0, count, step)
            ]
        finally:
            self._idle.put(lane)
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def close(self) -> None:
        """Frees the device's memory, after the work that is under way."""
        if not self._lanes:
            return
        for _ in self._lanes:
            self._idle.get()
        self._idle.put(None)  # wakes whoever still waits, one after the other
        self._keep_kernels()
        self._free()

    def _load(
        self, module: TensorRt, request: PlanRequest, cache: PlanCache
    ) -> tuple[PlanKey, Any]:
        """The engine from its plan; a plan from the cache that cannot be loaded is built anew."""
        runtime = module.api.Runtime(self._listener.logger)
        key, plan = cached_plan(module, request, cache)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            cache.discard(key, self._listener.complaints())
            _, plan = cached_plan(module, request, cache)
            engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(
                f"{module.version} cannot load its own plan of {request.path.name}: "
                f"{self._listener.complaints()}"
            )
        self._runtime = runtime  # must outlive the engine
        return key, engine

    @staticmethod
    def _tensors(
        module: TensorRt, engine: Any
    ) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
        api = module.api
        inputs: list[TensorInfo] = []
        outputs: list[TensorInfo] = []
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            if engine.get_tensor_dtype(name) != api.DataType.FLOAT:
                raise EngineError(f"The tensor {name!r} is not float32, which is all Mien uses.")
            info = TensorInfo(name, tuple(engine.get_tensor_shape(name)))
            is_input = engine.get_tensor_mode(name) == api.TensorIOMode.INPUT
            (inputs if is_input else outputs).append(info)
        return tuple(inputs), tuple(outputs)

    def _start(self, lanes: int) -> None:
        """Makes the lanes and captures their graphs."""
        ranges = {info.name: self._profile.range(info.shape) for info in self._inputs}
        names = tuple(info.name for info in self._outputs)
        batches = self._graph_batches()
        try:
            for _ in range(lanes):
                lane = Lane(self._cuda, self._contexts, ranges, names)
                self._lanes.append(lane)
                for batch in batches:
                    shapes = {info.name: (batch, *info.shape[1:]) for info in self._inputs}
                    if not lane.prepare(shapes):
                        batches = ()  # it would be the same on the other lanes
                        break
        except EngineError:
            self._free()
            raise
        for lane in self._lanes:
            self._idle.put(lane)

    def _keep_kernels(self) -> None:
        """Writes down the kernels compiled since the last time; shapes that come later add some."""
        kernels = self._contexts.kept_kernels()
        if kernels and kernels != self._kernels:
            self._cache.put(self._kernels_key, kernels)
            self._kernels = kernels

    def _graph_batches(self) -> tuple[int, ...]:
        """Batches to capture: only a network whose other sizes are fixed has few shapes."""
        if any(-1 in info.shape[1:] for info in self._inputs):
            return ()
        fixed = self._fixed_batch()
        if fixed:
            return (fixed,)
        low, _, high = self._profile.batches
        return tuple(batch for batch in self._profile.graph_batches if low <= batch <= high)

    def _fixed_batch(self) -> int:
        return max(0, *(info.shape[0] for info in self._inputs))

    def _step(self) -> int:
        return self._fixed_batch() or self._profile.batches[2]

    def _checked(
        self, inputs: Mapping[str, NDArray[np.float32]]
    ) -> tuple[dict[str, NDArray[np.float32]], int]:
        """The inputs in the network's order, and how many items they hold."""
        arrays: dict[str, NDArray[np.float32]] = {}
        for info in self._inputs:
            if info.name not in inputs:
                raise EngineError(f"The input {info.name!r} is missing.")
            array = np.ascontiguousarray(inputs[info.name], np.float32)
            limits = self._profile.range(info.shape)
            batch = min(array.shape[0], self._step()) if array.ndim else 0
            if not limits.holds((batch, *array.shape[1:])):
                raise EngineError(
                    f"The input {info.name!r} is {array.shape}; this plan takes {limits}."
                )
            arrays[info.name] = array
        counts = {array.shape[0] for array in arrays.values()}
        count = max(counts)
        fixed = self._fixed_batch()
        if len(counts) > 1 or (fixed and count % fixed):
            raise EngineError("The inputs are not of one batch, or not whole batches.")
        return arrays, count

    def _take(self) -> Lane:
        lane = self._idle.get()
        if lane is None:
            self._idle.put(None)
            raise EngineError("The engine is closed.")
        return lane

    def _free(self) -> None:
        for lane in self._lanes:
            lane.close()
        self._lanes.clear()
        self._contexts.close()


def why_not() -> str | None:
    """Why TensorRT cannot be used here, or None if it can; loads no network."""
    try:
        device = cuda_runtime().device()
        if not installed():
            return "neither tensorrt nor tensorrt_rtx is installed"
        for_device(device.compute_capability)
    except EngineError as error:
        return str(error)
    return None
