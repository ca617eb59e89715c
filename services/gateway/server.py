"""Starts and stops the gateway: REST and gRPC over one core, in one event loop."""

from __future__ import annotations

import asyncio

import cv2
import numpy as np

from models.zoo import DetectorCard, Zoo, ZooError
from services.access import Guard
from services.audit.keys import AuditedKeys
from services.audit.trail import Trail
from services.cameras.service import Cameras
from services.gallery.open import open_gallery
from services.gateway.access_interceptor import AccessInterceptor
from services.gateway.access_service import SERVICE_NAME as ACCESS_SERVICE
from services.gateway.access_service import AccessServicer
from services.gateway.camera_service import SERVICE_NAME as CAMERA_SERVICE
from services.gateway.camera_service import CameraServicer
from services.gateway.console import is_on
from services.gateway.core import Gateway
from services.gateway.detection import USUAL_SIZES, FaceDetector
from services.gateway.embedding_client import EmbeddingClient, EmbeddingLink
from services.gateway.enhancement import FaceEnhancement
from services.gateway.enhancement_client import EnhancementClient, EnhancementLink
from services.gateway.face_service import SERVICE_NAME, FaceServicer
from services.gateway.face_work import FaceWork
from services.gateway.gallery_core import GalleryGateway, thresholds_of_cards
from services.gateway.gallery_service import SERVICE_NAME as GALLERY_SERVICE
from services.gateway.gallery_service import GalleryServicer
from services.gateway.imaging import ImageLimits
from services.gateway.mapping_link import MappingLink
from services.gateway.migration_access import MigrationAccess
from services.gateway.migration_service import SERVICE_NAME as MIGRATION_SERVICE
from services.gateway.migration_service import MigrationServicer
from services.gateway.pipeline import PicturePipeline
from services.gateway.rest import create_app
from services.gateway.retention_loop import RetentionLoop
from services.http import HttpServer, gateway_http_tls
from services.rpc.mien.v1 import (
    access_pb2_grpc,
    camera_pb2_grpc,
    face_pb2_grpc,
    gallery_pb2_grpc,
    migration_pb2_grpc,
)
from services.rpc.server import RpcServer
from services.rpc.tls import gateway_credentials
from services.runtime import EngineOptions, Gate, load_engine
from services.runtime.openvino_engine import OpenVinoEngine
from services.settings import Settings
from services.shared import Shared
from services.telemetry import get_logger

_log = get_logger(__name__)
_SLACK = 64 * 1024


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
    engine = load_engine(
        zoo.weights(card), "openvino", options, gate=Gate((0.0, 255.0), zoo.engines)
    )
    if isinstance(engine, OpenVinoEngine):
        engine.specialise([(1, 3, *size) for size in USUAL_SIZES])
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
    detector = load_detector(zoo, settings)
    return PicturePipeline(detector, limits, settings.detection)


def face_enhancement(link: EnhancementLink | None, settings: Settings) -> FaceEnhancement:
    """What mends poor faces, by this way to the enhancement service."""
    seconds = settings.gateway.timeout_seconds
    return FaceEnhancement(None if link is None else EnhancementClient(link, seconds))


class GatewayServer:
    """The gateway as a running service.

    Args:
        settings: addresses, limits and defaults.
        zoo: where the detector comes from.
        link: the way to the embedding service.
        enhancement: the way to the enhancement service; None to do without.
        mapping: the way to the mapping service, for migrations; likewise.
        guard: lets callers in; None to let everybody in.
        shared: with other gateways; whoever gives it closes it. None: as the settings say.
    """

    def __init__(
        self,
        settings: Settings,
        zoo: Zoo,
        link: EmbeddingLink,
        enhancement: EnhancementLink | None = None,
        mapping: MappingLink | None = None,
        guard: Guard | None = None,
        shared: Shared | None = None,
    ) -> None:
        self._settings = settings
        gateway = settings.gateway
        pipeline = load_pipeline(zoo, settings)
        client = EmbeddingClient(link, gateway.timeout_seconds)
        mending = face_enhancement(enhancement, settings)
        self._owns_shared = shared is None
        self.shared = Shared.open(settings) if shared is None else shared
        self.core = Gateway(pipeline, client, mending, settings, self.shared)
        image = settings.image
        work = FaceWork(pipeline, client, mending, self.core.capacity, settings, self.shared)
        self.audit = Trail(settings)
        if guard is not None:
            guard.on_denial = self.audit.refused
        keys = None if guard is None else AuditedKeys(guard.admin, self.audit)
        self.gallery = GalleryGateway(
            work,
            lambda: open_gallery(settings, trail=self.audit),
            thresholds_of_cards(zoo),
            self.audit,
        )
        self.migrations = MigrationAccess(self.gallery.access, mapping, settings, zoo, self.audit)
        self._retention = RetentionLoop(self.gallery.access, settings, self.audit)
        self.cameras = Cameras(work, self.gallery.models)
        self.gallery.subjects.forgets["tracks"] = self.cameras.forget
        self._rpc = RpcServer(
            f"{gateway.grpc_host}:{gateway.grpc_port}",
            [SERVICE_NAME, GALLERY_SERVICE, MIGRATION_SERVICE, CAMERA_SERVICE, ACCESS_SERVICE],
            image.max_bytes * (image.max_references + 1) + _SLACK,
            gateway_credentials(settings.tls),
            [] if guard is None else [AccessInterceptor(guard)],
            settings.connections,
        )
        face_pb2_grpc.add_FaceServiceServicer_to_server(
            FaceServicer(self.core, image.max_references), self._rpc.server
        )
        gallery_pb2_grpc.add_GalleryServiceServicer_to_server(
            GalleryServicer(self.gallery), self._rpc.server
        )
        migration_pb2_grpc.add_MigrationServiceServicer_to_server(
            MigrationServicer(self.migrations), self._rpc.server
        )
        camera_pb2_grpc.add_CameraServiceServicer_to_server(
            CameraServicer(self.cameras, self.gallery.enroller), self._rpc.server
        )
        access_pb2_grpc.add_AccessServiceServicer_to_server(AccessServicer(keys), self._rpc.server)
        self._rest = HttpServer(
            create_app(
                self.core,
                self.gallery,
                self.migrations,
                self._retention,
                image,
                guard,
                keys,
                settings.connections.body_bytes,
                console=is_on(gateway, asks_for_keys=guard is not None),
            ),
            gateway.http_host,
            gateway.http_port,
            setting="MIEN_GATEWAY__HTTP_PORT",
            drain_seconds=gateway.drain_seconds,
            tls=gateway_http_tls(settings.tls),
            limits=settings.connections,
        )

    @property
    def rest_url(self) -> str:
        """Where REST is served."""
        return self._rest.url

    @property
    def grpc_address(self) -> str:
        """Where gRPC is served."""
        return self._rpc.address

    async def start(self) -> None:
        """Listens, warms up, then says that it is ready.

        Raises:
            MienError: the embedding service does not answer.
            SettingsError: the address of the gallery is not valid.
        """
        await self._rpc.start()
        self._rest.start()
        await self.cameras.start()
        await self.core.warm_up(_blank_picture())
        await self.gallery.access.warm_up()
        await self.migrations.take_up()
        self._retention.start()
        await self.audit.policy()
        await self._rpc.ready()
        _log.info("gateway ready", rest=self.rest_url, grpc=self.grpc_address)

    async def stop(self, grace: float) -> None:
        """Turns new work away, finishes what is at work for ``grace`` seconds, then stops."""
        rest = asyncio.create_task(self._rest.stop())
        self.cameras.refuse_streams()
        await self._rpc.stop(grace)
        await self.cameras.close()
        await rest
        await self._retention.close()
        await self.migrations.close()
        await self.gallery.access.close()
        await self.audit.close()
        await self.core.close()
        if self._owns_shared:
            await self.shared.close()


def _blank_picture() -> bytes:
    """A grey JPEG of the usual size, to warm up with."""
    _, encoded = cv2.imencode(".jpg", np.full((256, 256, 3), 127, np.uint8))
    return bytes(encoded)
