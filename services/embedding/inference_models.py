"""The embedders as the Open Inference Protocol serves them: bare networks, and crops to vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.embedding.queued import QueuedEmbedder
from services.inference_protocol import ServedArrays, ServedModel, ServedTensor, served_network
from services.model_queue import submitted
from services.runtime.batcher import BatcherOptions

CROPS_SUFFIX = "-crops"
CROPS_INPUT, CROPS_OUTPUT, CROPS_WEIGHT = "crops", "embedding", "weight"


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
        card = one.embedder.card
        shape = (3, card.input.height, card.input.width)
        served.append(
            served_network(card.name, card.version, one.embedder.engine, shape, options, max_rows)
        )
        served.append(_crops(one, max_rows))
    return served


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
