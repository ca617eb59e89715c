"""The Open Inference Protocol, version 2, over gRPC and REST, for any model.

A service describes its networks as `ServedModel`; the two skins only translate.
"""

from services.inference_protocol.grpc_service import SERVICE_NAME, add_inference_service
from services.inference_protocol.models import (
    ServedArrays,
    ServedModel,
    ServedModels,
    ServedTensor,
)
from services.inference_protocol.network import served_network
from services.inference_protocol.rest import inference_app, inference_routes

__all__ = [
    "SERVICE_NAME",
    "ServedArrays",
    "ServedModel",
    "ServedModels",
    "ServedTensor",
    "add_inference_service",
    "inference_app",
    "inference_routes",
    "served_network",
]
