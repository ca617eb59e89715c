"""The gateway's core: what REST and gRPC both do, free of either."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from services.gateway.alignment import CropGeometry
from services.gateway.capacity import Capacity
from services.gateway.decision import (
    Decision,
    OperatingPoint,
    Reason,
    decide,
    faults,
    operating_point,
    similarity,
    stricter,
)
from services.gateway.embedding_client import EmbeddingClient
from services.gateway.enhancement import Enhancement, FaceEnhancement
from services.gateway.faces import FaceChoice
from services.gateway.pipeline import PictureFaces, PicturePipeline, PreparedFace
from services.rpc.mien.v1 import model_pb2
from services.settings import Settings
from services.telemetry import Stopwatch
from services.telemetry.metrics import DECISIONS, QUALITY, SIMILARITY


@dataclass(frozen=True)
class PictureInput:
    """A picture file, and which face is meant in it."""

    data: bytes
    choice: FaceChoice = FaceChoice()


@dataclass(frozen=True)
class VerifyCommand:
    """A probe, its references, and the operating point.

    Attributes:
        probe: the picture in question.
        references: what it is compared with, at least one.
        fmr: target false-match rate; None for the server's default.
        threshold: a threshold of the caller's own, in place of ``fmr``.
        model: "name" or "name@version"; empty for the default.
        enhance: enhance faces that gain by it; False compares all as they are.
        show_enhanced: the answer is to hold the enhanced faces.
    """

    probe: PictureInput
    references: tuple[PictureInput, ...]
    fmr: float | None = None
    threshold: float | None = None
    model: str = ""
    enhance: bool = True
    show_enhanced: bool = False


@dataclass(frozen=True)
class ReferenceResult:
    """The decision for one reference.

    Attributes:
        decision: same, different or inconclusive.
        reasons: why it is inconclusive.
        similarity: in the model's metric; None when there was nothing to compare.
        point: the threshold that was applied, and the false-match rate that it was set for.
        reference: the face in the reference.
        enhancement: what was done to it; None where there is no face.
    """

    decision: Decision
    reasons: list[Reason]
    similarity: float | None
    point: OperatingPoint
    reference: PreparedFace
    enhancement: Enhancement | None


@dataclass(frozen=True)
class Verification:
    """The answer to a `VerifyCommand`."""

    probe: PreparedFace
    probe_enhancement: Enhancement | None
    results: list[ReferenceResult]
    identity: model_pb2.ModelIdentity
    stopwatch: Stopwatch


class Gateway:
    """Verifies and detects.

    Args:
        pipeline: works on pictures.
        embedding: turns crops into vectors.
        enhancement: mends poor faces.
        settings: limits and defaults.

    Attributes:
        capacity: what all requests share, those of the gallery too.
    """

    def __init__(
        self,
        pipeline: PicturePipeline,
        embedding: EmbeddingClient,
        enhancement: FaceEnhancement,
        settings: Settings,
    ) -> None:
        self._pipeline = pipeline
        self._embedding = embedding
        self._enhancement = enhancement
        self._settings = settings
        self.capacity = Capacity(settings.gateway)
        self._warm = False

    @property
    def is_ready(self) -> bool:
        """Whether it has been warmed up."""
        return self._warm

    async def warm_up(self, picture: bytes) -> None:
        """Runs the whole path once, so that the first caller does not wait for it.

        Args:
            picture: any picture file; it need not show a face.

        Raises:
            MienError: the embedding service does not answer.
        """
        await self._embedding.refresh(wait=True)
        model = await self._embedding.model("")
        if self._settings.gateway.enhance:
            await self._enhancement.warm_up()
        geometry = crop_geometry(model)
        await self.capacity.in_pool(
            lambda: self._pipeline.prepare(picture, FaceChoice(), geometry, "")
        )
        self._warm = True

    async def models(self) -> list[model_pb2.ModelInfo]:
        """The embedding models that are served.

        Raises:
            MienError: the embedding service does not answer.
        """
        return await self._embedding.refresh()

    async def detect(self, data: bytes, field: str) -> PictureFaces:
        """Finds and measures every face of a picture.

        Raises:
            MienError: the picture cannot be used, or the service is busy.
        """
        async with self.capacity.admitted():
            return await self.capacity.in_pool(lambda: self._pipeline.find_all(data, field))

    async def verify(self, command: VerifyCommand) -> Verification:
        """Decides for each reference whether it shows the probe's person.

        Raises:
            MienError: a picture cannot be used, the model or its threshold is unknown, or the
                service is busy.
        """
        async with self.capacity.admitted():
            return await self._verify(command)

    async def close(self) -> None:
        """Frees threads and connections."""
        self._warm = False
        await self.capacity.close()
        await self._embedding.close()
        await self._enhancement.close()

    async def _verify(self, command: VerifyCommand) -> Verification:
        watch = Stopwatch()
        model = await self._embedding.model(command.model)
        point = operating_point(
            model, command.fmr, command.threshold, self._settings.decision.default_fmr
        )
        geometry = crop_geometry(model)
        prepared = await self._prepare_all(command, geometry)
        for one in prepared:
            watch.merge(one.stopwatch)
        allowed = command.enhance and self._settings.gateway.enhance
        prepared, done = await self._enhancement.apply(
            prepared, model, geometry, watch, allowed=allowed
        )
        probe, references = prepared[0], prepared[1:]
        similarities = await self._compare(probe, references, model, watch)
        name = f"{model.identity.name}@{model.identity.version}"
        limits = self._settings.decision
        of_probe = faults(probe, "probe", limits)
        results = []
        for reference, enhancement, value in zip(references, done[1:], similarities, strict=True):
            reasons = of_probe + faults(reference, "reference", limits)
            applied = stricter(
                point, [one.thresholds for one in (done[0], enhancement) if one is not None]
            )
            decision = decide(value, applied, reasons)
            results.append(
                ReferenceResult(decision, reasons, value, applied, reference, enhancement)
            )
            DECISIONS.labels(name, decision).inc()
            if value is not None:
                SIMILARITY.labels(name).observe(value)
        for one in prepared:
            if one.face is not None:
                QUALITY.observe(one.face.quality.unified)
        return Verification(probe, done[0], results, model.identity, watch)

    async def _prepare_all(
        self, command: VerifyCommand, geometry: CropGeometry
    ) -> list[PreparedFace]:
        """Works on all pictures side by side. The first that cannot be used ends the request."""
        fields = ["probe", *indexed("reference", len(command.references))]
        inputs = [command.probe, *command.references]
        tasks = [
            self.capacity.in_pool(
                partial(self._pipeline.prepare, given.data, given.choice, geometry, field)
            )
            for given, field in zip(inputs, fields, strict=True)
        ]
        return list(await asyncio.gather(*tasks))

    async def _compare(
        self,
        probe: PreparedFace,
        references: list[PreparedFace],
        model: model_pb2.ModelInfo,
        watch: Stopwatch,
    ) -> list[float | None]:
        """Similarity to each reference; None where one of the two faces is missing."""
        comparable = [index for index, one in enumerate(references) if one.crop is not None]
        if probe.crop is None or not comparable:
            return [None] * len(references)
        crops = [probe.crop, *(references[index].crop for index in comparable)]
        embedded = await self._embedding.embed([crop for crop in crops if crop is not None], model)
        watch.add("queue", embedded.queue_seconds)
        watch.add("inference", embedded.inference_seconds)
        values: list[float | None] = [None] * len(references)
        with watch.stage("compare"):
            for row, index in enumerate(comparable, start=1):
                values[index] = similarity(embedded.vectors[0], embedded.vectors[row], model.metric)
        return values

    def refuse_if_full(self) -> None:
        """Answers "busy" before a request is even read.

        Raises:
            MienError: all places for requests at work are taken.
        """
        self.capacity.refuse_if_full()


def indexed(name: str, count: int) -> list[str]:
    """Names of a request's fields: one alone has no index."""
    return [name] if count == 1 else [f"{name}s[{index}]" for index in range(count)]


def crop_geometry(model: model_pb2.ModelInfo) -> CropGeometry:
    """The crop that a model takes."""
    crop = model.crop
    return CropGeometry(crop.width, crop.height, crop.template, crop.template_scale)
