"""What tests ask of the mapping service."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.rpc.mien.v1 import mapping_pb2, mapping_pb2_grpc, model_pb2
from tests.integration.mapping.tiny_mapping import (
    request,
    units,
)

Stub = mapping_pb2_grpc.MappingServiceStub
MAPPED = model_pb2.VECTOR_ORIGIN_MAPPED
BULK = model_pb2.PRIORITY_BULK
MAX_BATCH = 6
WRONG = "IDENTITY_MISMATCH"


def bad(row: int, change: Any) -> list[bytes]:
    given = units(3)
    given[row] = change(given[row])
    return [one.tobytes() for one in given]


def set_to(value: float) -> Any:
    def change(row: NDArray[np.float32]) -> NDArray[np.float32]:
        made = row.copy()
        made[2] = value
        return made

    return change


def batches(*sizes: int) -> list[NDArray[np.float32]]:
    return [units(size, seed=number) for number, size in enumerate(sizes)]


def sent(*given: NDArray[np.float32], **fields: Any) -> Iterator[mapping_pb2.MapStreamRequest]:
    for one in given:
        yield mapping_pb2.MapStreamRequest(batch=request(one, **fields))
