"""A network on a Triton server, or any other that speaks the Open Inference Protocol over gRPC."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import grpc
import numpy as np
from numpy.typing import NDArray

from services.rpc.inference import grpc_inference_pb2 as pb
from services.rpc.inference import grpc_inference_pb2_grpc
from services.runtime.engine import Arrays, EngineError, EngineInfo, TensorInfo

_FP32 = "FP32"
_FLOAT = np.dtype("<f4")
# A Triton server whose queue is full says UNAVAILABLE with these words; others say
# RESOURCE_EXHAUSTED.
_TRITON_QUEUE_FULL = "exceeds maximum queue size"
_CODES = grpc.StatusCode


class EngineBusyError(EngineError):
    """The server is there, and has no room for more work now."""


@dataclass(frozen=True)
class RemoteModel:
    """A model on a server.

    Attributes:
        address: "host:port" of its gRPC endpoint.
        name: of the model there.
        version: of the model there; empty lets the server choose.
        timeout: seconds that one call may take.
        connect_timeout: seconds that the server may take to answer at all when it is looked up.
        max_batch: most rows in one call; more are sent as several. It must not be above the
            server's own limit, which the protocol does not tell.
        streams: calls that a caller should keep in flight, so that one is sent while another is
            computed.
    """

    address: str
    name: str
    version: str = ""
    timeout: float = 10.0
    connect_timeout: float = 5.0
    max_batch: int = 32
    streams: int = 2


class TritonEngine:
    """A network that a server runs. Weights, device and precision are the server's matter.

    Args:
        model: where it is.

    Raises:
        EngineError: the server does not answer, does not have the model, or has one whose tensors
            are not all FP32.
    """

    def __init__(self, model: RemoteModel) -> None:
        self._model = model
        self._channel = grpc.insecure_channel(
            model.address,
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                ("grpc.enable_http_proxy", 0),  # it is a neighbour, as are all of Mien's services
            ],
        )
        self._stub = grpc_inference_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        try:
            self._info, self._fixed_batch = self._look_up()
        except EngineError:
            self._channel.close()
            raise

    @property
    def info(self) -> EngineInfo:
        """What runs the network, and where."""
        return self._info

    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        """Runs the network on the server; see `Engine.infer`.

        Raises:
            EngineBusyError: the server has no room for more work now.
            EngineError: as in `Engine.infer`, and when the server is gone or takes too long.
        """
        for tensor in self._info.inputs:
            if tensor.name not in inputs:
                raise EngineError(f"The input {tensor.name!r} is missing.")
        count = len(inputs[self._info.inputs[0].name])
        step = self._fixed_batch or min(count, self._model.max_batch)
        parts = [
            self._call({name: array[start : start + step] for name, array in inputs.items()})
            for start in range(0, count, step)
        ]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def close(self) -> None:
        """Hangs up. The model stays loaded on the server."""
        self._channel.close()

    def _look_up(self) -> tuple[EngineInfo, int]:
        model, seconds = self._model, self._model.connect_timeout
        wanted = {"name": model.name, "version": model.version}
        try:
            server = self._stub.ServerMetadata(
                pb.ServerMetadataRequest(), timeout=seconds, wait_for_ready=True
            )
            metadata = self._stub.ModelMetadata(pb.ModelMetadataRequest(**wanted), timeout=seconds)
            ready = self._stub.ModelReady(pb.ModelReadyRequest(**wanted), timeout=seconds).ready
        except grpc.RpcError as error:
            raise self._explain(error, seconds) from error
        if not ready:
            raise EngineError(f"{self._place} is not ready.")
        for tensor in (*metadata.inputs, *metadata.outputs):
            if tensor.datatype != _FP32:
                raise EngineError(
                    f"{self._place} is not compatible: {tensor.name} is {tensor.datatype}, "
                    f"Mien's engines take and give {_FP32}."
                )
        if not metadata.inputs or not metadata.outputs:
            raise EngineError(f"{self._place} is not compatible: it names no inputs or no outputs.")
        inputs = tuple(TensorInfo(one.name, tuple(one.shape)) for one in metadata.inputs)
        info = EngineInfo(
            engine=f"{server.name} {server.version}".strip(),
            device=f"{model.address} ({metadata.platform or 'platform not told'})",
            precision="fp32",
            streams=model.streams,
            threads=0,
            inputs=inputs,
            outputs=tuple(TensorInfo(one.name, tuple(one.shape)) for one in metadata.outputs),
        )
        fixed = max((one.shape[0] for one in inputs if one.shape), default=-1)
        return info, max(fixed, 0)

    def _call(self, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        model = self._model
        request = pb.ModelInferRequest(model_name=model.name, model_version=model.version)
        for tensor in self._info.inputs:
            array = np.ascontiguousarray(inputs[tensor.name], _FLOAT)
            request.inputs.add(name=tensor.name, datatype=_FP32, shape=array.shape)
            request.raw_input_contents.append(array.tobytes())
        for tensor in self._info.outputs:
            request.outputs.add(name=tensor.name)
        try:
            response = self._stub.ModelInfer(request, timeout=model.timeout)
        except grpc.RpcError as error:
            raise self._explain(error, model.timeout) from error
        outputs = {
            tensor.name: self._read(response, index)
            for index, tensor in enumerate(response.outputs)
        }
        for expected in self._info.outputs:
            if expected.name not in outputs:
                raise EngineError(f"{self._place} did not give the output {expected.name!r}.")
        return outputs

    def _read(self, response: pb.ModelInferResponse, index: int) -> NDArray[np.float32]:
        tensor = response.outputs[index]
        raw = response.raw_output_contents
        values: NDArray[np.float32] = (
            np.frombuffer(raw[index], _FLOAT)
            if index < len(raw)
            else np.array(tensor.contents.fp32_contents, _FLOAT)
        )
        if tensor.datatype != _FP32 or values.size != math.prod(tensor.shape):
            raise EngineError(f"{self._place} gave {tensor.name!r} in a form that cannot be read.")
        return values.reshape(tensor.shape).astype(np.float32)

    @property
    def _place(self) -> str:
        version = f" version {self._model.version}" if self._model.version else ""
        return f"The model {self._model.name}{version} at {self._model.address}"

    def _explain(self, error: grpc.RpcError, seconds: float) -> EngineError:
        """The failure in words, without the server's own text: it may quote the request."""
        call = cast("grpc.Call", error)  # every error of a call is the call itself
        code, details = call.code(), call.details() or ""
        if code is _CODES.RESOURCE_EXHAUSTED or _TRITON_QUEUE_FULL in details.lower():
            return EngineBusyError(f"{self._place} has no room for more work now.")
        what = {
            _CODES.UNAVAILABLE: "cannot be reached",
            _CODES.DEADLINE_EXCEEDED: f"did not answer within {seconds:g} s",
            _CODES.NOT_FOUND: "is not there",
            _CODES.INVALID_ARGUMENT: "did not take this input",
            _CODES.UNIMPLEMENTED: "is behind a server that does not speak the Open Inference "
            "Protocol, version 2",
        }.get(code, f"failed ({code.name})")
        return EngineError(f"{self._place} {what}.")
