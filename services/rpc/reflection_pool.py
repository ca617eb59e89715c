"""Descriptors for server reflection, from every pool that Mien's generated code lives in."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import Default, DescriptorPool

from services.rpc.inference import grpc_inference_pb2

# Files outside protobuf's default pool; proto/generate.sh says why.
_OWN_POOLS = (grpc_inference_pb2.DESCRIPTOR,)


def reflection_pool(services: Iterable[str]) -> DescriptorPool:
    """A pool that describes these services and all that they use.

    Args:
        services: full names; those that are found nowhere are left out.
    """
    pool = DescriptorPool()
    for service in services:
        _add(pool, _file_of(service))
    return pool


def _file_of(service: str) -> FileDescriptor | None:
    for file in _OWN_POOLS:
        if any(one.full_name == service for one in file.services_by_name.values()):
            return file
    try:
        return Default().FindFileContainingSymbol(service)
    except KeyError:
        return None


def _add(pool: DescriptorPool, file: FileDescriptor | None) -> None:
    if file is None:
        return
    for used in file.dependencies:
        _add(pool, used)
    try:
        pool.FindFileByName(file.name)
    except KeyError:
        pool.AddSerializedFile(file.serialized_pb)
