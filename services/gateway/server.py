"""Starts and stops the gateway: REST and gRPC over one core, in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import cv2
import numpy as np
import uvicorn

from models.zoo import DetectorCard, Zoo, ZooError
from services.gateway.core import Gateway
from services.gateway.detection import FaceDetector
from services.gateway.embedding_client import EmbeddingClient
from services.gateway.face_service import SERVICE_NAME, FaceServicer
from services.gateway.imaging import ImageLimits
from services.gateway.pipeline import PicturePipeline
from services.gateway.rest import create_app
from services.rpc.mien.v1 import face_pb2_grpc
from services.rpc.server import RpcServer
from services.runtime import EngineOptions, load_engine
from services.settings import Settings
from services.telemetry import get_logger

_log = get_logger(__name__)
_SLACK = 64 * 1024
_KEEP_ALIVE = 75  # seconds that an idle connection stays open


def load_detector(zoo: Zoo, settings: Settings) -> FaceDetector:
    """Loads the face detector that the settings name.

    Raises:
        ZooError: it is not known, or its weights are not here.
        EngineError: no engine can run it.
    """
    card = zoo.card(settings.detection.model)
    if not isinstance(card, DetectorCard):
        raise ZooError(f"{card.reference} is a {card.kind}, not a detector.")
    options = EngineOptions(
        threads=settings.engine.threads, free_dimensions=(("input", (1, 3, -1, -1)),)
    )
    # YuNet is published with a fixed size; only OpenVINO can free it (ONNX Runtime cannot).
    engine = load_engine(zoo.weights(card), "openvino", options)
    detector = FaceDetector(
        card, engine, settings.detection.min_score, settings.detection.max_faces
    )
    detector.warm_up()
    return detector


def load_pipeline(zoo: Zoo, settings: Settings) -> PicturePipeline:
    """The gateway's work on one picture, with the detector loaded.

    Raises:
        ZooError: the detector is not known, or its weights are not here.
        EngineError: no engine can run it.
    """
    limits = ImageLimits(settings.image.max_bytes, settings.image.max_pixels)
    return PicturePipeline(load_detector(zoo, settings), limits)


class GatewayServer:
    """The gateway as a running service.

    Args:
        settings: addresses, limits and defaults.
        zoo: where the detector comes from.
        embedding_address: "host:port" or "unix:PATH" of the embedding service.
    """

    def __init__(self, settings: Settings, zoo: Zoo, embedding_address: str) -> None:
        self._settings = settings
        gateway = settings.gateway
        workers = gateway.workers or EngineOptions().resolved_threads()
        self.core = Gateway(
            load_pipeline(zoo, settings),
            EmbeddingClient(embedding_address, gateway.timeout_seconds),
            settings,
            workers,
        )
        image = settings.image
        self._rpc = RpcServer(
            f"{gateway.grpc_host}:{gateway.grpc_port}",
            [SERVICE_NAME],
            image.max_bytes * (image.max_references + 1) + _SLACK,
        )
        face_pb2_grpc.add_FaceServiceServicer_to_server(
            FaceServicer(self.core, image.max_references), self._rpc.server
        )
        self._socket = _listen(gateway.http_host, gateway.http_port)
        self._rest = _Rest(
            uvicorn.Config(
                create_app(self.core, image),
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=round(gateway.drain_seconds),
            )
        )
        self._rest_task: asyncio.Task[None] | None = None

    @property
    def rest_url(self) -> str:
        """Where REST is served."""
        host, port = self._socket.getsockname()[:2]
        return f"http://{host}:{port}"

    @property
    def grpc_address(self) -> str:
        """Where gRPC is served."""
        return self._rpc.address

    async def start(self) -> None:
        """Listens, warms up, then says that it is ready.

        Raises:
            MienError: the embedding service does not answer.
        """
        await self._rpc.start()
        self._rest_task = asyncio.create_task(self._rest.serve(sockets=[self._socket]))
        await self.core.warm_up(_blank_picture())
        await self._rpc.ready()
        _log.info("gateway ready", rest=self.rest_url, grpc=self.grpc_address)

    async def stop(self, grace: float) -> None:
        """Turns new work away, finishes what is at work for ``grace`` seconds, then stops."""
        self._rest.should_exit = True
        await self._rpc.stop(grace)
        if self._rest_task is not None:
            await self._rest_task
        await self.core.close()


class _Rest(uvicorn.Server):
    """uvicorn without signal handling of its own: one place stops all services."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        """Leaves signals to `mien serve`."""
        yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=2048)
    listener.set_inheritable(True)
    return listener


def _blank_picture() -> bytes:
    """A grey JPEG of the usual size, to warm up with."""
    _, encoded = cv2.imencode(".jpg", np.full((256, 256, 3), 127, np.uint8))
    return bytes(encoded)
