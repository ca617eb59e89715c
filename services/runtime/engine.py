"""The contract between a service and whatever runs its network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.float32]]
"""Tensors by name."""

Precision = Literal["fp32", "bf16", "fp16", "int8"]

EXACT_LAYERS = (0, 2, 4, 8, 12)
"""How many first layers int8 leaves in fp32, where an engine mixes precisions: the forms that are
tried, fastest first. With more there is nothing left to gain."""


class EngineError(Exception):
    """An engine cannot load or run a model; the message says which and why."""


class PrecisionError(EngineError):
    """The device does not compute in a precision; the message names it."""


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of a network; a dimension of -1 is free."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class EngineInfo:
    """What runs a model, and where.

    Attributes:
        engine: name and version, for example "openvino 2026.4.1".
        device: for example "CPU".
        precision: numeric precision that the engine was asked for.
        streams: inferences that run side by side.
        threads: CPU threads that they share.
        inputs: the network's inputs.
        outputs: the network's outputs.
    """

    engine: str
    device: str
    precision: str
    streams: int
    threads: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


@dataclass(frozen=True)
class EngineOptions:
    """How a model is to be run.

    Attributes:
        precision: numeric precision of inference.
        threads: CPU threads; 0 for one on each CPU of this process.
        streams: inferences side by side, each on its share of the threads; 0 for one per thread,
            which gives the most throughput.
        free_dimensions: for each input by name, the shape to load it with (-1 is free); inputs
            that are not named keep the shape in the file, with a free first dimension.
        exact_layers: first layers that int8 leaves in fp32, where the engine mixes precisions.
    """

    precision: Precision = "fp32"
    threads: int = 0
    streams: int = 0
    free_dimensions: tuple[tuple[str, tuple[int, ...]], ...] = ()
    exact_layers: int = 0

    def resolved_threads(self) -> int:
        """Threads after "one for each CPU" has been counted."""
        return self.threads or len(os.sched_getaffinity(0))

    def resolved_streams(self) -> int:
        """Streams after "one per thread" has been counted."""
        return self.streams or self.resolved_threads()


class Engine(Protocol):
    """A loaded network. All methods may be called from several threads at once."""

    @property
    def info(self) -> EngineInfo:
        """What runs the network, and where."""
        ...

    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        """Runs the network once.

        Args:
            inputs: a float32 array for each input, first dimension the batch.

        Returns:
            All outputs by name, in memory of their own.

        Raises:
            EngineError: a missing input, a wrong shape, or a failure of the engine.
        """
        ...

    def close(self) -> None:
        """Frees the network's memory. The engine must not be used afterwards."""
        ...
