"""From pictures to enhanced faces: the steps that enrolment and identification share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from services.gateway.capacity import Capacity
from services.gateway.core import PictureInput
from services.gateway.embedding_client import EmbeddingClient
from services.gateway.enhancement import Enhancement, FaceEnhancement
from services.gateway.gallery_models import GalleryModel
from services.gateway.given_vectors import Vector
from services.gateway.pipeline import PicturePipeline, PreparedFace, PreparedPicture
from services.settings import Settings
from services.telemetry import Stopwatch

_BATCH = 32  # crops in one call; a service may be set to take few


@dataclass(frozen=True)
class FaceWork:
    """What works on pictures.

    Attributes:
        pipeline: finds, measures and aligns faces.
        embedding: turns crops into vectors.
        enhancement: mends poor faces.
        capacity: shared with all other requests.
        settings: limits.
    """

    pipeline: PicturePipeline
    embedding: EmbeddingClient
    enhancement: FaceEnhancement
    capacity: Capacity
    settings: Settings

    async def chosen(
        self, pictures: Sequence[PictureInput], fields: Sequence[str], model: GalleryModel
    ) -> list[PreparedFace]:
        """The face that is meant in each picture.

        Raises:
            MienError: a picture cannot be used, or has no face of the index that was named.
        """
        jobs = [
            partial(self.pipeline.prepare, one.data, one.choice, model.geometry, field)
            for one, field in zip(pictures, fields, strict=True)
        ]
        return list(await asyncio.gather(*(self.capacity.in_pool(job) for job in jobs)))

    async def all_faces(
        self, pictures: Sequence[bytes], fields: Sequence[str], model: GalleryModel
    ) -> list[PreparedPicture]:
        """Every face of each picture, the largest first and up to the limit.

        Raises:
            MienError: a picture cannot be used.
        """
        most = self.settings.identification.max_faces
        jobs = [
            partial(self.pipeline.prepare_all, data, model.geometry, field, most)
            for data, field in zip(pictures, fields, strict=True)
        ]
        return list(await asyncio.gather(*(self.capacity.in_pool(job) for job in jobs)))

    async def vectors(
        self, faces: Sequence[PreparedFace], model: GalleryModel, watch: Stopwatch
    ) -> Vector:
        """Embeds faces, so many at once as every embedding service takes.

        Args:
            faces: at least one, each with its crop.
            model: to embed with.
            watch: is told the time of queue and network.

        Returns:
            N x dimension float32.

        Raises:
            MienError: the embedding service refused, failed, or did not answer in time.
        """
        crops = [face.crop for face in faces if face.crop is not None]
        found = []
        for start in range(0, len(crops), _BATCH):
            made = await self.embedding.embed(crops[start : start + _BATCH], model.info)
            watch.add("queue", made.queue_seconds)
            watch.add("inference", made.inference_seconds)
            found.append(made.vectors)
        return np.concatenate(found)

    async def enhanced(
        self,
        faces: Sequence[PreparedFace],
        model: GalleryModel,
        watch: Stopwatch,
        *,
        allowed: bool,
        bulk: bool = False,
    ) -> tuple[list[PreparedFace], list[Enhancement | None]]:
        """The faces, enhanced where that helps the model; see `FaceEnhancement.apply`.

        Raises:
            MienError: the enhancement service is busy, or did not answer in time.
        """
        return await self.enhancement.apply(
            faces,
            model.info,
            model.geometry,
            watch,
            allowed=allowed and self.settings.gateway.enhance,
            bulk=bulk,
        )
