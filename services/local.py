"""Mien without its public interfaces, for commands that work on files: same code, same messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from models.zoo import Zoo
from services.audit.trail import Trail
from services.embedding import EmbeddingService, InProcessLink, load_configured
from services.enhancement import EnhancementService, load_enhancer
from services.enhancement import InProcessLink as EnhancementLink
from services.gallery.open import open_gallery
from services.gateway.core import Gateway
from services.gateway.embedding_client import EmbeddingClient
from services.gateway.enhancement import FaceEnhancement
from services.gateway.face_work import FaceWork
from services.gateway.gallery_core import GalleryGateway, thresholds_of_cards
from services.gateway.mapping_client import MappingClient
from services.gateway.pipeline import PicturePipeline
from services.gateway.server import face_enhancement, load_pipeline
from services.mapping import InProcessLink as MappingLink
from services.mapping import MappingService, load_mapper
from services.settings import Settings
from services.shared import Shared


@dataclass(frozen=True)
class LocalMien:
    """A gateway's parts in this process.

    Attributes:
        gateway: the core.
        pipeline: its work on one picture.
        embedding: its way to the embedding service, which runs in this process too.
        enhancement: what mends poor faces.
        mapping: its way to the mapping service.
        gallery: stored people; opened when it is first asked.
    """

    gateway: Gateway
    pipeline: PicturePipeline
    embedding: EmbeddingClient
    enhancement: FaceEnhancement
    mapping: MappingClient
    gallery: GalleryGateway


@asynccontextmanager
async def local_mapping(settings: Settings, maps: tuple[str, ...]) -> AsyncIterator[MappingClient]:
    """Loads maps alone, for work on vectors.

    Args:
        settings: limits and engine.
        maps: as name or name@version.

    Raises:
        ZooError: a map is not known, or its weights are not here.
        EngineError: no engine can run a map.
    """
    zoo = Zoo(settings.home)
    mappers = [await asyncio.to_thread(load_mapper, zoo, one, settings.engine) for one in maps]
    service = MappingService(mappers, settings.mapping)
    try:
        yield MappingClient(MappingLink(service), settings.gateway.timeout_seconds)
    finally:
        await service.close()


@asynccontextmanager
async def local_mien(
    settings: Settings, models: tuple[str, ...], maps: tuple[str, ...] = ()
) -> AsyncIterator[LocalMien]:
    """Loads the pipeline, the embedders and some maps.

    Args:
        settings: limits and engine.
        models: embedders; the first is the default.
        maps: maps of vectors; none by default.

    Raises:
        ZooError: a model is not known, or its weights are not here.
        EngineError: no engine can run a model.
    """
    zoo = Zoo(settings.home)
    embedders = [load_configured(zoo, name, settings.engine) for name in models]
    pipeline = await asyncio.to_thread(load_pipeline, zoo, settings)
    service = EmbeddingService(embedders, settings.embedding)
    client = EmbeddingClient(InProcessLink(service), settings.gateway.timeout_seconds)
    mending, link = None, None
    if settings.gateway.enhance and settings.enhancement.models:
        names = settings.enhancement.models
        enhancers = [load_enhancer(zoo, name, settings.engine) for name in names]
        mending = EnhancementService(enhancers, settings.enhancement)
        link = EnhancementLink(mending)
    enhancement = face_enhancement(link, settings)
    shared = Shared.open(settings)
    gateway = Gateway(pipeline, client, enhancement, settings, shared)
    work = FaceWork(pipeline, client, enhancement, gateway.capacity, settings, shared)
    trail = Trail(settings)
    gallery = GalleryGateway(
        work, lambda: open_gallery(settings, trail=trail), thresholds_of_cards(zoo), trail
    )
    try:
        async with local_mapping(settings, maps) as mapping:
            yield LocalMien(gateway, pipeline, client, enhancement, mapping, gallery)
    finally:
        await gallery.access.close()
        await trail.close()
        await gateway.close()
        await shared.close()
        await service.close()
        if mending is not None:
            await mending.close()
