"""The maps as the Open Inference Protocol serves them."""

from __future__ import annotations

import numpy as np

from services.inference_protocol import ServedArrays, ServedModel, ServedTensor
from services.mapping.checks import source_vectors
from services.mapping.mapper import QueuedMapper
from services.model_queue import submitted


def served_map(one: QueuedMapper, max_rows: int) -> ServedModel:
    """A map: FP32 vectors in, vectors and confidences out, through the queue of the task RPC.

    The protocol has no place for an identity: the caller vouches for whose vectors these are, and
    the answer does not say whose it gives. That they are finite, and of length 1 if that model
    gives such, is checked here too.

    Args:
        one: a loaded map.
        max_rows: most vectors in one request.
    """
    card = one.mapper.card
    names = card.tensors

    async def infer(arrays: ServedArrays) -> ServedArrays:
        given = np.asarray(arrays[names.vector], np.float32)
        vectors = source_vectors(given, card, "inputs[0]: row {}")
        done = await submitted(one.batcher, list(vectors), card.reference)
        return {
            names.mapped: np.stack([row.vector for row in done.rows]),
            names.confidence: np.array([[row.confidence] for row in done.rows], np.float32),
        }

    return ServedModel(
        name=card.name,
        version=card.version,
        platform=one.mapper.engine.info.engine,
        inputs=(ServedTensor(names.vector, "FP32", (-1, card.source.dimension)),),
        outputs=(
            ServedTensor(names.mapped, "FP32", (-1, card.target.dimension)),
            ServedTensor(names.confidence, "FP32", (-1, 1)),
        ),
        max_batch=max_rows,
        infer=infer,
    )
