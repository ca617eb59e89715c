"""What works on pictures: the parts that enrolment and identification share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

from services.gateway.capacity import Capacity
from services.gateway.core import PictureInput
from services.gateway.embedding_client import EmbeddingClient
from services.gateway.enhancement import Enhancement, FaceEnhancement
from services.gateway.gallery_models import GalleryModel
from services.gateway.pipeline import PicturePipeline, PreparedFace
from services.gateway.seeing import Seeing
from services.settings import Settings
from services.shared import Shared
from services.telemetry import Stopwatch


@dataclass(frozen=True)
class FaceWork:
    """What works on pictures.

    Attributes:
        pipeline: finds, measures and aligns faces.
        embedding: turns crops into vectors.
        enhancement: mends poor faces.
        capacity: shared with all other requests.
        settings: limits.
        shared: with other gateways.
    """

    pipeline: PicturePipeline
    embedding: EmbeddingClient
    enhancement: FaceEnhancement
    capacity: Capacity
    settings: Settings
    shared: Shared = field(default_factory=Shared.alone)

    @cached_property
    def seeing(self) -> Seeing:
        """What looks at the pictures that are compared, and keeps what it saw."""
        return Seeing(
            self.pipeline,
            self.embedding,
            self.enhancement,
            self.capacity,
            self.settings,
            self.shared.faces,
        )

    async def chosen(
        self, pictures: Sequence[PictureInput], fields: Sequence[str], model: GalleryModel
    ) -> list[PreparedFace]:
        """The face that is meant in each picture, aligned only: for enrolment, which keeps none.

        Raises:
            MienError: a picture cannot be used, or has no face of the index that was named.
        """
        jobs = [
            partial(self.pipeline.prepare, one.data, one.choice, model.geometry, field)
            for one, field in zip(pictures, fields, strict=True)
        ]
        return list(await asyncio.gather(*(self.capacity.in_pool(job) for job in jobs)))

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
