"""The protocol over gRPC."""

from __future__ import annotations

from typing import Any

import grpc

from services.inference_protocol.datatypes import (
    AnyArray,
    TensorDataError,
    from_list,
    from_raw,
    to_list,
    to_raw,
)
from services.inference_protocol.models import (
    GivenTensor,
    ServedArrays,
    ServedModel,
    ServedModels,
    ServedTensor,
    check_inputs,
    invalid,
    refuse_extensions,
    wanted_outputs,
)
from services.rpc.inference import grpc_inference_pb2 as pb
from services.rpc.inference import grpc_inference_pb2_grpc
from services.rpc.server import answer
from services.telemetry.metrics import version

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
SERVER_NAME = "mien"
_Context = grpc.aio.ServicerContext[Any, Any]


def add_inference_service(models: ServedModels, server: grpc.aio.Server) -> None:
    """Lets a gRPC server answer the protocol for these models."""
    grpc_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Servicer(models), server)


class _Servicer(grpc_inference_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, models: ServedModels) -> None:
        self._models = models

    async def ServerLive(  # noqa: N802 - gRPC's name, like those below
        self, request: pb.ServerLiveRequest, context: _Context
    ) -> pb.ServerLiveResponse:
        """It answers, so it lives."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(  # noqa: N802
        self, request: pb.ServerReadyRequest, context: _Context
    ) -> pb.ServerReadyResponse:
        """Whether all models can be run."""
        return pb.ServerReadyResponse(ready=self._models.ready())

    async def ModelReady(  # noqa: N802
        self, request: pb.ModelReadyRequest, context: _Context
    ) -> pb.ModelReadyResponse:
        """Whether one model can be run."""

        async def work(_: str) -> pb.ModelReadyResponse:
            model = self._models.find(request.name, request.version)
            return pb.ModelReadyResponse(ready=model.ready())

        return await answer(context, "ModelReady", work)

    async def ServerMetadata(  # noqa: N802
        self, request: pb.ServerMetadataRequest, context: _Context
    ) -> pb.ServerMetadataResponse:
        """Name and version."""
        return pb.ServerMetadataResponse(name=SERVER_NAME, version=version())

    async def ModelMetadata(  # noqa: N802
        self, request: pb.ModelMetadataRequest, context: _Context
    ) -> pb.ModelMetadataResponse:
        """A model's tensors."""

        async def work(_: str) -> pb.ModelMetadataResponse:
            model = self._models.find(request.name, request.version)
            return pb.ModelMetadataResponse(
                name=model.name,
                versions=self._models.versions(model.name),
                platform=model.platform,
                inputs=[_metadata(tensor) for tensor in model.inputs],
                outputs=[_metadata(tensor) for tensor in model.outputs],
            )

        return await answer(context, "ModelMetadata", work)

    async def ModelInfer(  # noqa: N802
        self, request: pb.ModelInferRequest, context: _Context
    ) -> pb.ModelInferResponse:
        """Runs a model."""

        async def work(_: str) -> pb.ModelInferResponse:
            model = self._models.find(request.model_name, request.model_version)
            wanted = _wanted(model, request)
            results = await model.infer(_inputs(model, request))
            return _response(model, wanted, results, request)

        return await answer(context, "ModelInfer", work)


def _metadata(tensor: ServedTensor) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
    )


def _wanted(model: ServedModel, request: pb.ModelInferRequest) -> list[ServedTensor]:
    for index, output in enumerate(request.outputs):
        refuse_extensions(output.parameters, f"outputs[{index}]")
    return wanted_outputs(model, [output.name for output in request.outputs])


def _inputs(model: ServedModel, request: pb.ModelInferRequest) -> ServedArrays:
    for index, tensor in enumerate(request.inputs):
        refuse_extensions(tensor.parameters, f"inputs[{index}]")
    given = [GivenTensor(one.name, one.datatype, tuple(one.shape)) for one in request.inputs]
    matched = check_inputs(model, given)
    raw = request.raw_input_contents
    if raw and len(raw) != len(given):
        raise invalid("raw_input_contents", f"{len(raw)} raw contents for {len(given)} inputs.")
    arrays: ServedArrays = {}
    for index, target in enumerate(matched):
        tensor = request.inputs[index]
        try:
            arrays[target.name] = (
                _from_raw(target, tensor, raw[index]) if raw else _from_contents(target, tensor)
            )
        except TensorDataError as error:
            place = f"raw_input_contents[{index}]" if raw else f"inputs[{index}].contents"
            raise invalid(place, str(error)) from error
    return arrays


def _from_raw(
    target: ServedTensor, tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes
) -> AnyArray:
    if tensor.HasField("contents"):
        raise TensorDataError("Give raw contents or typed contents, not both.")
    return from_raw(target.type, tensor.shape, raw)


def _from_contents(target: ServedTensor, tensor: pb.ModelInferRequest.InferInputTensor) -> AnyArray:
    place = target.type.contents
    if place is None:
        raise TensorDataError(f"{target.datatype} is taken as raw contents only.")
    filled = [field.name for field, _ in tensor.contents.ListFields()]
    if filled and filled != [place]:
        raise TensorDataError(f"The elements of {target.datatype} belong in {place} alone.")
    return from_list(target.type, tensor.shape, list(getattr(tensor.contents, place)))


def _response(
    model: ServedModel,
    wanted: list[ServedTensor],
    results: ServedArrays,
    request: pb.ModelInferRequest,
) -> pb.ModelInferResponse:
    """Answers raw contents with raw contents, and typed ones with typed ones where they exist."""
    response = pb.ModelInferResponse(
        model_name=model.name, model_version=model.version, id=request.id
    )
    # Raw contents are for all outputs or for none.
    typed = not request.raw_input_contents and all(tensor.type.contents for tensor in wanted)
    for tensor in wanted:
        array = results[tensor.name]
        output = response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=array.shape)
        if typed:
            getattr(output.contents, str(tensor.type.contents)).extend(to_list(tensor.type, array))
        else:
            response.raw_output_contents.append(to_raw(tensor.type, array))
    return response
