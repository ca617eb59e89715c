"""The gateway's way to the gallery, and to the model that the gallery lives by."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from services.errors import Errors, MienError
from services.gallery import Gallery, Space
from services.gateway.alignment import CropGeometry
from services.gateway.core import crop_geometry
from services.gateway.embedding_client import EmbeddingClient
from services.gateway.search_decision import MapThresholds
from services.rpc.mien.v1 import model_pb2
from services.telemetry import get_logger
from services.telemetry.metrics import GALLERY_TEMPLATES

_log = get_logger(__name__)
_RETRY_SECONDS = 2.0  # between two attempts to open: a store that is down is not asked all the time


@dataclass(frozen=True)
class GalleryModel:
    """A space of the gallery, and the served model that makes its vectors."""

    space: Space
    info: model_pb2.ModelInfo

    @property
    def geometry(self) -> CropGeometry:
        """The crop that the model takes."""
        return crop_geometry(self.info)


class GalleryAccess:
    """Opens the gallery when it is first needed, so that verification does without it.

    Args:
        opening: opens it.
        embedding: the way to the embedding service.
        first_model: what an empty gallery is to begin with, as name or name@version; empty for the
            default embedder.
        map_thresholds: thresholds of the templates that a map made.
    """

    def __init__(
        self,
        opening: Callable[[], Awaitable[Gallery]],
        embedding: EmbeddingClient,
        first_model: str,
        map_thresholds: MapThresholds,
    ) -> None:
        self.map_thresholds = map_thresholds
        self._opening = opening
        self._embedding = embedding
        self._first_model = first_model
        self._gallery: Gallery | None = None
        self._failure: MienError | None = None
        self._failed_at = 0.0
        self._lock = asyncio.Lock()

    async def warm_up(self) -> None:
        """Opens the gallery before anybody waits for it; one that cannot be opened is a warning.

        Raises:
            SettingsError: the address of the gallery is not valid.
        """
        try:
            await self.gallery()
        except MienError as error:
            _log.warning("the gallery cannot be opened", reason=error.detail)

    async def gallery(self) -> Gallery:
        """The open gallery.

        Raises:
            MienError: it cannot be opened.
        """
        if self._gallery is None:
            async with self._lock:
                await self._open()
        if self._gallery is None:
            raise MienError(Errors.GALLERY_UNAVAILABLE, "The gallery is closed.")
        return self._gallery

    async def _open(self) -> None:
        if self._gallery is not None:  # another request has opened it meanwhile
            return
        if self._failure is not None and time.monotonic() < self._failed_at + _RETRY_SECONDS:
            raise self._failure
        try:
            self._gallery = await self._opening()
        except MienError as error:
            self._failure, self._failed_at = error, time.monotonic()
            raise

    async def live(self) -> GalleryModel:
        """The model that is searched.

        Raises:
            MienError: nothing was enrolled yet, or the model is not served.
        """
        space = await (await self.gallery()).live()
        if space is None:
            raise MienError(Errors.GALLERY_EMPTY, "Nobody has been enrolled yet.")
        found = await self._served(space)
        if found is None:
            raise MienError(
                Errors.GALLERY_MODEL_UNAVAILABLE,
                f"The gallery lives by {space.reference}, which is not served with its weights.",
            )
        return found

    async def to_enrol(self) -> list[GalleryModel]:
        """The models that an enrolment needs: the live one, then those of other collections.

        While a migration runs, its target is among them, so that what is enrolled meanwhile has
        native templates on both sides. For an empty gallery it is the settings' first model, whose
        collection is not made yet.

        Raises:
            MienError: the live or first model is not served.
        """
        gallery = await self.gallery()
        if await gallery.live() is None:
            return [await self.first()]
        live = await self.live()
        spaces = [one.space for one in await gallery.collections() if one.space != live.space]
        others = [await self._served(space) for space in spaces]
        return [live, *(one for one in others if one is not None)]

    async def first(self) -> GalleryModel:
        """The model that an empty gallery begins with.

        Raises:
            MienError: it is not served.
        """
        info = await self._embedding.model(self._first_model)
        return GalleryModel(space_of(info), info)

    async def measure(self) -> None:
        """Brings the gauge of the gallery's size up to date; an unavailable gallery leaves it."""
        if self._gallery is None:
            return
        try:
            collections = await self._gallery.collections()
        except MienError:
            return
        GALLERY_TEMPLATES.set(sum(one.templates for one in collections if one.live))

    async def close(self) -> None:
        """Closes the gallery."""
        if self._gallery is not None:
            await self._gallery.close()
            self._gallery = None

    async def _served(self, space: Space) -> GalleryModel | None:
        """The served model of a space; None if it is not served, or with other weights."""
        try:
            info = await self._embedding.model(space.reference)
        except MienError as error:
            if error.error is Errors.MODEL_UNKNOWN:
                return None
            raise
        return GalleryModel(space, info) if space_of(info) == space else None


def space_of(model: model_pb2.ModelInfo) -> Space:
    """What vectors of a served model share."""
    identity = model.identity
    return Space(
        model=identity.name,
        version=identity.version,
        weights_sha256=identity.weights_sha256,
        preprocessing_sha256=identity.preprocessing_sha256,
        dimension=model.dimension,
        metric="euclidean" if model.metric == model_pb2.METRIC_EUCLIDEAN else "cosine",
    )


def identity_of(space: Space, map_name: str = "") -> model_pb2.ModelIdentity:
    """Identity of a space's vectors: native, or mapped by ``map_name``."""
    mapped = model_pb2.VECTOR_ORIGIN_MAPPED if map_name else model_pb2.VECTOR_ORIGIN_NATIVE
    return model_pb2.ModelIdentity(
        name=space.model,
        version=space.version,
        weights_sha256=space.weights_sha256,
        preprocessing_sha256=space.preprocessing_sha256,
        origin=mapped,
        map=map_name,
    )
