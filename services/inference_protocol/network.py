"""A bare network as the Open Inference Protocol serves it: FP32 in, FP32 out, in batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from services.inference_protocol.models import ServedArrays, ServedModel, ServedTensor
from services.model_queue import submitted
from services.runtime import Engine, EngineError
from services.runtime.batcher import Batcher, BatcherOptions

_Row = NDArray[np.float32]


def served_network(
    name: str,
    version: str,
    engine: Engine,
    shape: tuple[int, ...],
    options: BatcherOptions,
    max_rows: int,
) -> ServedModel:
    """The network as its ONNX file has it, as a Triton server with the same file would answer.

    Args:
        name: of the model.
        version: of the model.
        engine: the network, with one input whose first axis is the batch.
        shape: of that input, without the batch.
        options: limits of the queue; ``workers`` is set to one more than the engine's streams.
        max_rows: most rows in one request.

    Raises:
        EngineError: it has several inputs.
    """
    info = engine.info
    if len(info.inputs) != 1:
        raise EngineError(f"{name}@{version} has {len(info.inputs)} inputs; one is served.")
    limits = replace(options, workers=info.streams + 1)
    batcher: Batcher[_Row, list[_Row]] = Batcher(_Rows(engine).run, limits)
    source = info.inputs[0].name
    names = [tensor.name for tensor in info.outputs]

    async def infer(arrays: ServedArrays) -> ServedArrays:
        rows = (await submitted(batcher, list(arrays[source]), f"{name}@{version}")).rows
        return {output: np.stack([row[i] for row in rows]) for i, output in enumerate(names)}

    return ServedModel(
        name=name,
        version=version,
        platform=info.engine,
        inputs=(ServedTensor(source, "FP32", (-1, *shape)),),
        outputs=tuple(
            ServedTensor(tensor.name, "FP32", (-1, *tensor.shape[1:])) for tensor in info.outputs
        ),
        max_batch=min(max_rows, limits.max_rows),
        infer=infer,
        close=batcher.close,
    )


class _Rows:
    """Runs rows of several callers as one batch, on a worker thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._input = engine.info.inputs[0].name
        self._outputs = [tensor.name for tensor in engine.info.outputs]

    def run(self, rows: list[_Row]) -> list[list[_Row]]:
        results = self._engine.infer({self._input: np.stack(rows)})
        return [[results[name][i] for name in self._outputs] for i in range(len(rows))]
