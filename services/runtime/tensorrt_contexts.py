"""Makes execution contexts of a TensorRT engine, and keeps the kernels that they compile."""

from __future__ import annotations

import threading
from typing import Any

from services.runtime.cuda import DeviceMemory, Stream
from services.runtime.engine import EngineError
from services.runtime.tensorrt_module import Listener, TensorRt


class Contexts:
    """Makes execution contexts; they are made one at a time, whatever thread asks.

    Args:
        module: the TensorRT in use.
        engine: its deserialised engine.
        listener: hears why something failed.
        kernels: what `kept_kernels` gave in an earlier process, if anything.
    """

    def __init__(
        self, module: TensorRt, engine: Any, listener: Listener, kernels: bytes | None
    ) -> None:
        self._module, self._engine, self._listener = module, engine, listener
        self._lock = threading.Lock()
        self._config: Any = None
        self._runtime_cache: Any = None
        if module.has_runtime_cache:
            self._config = engine.create_runtime_config()
            self._runtime_cache = self._config.create_runtime_cache()
            if kernels:
                # It refuses what another version or device wrote, and is empty then.
                self._runtime_cache.deserialize(kernels)

    @property
    def memory_size(self) -> int:
        """Bytes of device memory that a context computes in."""
        size: int = self._engine.device_memory_size_v2
        return max(1, size)

    def make(self, memory: DeviceMemory, fixed: bool = False) -> Any:
        """A new context.

        Args:
            memory: what it computes in, `memory_size` bytes; contexts of which only one runs at a
                time can share it.
            fixed: whether it will stay at one shape. Kernels for just that shape are then compiled
                at once, where they are compiled at run time; otherwise meanwhile, as shapes come.

        Raises:
            EngineError: most likely there is not enough memory on the device.
        """
        managed = self._module.api.ExecutionContextAllocationStrategy.USER_MANAGED
        with self._lock:
            if self._runtime_cache is None:
                context = self._engine.create_execution_context(managed)
            else:
                config = self._config
                config.set_runtime_cache(self._runtime_cache)
                config.set_execution_context_allocation_strategy(managed)
                strategies = self._module.api.DynamicShapesKernelSpecializationStrategy
                config.dynamic_shapes_kernel_specialization_strategy = (
                    strategies.EAGER if fixed else strategies.LAZY
                )
                context = self._engine.create_execution_context(config)
        if context is None:
            raise EngineError(
                f"{self._module.version} could not make an execution context: {self.complaints()}"
            )
        context.set_device_memory(memory.address, memory.size)
        return context

    def can_capture(self, context: Any, stream: Stream) -> bool:
        """Whether the context's work can be captured as a CUDA graph."""
        ask = getattr(context, "is_stream_capturable", None)
        return True if ask is None else bool(ask(stream.handle))

    def kept_kernels(self) -> bytes | None:
        """The kernels compiled so far, to start faster the next time; None if there are none."""
        if self._runtime_cache is None:
            return None
        with self._lock:
            kernels = self._runtime_cache.serialize()
        return bytes(kernels) if kernels is not None else None

    def complaints(self) -> str:
        """What TensorRT last said of errors."""
        return self._listener.complaints()

    def close(self) -> None:
        """Lets go of the engine."""
        self._runtime_cache = None
        self._config = None
        self._engine = None
