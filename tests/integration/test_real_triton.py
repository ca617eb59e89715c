"""An exported repository on the Triton server that nvidia-pytriton ships, with Mien as its client.

That server has the Python backend only, so the repository is exported for it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import grpc
import numpy as np
import pytest

from models.zoo import Zoo
from services.embedding import Embedder, load_embedder
from services.rpc.inference import grpc_inference_pb2 as pb
from services.rpc.inference.grpc_inference_pb2_grpc import GRPCInferenceServiceStub
from services.runtime import EngineError, EngineOptions
from services.runtime.triton_engine import EngineBusyError, RemoteModel, TritonEngine
from services.triton_export import TritonOptions, export_triton
from tests.integration.inference_server import NO_PROXY, unused_port
from tests.integration.triton_python import run_python, triton_python

pytestmark = pytest.mark.slow

START_SECONDS = 90.0
MAX_BATCH = 4
MAX_QUEUE = 2
_PLACES = """
import importlib.util, sys
print(importlib.util.find_spec("pytriton").submodule_search_locations[0])
print(f"{sys.version_info.major}.{sys.version_info.minor}")
"""


@dataclass(frozen=True)
class Triton:
    address: str
    version: str


def _start(
    python: str, repository: Path, work: Path, port: int, log: IO[bytes]
) -> subprocess.Popen[bytes]:
    package, version = run_python(python, _PLACES).split()
    shipped = Path(package) / "tritonserver"
    # The server looks for the stub of one Python version in its backend's folder.
    backends = work / "backends"
    shutil.copytree(shipped / "backends", backends)
    stub = "triton_python_backend_stub"
    shutil.copy(shipped / "python_backend_stubs" / version / stub, backends / "python" / stub)
    libraries = Path(package).parent / "nvidia_pytriton.libs"
    return subprocess.Popen(
        [
            str(shipped / "bin" / "tritonserver"),
            f"--model-repository={repository}",
            f"--backend-directory={backends}",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={port}",
            "--allow-http=false",
            "--allow-metrics=false",
        ],
        stdout=log,
        stderr=log,
        env={
            **os.environ,
            "LD_LIBRARY_PATH": f"{libraries}:{os.environ.get('LD_LIBRARY_PATH', '')}",
            "PATH": f"{Path(python).parent}:{os.environ['PATH']}",
        },
    )


@pytest.fixture(scope="module")
def triton(mien_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """A Triton server that runs SFace and YuNet as `mien export triton` writes them."""
    python = triton_python("pytriton", "onnxruntime")
    folder = tmp_path_factory.mktemp("triton")
    options = TritonOptions(
        backend="python", device="cpu", max_batch=MAX_BATCH, max_queue=MAX_QUEUE
    )
    export_triton(Zoo(mien_home), ["sface", "yunet"], folder / "repository", options)
    port = unused_port()
    log_file = folder / "log"
    with log_file.open("wb") as log:
        process = _start(python, folder / "repository", folder, port, log)
        try:
            address = f"127.0.0.1:{port}"
            version = _wait(process, address, log_file)
            yield Triton(address, version)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> str:
    """Waits until all models are warm; skips where the server cannot run at all."""
    deadline = time.monotonic() + START_SECONDS
    with grpc.insecure_channel(address, options=NO_PROXY) as channel:
        stub = GRPCInferenceServiceStub(channel)
        while time.monotonic() < deadline:
            if process.poll() is not None:
                said = log.read_text("utf-8", errors="replace")
                # A model that Triton refuses is our fault; a server that cannot run here is not.
                assert "failed to load" not in said, said[-3000:]
                pytest.skip(f"tritonserver does not start here: {said[-500:]}")
            try:
                if stub.ServerReady(pb.ServerReadyRequest(), timeout=1).ready:
                    return str(stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=5).version)
            except grpc.RpcError:
                pass
            time.sleep(0.2)
    pytest.skip(f"tritonserver was not ready within {START_SECONDS:g} s")


def test_triton_gives_the_vectors_that_mien_gives(triton: Triton, mien_home: Path) -> None:
    zoo = Zoo(mien_home)
    local = load_embedder(zoo, "sface", "onnxruntime", EngineOptions(threads=1))
    engine = TritonEngine(RemoteModel(triton.address, "sface", "1", max_batch=MAX_BATCH))
    remote = Embedder(zoo.embedder("sface"), engine)
    crops = np.random.default_rng(5).integers(0, 256, (11, 112, 112, 3), np.uint8)
    try:
        np.testing.assert_allclose(remote.embed(crops), local.embed(crops), atol=1e-4)
        assert engine.info.engine == f"triton {triton.version}"
        assert engine.info.inputs[0].shape == (-1, 3, 112, 112)
    finally:
        remote.close()
        local.close()


def test_triton_runs_the_detector_on_pictures_of_any_size(triton: Triton) -> None:
    engine = TritonEngine(RemoteModel(triton.address, "yunet-2023mar", max_batch=MAX_BATCH))
    pictures = np.random.default_rng(6).uniform(0, 255, (2, 3, 64, 128)).astype(np.float32)
    outputs = engine.infer({"input": pictures})
    assert outputs["bbox_8"].shape == (2, 128, 4)
    assert outputs["kps_32"].shape == (2, 8, 10)
    engine.close()


@pytest.mark.parametrize(("name", "version"), [("nobody", ""), ("sface", "7")])
def test_triton_says_that_a_model_is_not_there(triton: Triton, name: str, version: str) -> None:
    with pytest.raises(EngineError, match="is not there"):
        TritonEngine(RemoteModel(triton.address, name, version))


def test_triton_refuses_more_rows_than_the_configuration_allows(triton: Triton) -> None:
    engine = TritonEngine(RemoteModel(triton.address, "sface", max_batch=MAX_BATCH + 1))
    with pytest.raises(EngineError, match="did not take this input"):
        engine.infer({"data": np.zeros((MAX_BATCH + 1, 3, 112, 112), np.float32)})
    engine.close()


def test_triton_with_a_full_queue_is_busy_not_broken(triton: Triton) -> None:
    engine = TritonEngine(RemoteModel(triton.address, "sface", max_batch=MAX_BATCH))
    batch = np.zeros((MAX_BATCH, 3, 112, 112), np.float32)

    def outcome(_: int) -> str:
        try:
            engine.infer({"data": batch})
        except EngineError as error:
            return type(error).__name__
        return "done"

    with ThreadPoolExecutor(32) as pool:
        outcomes = set(pool.map(outcome, range(64)))
    engine.close()
    assert outcomes == {"done", EngineBusyError.__name__}
