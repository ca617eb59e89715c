"""The embedders as the Open Inference Protocol serves them: bare networks, and crops to vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from services.embedding.queued import QueuedEmbedder, submitted
from services.inference_protocol import ServedArrays, ServedModel, ServedTensor
from services.runtime import Engine, EngineError
from services.runtime.batcher import Batcher, BatcherOptions

CROPS_SUFFIX = "-crops"
CROPS_INPUT, CROPS_OUTPUT, CROPS_WEIGHT = "crops", "embedding", "weight"
_Row = NDArray[np.float32]


def served_models(
    embedders: Sequence[QueuedEmbedder], options: BatcherOptions, max_rows: int
) -> list[ServedModel]:
    """Two models for each embedder.

    ``sface`` is the network as its ONNX file has it: FP32 that the caller has prepared in, the raw
    output out, as a Triton server with the same file would answer. ``sface-crops`` takes aligned
    RGB crops as UINT8 (N x height x width x 3) and gives what Mien compares: prepared, embedded
    and normalised as the card says, through the queue that the task RPC uses; and with them, from a
    model with learned fusion weights, the weight of each crop.

    Args:
        embedders: those that are loaded.
        options: limits of the bare network's queue; ``workers`` is set to one more than the
            engine's streams.
        max_rows: most rows in one request.
    """
    served: list[ServedModel] = []
    for one in embedders:
        workers = one.embedder.engine.info.streams + 1
        served.append(_network(one, replace(options, workers=workers), max_rows))
        served.append(_crops(one, max_rows))
    return served


def _network(one: QueuedEmbedder, options: BatcherOptions, max_rows: int) -> ServedModel:
    card, info = one.embedder.card, one.embedder.engine.info
    spec = card.input
    if len(info.inputs) != 1:
        raise EngineError(f"{card.reference} has {len(info.inputs)} inputs; an embedder has one.")
    batcher: Batcher[_Row, list[_Row]] = Batcher(_Rows(one.embedder.engine).run, options)
    source = info.inputs[0].name
    names = [tensor.name for tensor in info.outputs]

    async def infer(arrays: ServedArrays) -> ServedArrays:
        rows = (await submitted(batcher, list(arrays[source]), card.reference)).rows
        return {name: np.stack([row[i] for row in rows]) for i, name in enumerate(names)}

    return ServedModel(
        name=card.name,
        version=card.version,
        platform=info.engine,
        inputs=(ServedTensor(source, "FP32", (-1, 3, spec.height, spec.width)),),
        outputs=tuple(
            ServedTensor(tensor.name, "FP32", (-1, *tensor.shape[1:])) for tensor in info.outputs
        ),
        max_batch=min(max_rows, options.max_rows),
        infer=infer,
        close=batcher.close,
    )


def _crops(one: QueuedEmbedder, max_rows: int) -> ServedModel:
    card = one.embedder.card

    async def infer(arrays: ServedArrays) -> ServedArrays:
        crops = [crop.tobytes() for crop in arrays[CROPS_INPUT]]
        done = await submitted(one.batcher, crops, card.reference)
        given = {CROPS_OUTPUT: np.stack([row.vector for row in done.rows])}
        if card.output.weight is not None:
            given[CROPS_WEIGHT] = np.array([[row.weight] for row in done.rows], np.float32)
        return given

    outputs = [ServedTensor(CROPS_OUTPUT, "FP32", (-1, card.output.dimension))]
    if card.output.weight is not None:
        outputs.append(ServedTensor(CROPS_WEIGHT, "FP32", (-1, 1)))

    return ServedModel(
        name=card.name + CROPS_SUFFIX,
        version=card.version,
        platform=one.embedder.engine.info.engine,
        inputs=(ServedTensor(CROPS_INPUT, "UINT8", (-1, card.input.height, card.input.width, 3)),),
        outputs=tuple(outputs),
        max_batch=max_rows,
        infer=infer,
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
