"""The models that a gallery's vectors are of, as they are served."""

from __future__ import annotations

import time
from dataclasses import dataclass

from services.errors import Errors, MienError
from services.gallery import Collection, Gallery, Space
from services.gallery.checks import checked_tenant
from services.gallery.spaces import space_of_model
from services.gateway.alignment import CropGeometry
from services.gateway.core import crop_geometry
from services.gateway.embedding_client import EmbeddingClient
from services.gateway.gallery_access import GalleryAccess
from services.gateway.search_decision import MapThresholds
from services.rpc.mien.v1 import model_pb2

# Listing collections counts their templates, which takes longer the more there are. Most changes
# are told by the gallery's edition. What is enrolled without a collection as new as this reaches it
# by its migration.
_KNOWN_SECONDS = 5.0


@dataclass(frozen=True)
class GalleryModel:
    """A space of the gallery, and the served model that makes its vectors."""

    space: Space
    info: model_pb2.ModelInfo

    @property
    def geometry(self) -> CropGeometry:
        """The crop that the model takes."""
        return crop_geometry(self.info)


@dataclass(frozen=True)
class GalleryInfo:
    """What a tenant may know of the gallery.

    Attributes:
        collections: the live one first.
        searchable: how many of the tenant's templates a search compares with, for each collection.
        first_model: what the first enrolment will use, as "name@version"; empty once one is live.
    """

    collections: list[Collection]
    searchable: list[int]
    first_model: str


class GalleryModels:
    """Finds the model that a request needs.

    Args:
        access: the way to the gallery.
        embedding: the way to the embedding service.
        first_model: what an empty gallery is to begin with, as name or name@version; empty for the
            default embedder.
        map_thresholds: thresholds of the templates that a map made.

    Attributes:
        access: as given.
        map_thresholds: as given.
    """

    def __init__(
        self,
        access: GalleryAccess,
        embedding: EmbeddingClient,
        first_model: str,
        map_thresholds: MapThresholds,
    ) -> None:
        self.access = access
        self.map_thresholds = map_thresholds
        self._embedding = embedding
        self._first_model = first_model
        self._known: list[Space] = []
        self._known_until = 0.0
        self._edition = ""

    async def gallery(self) -> Gallery:
        """The open gallery.

        Raises:
            MienError: it cannot be opened.
        """
        return await self.access.gallery()

    async def describe(self, tenant: str) -> GalleryInfo:
        """The gallery as a tenant sees it.

        Raises:
            MienError: the tenant's name is not valid, or the gallery cannot be used.
        """
        checked_tenant(tenant)
        gallery = await self.gallery()
        collections = await gallery.collections()
        counts = [await gallery.searchable(tenant, one.space) for one in collections]
        first = "" if collections else (await self.first()).space.reference
        return GalleryInfo(collections, counts, first)

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
        edition = await gallery.edition()
        if edition != self._edition or time.monotonic() > self._known_until:
            self._known = [one.space for one in await gallery.collections()]
            self._known_until, self._edition = time.monotonic() + _KNOWN_SECONDS, edition
        others = [await self._served(space) for space in self._known if space != live.space]
        return [live, *(one for one in others if one is not None)]

    def forget(self) -> None:
        """Looks at the collections anew next time, because one has changed."""
        self._known_until = 0.0

    async def first(self) -> GalleryModel:
        """The model that an empty gallery begins with.

        Raises:
            MienError: it is not served.
        """
        info = await self._embedding.model(self._first_model)
        return GalleryModel(space_of_model(info), info)

    async def _served(self, space: Space) -> GalleryModel | None:
        """The served model of a space; None if it is not served, or with other weights."""
        try:
            info = await self._embedding.model(space.reference)
        except MienError as error:
            if error.error is Errors.MODEL_UNKNOWN:
                return None
            raise
        return GalleryModel(space, info) if space_of_model(info) == space else None


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
