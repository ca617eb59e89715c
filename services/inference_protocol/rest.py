"""The protocol over REST, with tensors as JSON or as bytes behind the JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.errors import Errors, MienError
from services.inference_protocol.datatypes import (
    AnyArray,
    TensorDataError,
    from_list,
    from_raw,
    is_plain,
    to_list,
    to_raw,
)
from services.inference_protocol.grpc_service import SERVER_NAME
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
from services.telemetry import (
    count_request,
    get_logger,
    new_request_id,
    timed_request,
    use_request_id,
)
from services.telemetry.metrics import version
from services.telemetry.request_id import HEADER

BINARY_EXTENSION = "binary_tensor_data"
MAX_BODY_BYTES = 64 * 1024 * 1024  # as the gRPC services take
_JSON_LENGTH = "inference-header-content-length"
_BAD_REQUEST = 400  # the protocol's status for what Mien's own API calls 422
_log = get_logger(__name__)
_Handler = Callable[[Request], Awaitable[Response]]
_Json = dict[str, Any]


def inference_app(models: ServedModels, max_body_bytes: int = MAX_BODY_BYTES) -> Starlette:
    """An application of the protocol alone, with errors in its form for unknown paths too."""
    return Starlette(
        routes=inference_routes(models, max_body_bytes),
        exception_handlers={HTTPException: _http_error},
    )


def inference_routes(models: ServedModels, max_body_bytes: int = MAX_BODY_BYTES) -> list[Route]:
    """The protocol's paths, for any Starlette or FastAPI application.

    Args:
        models: what is served.
        max_body_bytes: largest request body.
    """
    skin = _Skin(models, max_body_bytes)
    one = "/v2/models/{model}"
    routes = [
        Route("/v2", _answering("ServerMetadata", skin.server_metadata)),
        Route("/v2/health/live", _answering("ServerLive", skin.live)),
        Route("/v2/health/ready", _answering("ServerReady", skin.ready)),
    ]
    for path in (one, one + "/versions/{version}"):
        routes += [
            Route(path, _answering("ModelMetadata", skin.model_metadata)),
            Route(path + "/ready", _answering("ModelReady", skin.model_ready)),
            Route(path + "/infer", _answering("ModelInfer", skin.infer), methods=["POST"]),
        ]
    return routes


class _Skin:
    def __init__(self, models: ServedModels, max_body_bytes: int) -> None:
        self._models = models
        self._max = max_body_bytes

    async def server_metadata(self, _: Request) -> Response:
        return JSONResponse(
            {"name": SERVER_NAME, "version": version(), "extensions": [BINARY_EXTENSION]}
        )

    async def live(self, _: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(self, _: Request) -> Response:
        if not self._models.ready():
            raise MienError(Errors.NOT_READY, "A model is not ready.")
        return JSONResponse({"ready": True})

    async def model_metadata(self, request: Request) -> Response:
        model = self._model(request)
        return JSONResponse(
            {
                "name": model.name,
                "versions": self._models.versions(model.name),
                "platform": model.platform,
                "inputs": [_metadata(tensor) for tensor in model.inputs],
                "outputs": [_metadata(tensor) for tensor in model.outputs],
            }
        )

    async def model_ready(self, request: Request) -> Response:
        model = self._model(request)
        if not model.ready():
            raise MienError(Errors.NOT_READY, "The model is not ready.")
        return JSONResponse({"name": model.name, "ready": True})

    async def infer(self, request: Request) -> Response:
        model = self._model(request)
        header, binary = _split(await self._body(request), request.headers.get(_JSON_LENGTH))
        _parameters(header, "request")
        name = header.get("id") or ""
        if not isinstance(name, str) or not is_plain(name):
            raise invalid("id", "It must be text.")
        asked = _listed(header, "outputs", needed=False)
        for index, output in enumerate(asked):
            refuse_extensions(_parameters(output, f"outputs[{index}]"), f"outputs[{index}]")
        names = [_text(output, "name", f"outputs[{index}]") for index, output in enumerate(asked)]
        wanted = wanted_outputs(model, names)
        results = await model.infer(_inputs(model, _listed(header, "inputs"), binary))
        return _response(model, header, wanted, results)

    def _model(self, request: Request) -> ServedModel:
        path = request.path_params
        return self._models.find(path["model"], path.get("version", ""))

    async def _body(self, request: Request) -> bytes:
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise MienError(
                Errors.UNSUPPORTED_MEDIA_TYPE, "The body must not be compressed.", field="body"
            )
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._max:
                raise MienError(
                    Errors.REQUEST_TOO_LARGE, f"At most {self._max} bytes are accepted."
                )
        return bytes(body)


def _answering(method: str, handler: _Handler) -> _Handler:
    """Puts request id, metrics and the protocol's errors around a handler."""

    async def answered(request: Request) -> Response:
        request_id = new_request_id(request.headers.get(HEADER))
        outcome = "ok"
        with (
            use_request_id(request_id),
            timed_request("rest", lambda: method, request.headers, request_id),
        ):
            try:
                response = await handler(request)
            except MienError as error:
                outcome, response = error.kind.code, _error(error)
            except Exception:  # noqa: BLE001 - the outermost frame: logged, answered without its text
                _log.exception("request failed", method=method)
                failure = MienError(Errors.INTERNAL, "The request failed inside Mien.")
                outcome, response = failure.kind.code, _error(failure)
            count_request("rest", method, outcome)
        response.headers[HEADER] = request_id
        return response

    return answered


def _error(error: MienError) -> Response:
    status = _BAD_REQUEST if error.error is Errors.INVALID_REQUEST else error.kind.http
    text = f"{error.field}: {error.detail}" if error.field else error.detail
    response = JSONResponse({"error": text}, status_code=status)
    if error.retry_after is not None:
        response.headers["retry-after"] = str(math.ceil(error.retry_after))
    return response


async def _http_error(_: Request, error: Exception) -> Response:
    """What the framework refused: an unknown path, or another method."""
    if not isinstance(error, HTTPException):
        raise TypeError("this handler is for HTTP errors") from error
    return JSONResponse({"error": error.detail}, error.status_code, dict(error.headers or {}))


def _metadata(tensor: ServedTensor) -> _Json:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _split(body: bytes, json_length: str | None) -> tuple[_Json, memoryview]:
    """The JSON object of a request, and the bytes behind it."""
    length = len(body)
    if json_length is not None:
        if not (json_length.isascii() and json_length.isdigit() and int(json_length) <= length):
            raise invalid(_JSON_LENGTH, "It must be a number of bytes within the body.")
        length = int(json_length)
    try:
        header = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise MienError(Errors.MALFORMED_BODY, "The body is not JSON.") from error
    if not isinstance(header, dict):
        raise MienError(Errors.MALFORMED_BODY, "The body must hold a JSON object.")
    return header, memoryview(body)[length:]


def _inputs(model: ServedModel, tensors: list[_Json], binary: memoryview) -> ServedArrays:
    given = []
    for index, tensor in enumerate(tensors):
        place = f"inputs[{index}]"
        refuse_extensions(_parameters(tensor, place), place)
        given.append(
            GivenTensor(
                _text(tensor, "name", place),
                _text(tensor, "datatype", place),
                _shape(tensor, place),
            )
        )
    matched = check_inputs(model, given)
    arrays: ServedArrays = {}
    for index, target in enumerate(matched):
        place = f"inputs[{index}]"
        size = _parameters(tensors[index], place).get("binary_data_size")
        try:
            if size is None:
                arrays[target.name] = _from_json(target, given[index], tensors[index])
            else:
                taken, binary = _take(binary, size)
                arrays[target.name] = from_raw(target.type, given[index].shape, taken)
        except TensorDataError as error:
            raise invalid(f"{place}.data", str(error)) from error
    if binary:
        raise invalid("body", f"{len(binary)} bytes after the last tensor belong to none.")
    return arrays


def _from_json(target: ServedTensor, given: GivenTensor, tensor: _Json) -> AnyArray:
    data = tensor.get("data")
    if not isinstance(data, list):
        raise TensorDataError("Give the elements as a list, or as bytes with binary_data_size.")
    return from_list(target.type, given.shape, data)


def _take(binary: memoryview, size: object) -> tuple[memoryview, memoryview]:
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary):
        raise TensorDataError("binary_data_size must be a number of bytes that the body has left.")
    return binary[:size], binary[size:]


def _response(
    model: ServedModel, header: _Json, wanted: list[ServedTensor], results: ServedArrays
) -> Response:
    everything = _parameters(header, "request").get("binary_data_output", False)
    asked = {output["name"]: output for output in header.get("outputs") or []}
    described, blocks = [], []
    for tensor in wanted:
        array = results[tensor.name]
        output: _Json = {**_metadata(tensor), "shape": list(array.shape)}
        own = asked.get(tensor.name, {}).get("parameters") or {}
        if own.get("binary_data", everything):
            blocks.append(to_raw(tensor.type, array))
            output["parameters"] = {"binary_data_size": len(blocks[-1])}
        else:
            output["data"] = _to_json(tensor, array)
        described.append(output)
    answer: _Json = {
        "model_name": model.name,
        "model_version": model.version,
        "outputs": described,
    }
    if header.get("id"):
        answer["id"] = header["id"]
    if not blocks:
        return JSONResponse(answer)
    text = json.dumps(answer).encode()
    return Response(
        b"".join([text, *blocks]),
        media_type="application/octet-stream",
        headers={_JSON_LENGTH: str(len(text))},
    )


def _to_json(tensor: ServedTensor, array: AnyArray) -> list[Any]:
    if tensor.type.is_bytes:
        try:
            return [item.decode() for item in to_list(tensor.type, array)]
        except UnicodeDecodeError as error:
            raise invalid("outputs", f"{tensor.name} is no text: ask for binary_data.") from error
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise invalid("outputs", f"{tensor.name} is not finite throughout: ask for binary_data.")
    return to_list(tensor.type, array)


def _listed(header: _Json, name: str, *, needed: bool = True) -> list[_Json]:
    value = header.get(name)
    if value is None and not needed:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise invalid(name, "It must be a list of JSON objects.")
    return value


def _parameters(owner: _Json, place: str) -> Mapping[str, Any]:
    value = owner.get("parameters")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid(f"{place}.parameters", "It must be a JSON object.")
    return value


def _text(owner: _Json, name: str, place: str) -> str:
    value = owner.get(name)
    if not isinstance(value, str):
        raise invalid(f"{place}.{name}", "It must be text.")
    return value


def _shape(tensor: _Json, place: str) -> tuple[int, ...]:
    value = tensor.get("shape")
    if not isinstance(value, list) or not all(type(size) is int for size in value):
        raise invalid(f"{place}.shape", "It must be a list of whole numbers.")
    return tuple(value)
