"""Which shapes a TensorRT plan is built for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.runtime.engine import EngineError, EngineOptions, TensorInfo

_FREE = -1

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ShapeRange:
    """The shapes that one input may have: least, the one to tune for, greatest."""

    least: Shape
    usual: Shape
    greatest: Shape

    def holds(self, shape: Sequence[int]) -> bool:
        """Whether a shape lies inside."""
        return len(shape) == len(self.least) and all(
            low <= size <= high
            for low, size, high in zip(self.least, shape, self.greatest, strict=True)
        )

    def __str__(self) -> str:
        return "..".join("x".join(map(str, shape)) for shape in (self.least, self.greatest))


@dataclass(frozen=True)
class Profile:
    """Ranges for whatever a network leaves free, and the batches worth a CUDA graph.

    Attributes:
        batches: least, usual and greatest batch; larger ones are cut into several.
        sides: least, usual and greatest size of any other free dimension, such as height and width.
        graph_batches: batch sizes that are captured as CUDA graphs when the engine starts. Each
            has an execution context of its own on each stream, so they cost memory.
    """

    batches: tuple[int, int, int] = (1, 16, 64)
    sides: tuple[int, int, int] = (32, 640, 2048)
    graph_batches: tuple[int, ...] = (1, 4, 16, 32)

    def __post_init__(self) -> None:
        for name, (low, usual, high) in (("batches", self.batches), ("sides", self.sides)):
            if not 1 <= low <= usual <= high:
                raise ValueError(f"{name}: {low}, {usual}, {high} do not rise from 1 upwards")

    def range(self, shape: Shape) -> ShapeRange:
        """The range of an input; its free dimensions are -1, and the first is the batch."""

        def at(position: int) -> Shape:
            return tuple(
                size if size != _FREE else (self.sides if axis else self.batches)[position]
                for axis, size in enumerate(shape)
            )

        return ShapeRange(at(0), at(1), at(2))


def wanted_inputs(inputs: Sequence[TensorInfo], options: EngineOptions) -> tuple[TensorInfo, ...]:
    """The inputs as they are to be loaded: as asked for, and otherwise with a free batch.

    Raises:
        EngineError: a shape is asked for that has another number of dimensions, or an input that
            the network does not have.
    """
    asked = dict(options.free_dimensions)
    unknown = sorted(asked.keys() - {info.name for info in inputs})
    if unknown:
        raise EngineError(f"The network has no input {unknown[0]!r}.")
    wanted = []
    for info in inputs:
        shape = asked.get(info.name, (_FREE, *info.shape[1:]))
        if len(shape) != len(info.shape):
            raise EngineError(
                f"The input {info.name!r} has {len(info.shape)} dimensions, not {len(shape)}."
            )
        wanted.append(TensorInfo(info.name, shape))
    return tuple(wanted)
