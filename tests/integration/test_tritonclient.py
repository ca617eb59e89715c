"""The Open Inference Protocol spoken by tritonclient, over gRPC and HTTP."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.integration.inference_server import (
    DIMENSION,
    Server,
    random_batch,
    tiny_server,
)
from tests.integration.triton_python import run_python, triton_python
from tests.tiny_networks import expected


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with tiny_server(tmp_path_factory.mktemp("tiny")) as running:
        yield running


def test_the_stubs_live_beside_another_copy_of_the_protocol() -> None:
    """tritonclient and kserve register the same names; each name fits into a pool once."""
    script = """
    from google.protobuf import descriptor_pb2, descriptor_pool
    from services.rpc.inference import grpc_inference_pb2 as ours
    other = descriptor_pb2.FileDescriptorProto()
    ours.DESCRIPTOR.CopyToProto(other)
    other.name = "grpc_service.proto"
    descriptor_pool.Default().Add(other)
    descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest")
    request = ours.ModelInferRequest(model_name="x", raw_input_contents=[b"1"])
    assert ours.ModelInferRequest.FromString(request.SerializeToString()) == request
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr


_TRITON_CLIENT = """
import sys
import numpy as np
import tritonclient.grpc, tritonclient.http
from tritonclient.utils import InferenceServerException

kind, address, batch_file, target = sys.argv[1:]
module = {"grpc": tritonclient.grpc, "http": tritonclient.http}[kind]
client = module.InferenceServerClient(address)
assert client.is_server_live()
assert client.is_model_ready("tiny") and client.is_model_ready("tiny", "3")
assert not client.is_model_ready("loading")
assert client.get_server_metadata()
metadata = client.get_model_metadata("tiny")
metadata = metadata if kind == "http" else {"name": metadata.name, "versions": [*metadata.versions]}
assert metadata["name"] == "tiny" and metadata["versions"] == ["3"], metadata

def send(model, name, array, datatype, output=None, **options):
    tensor = module.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    wanted = None if output is None else [module.InferRequestedOutput(output)]
    return client.infer(model, [tensor], outputs=wanted, request_id="7", **options)

batch = np.load(batch_file)
answer = send("tiny", "data", batch, "FP32", "embedding", model_version="3")
np.save(target, answer.as_numpy("embedding"))
np.testing.assert_array_equal(
    send("tiny", "data", batch, "FP32").as_numpy("embedding"), answer.as_numpy("embedding")
)
for model, name, array, datatype, words in [
    ("nobody", "data", batch, "FP32", "not served"),
    ("tiny", "image", batch, "FP32", "no such input"),
    ("tiny", "data", batch.astype(np.float16), "FP16", "takes FP32"),
    ("tiny", "data", batch[:, :2], "FP32", "takes the shape"),
    ("busy", "data", np.zeros((1, 2), np.float32), "FP32", "queue is full"),
]:
    try:
        send(model, name, array, datatype)
    except InferenceServerException as error:
        assert words in error.message(), error
        print(error.status())
    else:
        raise AssertionError(words)

inputs = []
mirrored = {
    "BOOL": np.array([[True, False]]), "UINT8": np.array([[1, 255]], np.uint8),
    "UINT16": np.array([[1, 2]], np.uint16), "UINT32": np.array([[1, 2]], np.uint32),
    "UINT64": np.array([[1, 2]], np.uint64), "INT8": np.array([[-1, 2]], np.int8),
    "INT16": np.array([[-1, 2]], np.int16), "INT32": np.array([[-1, 2]], np.int32),
    "INT64": np.array([[-1, 2]], np.int64), "FP16": np.array([[0.5, 2]], np.float16),
    "FP32": np.array([[0.5, 2]], np.float32), "FP64": np.array([[0.5, 2]], np.float64),
    "BYTES": np.array([[b"one", b""]], object),
}
for name, array in mirrored.items():
    tensor = module.InferInput("in_" + name, list(array.shape), name)
    tensor.set_data_from_numpy(array)
    inputs.append(tensor)
answer = client.infer("mirror", inputs)
for name, array in mirrored.items():
    np.testing.assert_array_equal(answer.as_numpy(name), array)
"""


@pytest.mark.parametrize("kind", ["grpc", "http"])
def test_the_real_tritonclient(server: Server, tmp_path: Path, kind: str) -> None:
    python = triton_python("tritonclient", "geventhttpclient")
    batch = random_batch(4)
    np.save(tmp_path / "batch.npy", batch)
    address = {"grpc": server.grpc, "http": server.http.removeprefix("http://")}[kind]
    printed = run_python(
        python, _TRITON_CLIENT, kind, address, tmp_path / "batch.npy", tmp_path / "got.npy"
    )
    got = np.load(tmp_path / "got.npy")
    np.testing.assert_allclose(got, expected(batch, DIMENSION), rtol=1e-4, atol=1e-4)
    refused = {"grpc": "StatusCode.RESOURCE_EXHAUSTED", "http": "429"}[kind]
    assert printed.split()[-1] == refused
