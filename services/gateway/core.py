"""The gateway's core: what REST and gRPC both do, free of either."""

from __future__ import annotations

from dataclasses import dataclass

from services.gallery import DEFAULT_TENANT
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
from services.gateway.seeing import Request, Seeing
from services.gateway.seen import Seen
from services.rpc.mien.v1 import model_pb2
from services.settings import Settings
from services.shared import Shared
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
        show_aligned: the answer is to hold the aligned faces.
    """

    probe: PictureInput
    references: tuple[PictureInput, ...]
    fmr: float | None = None
    threshold: float | None = None
    model: str = ""
    enhance: bool = True
    show_enhanced: bool = False
    show_aligned: bool = False


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
        shared: with other gateways; None for nothing.

    Attributes:
        capacity: what all requests share, those of the gallery too.
    """

    def __init__(
        self,
        pipeline: PicturePipeline,
        embedding: EmbeddingClient,
        enhancement: FaceEnhancement,
        settings: Settings,
        shared: Shared | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._embedding = embedding
        self._enhancement = enhancement
        self._settings = settings
        self.capacity = Capacity(settings.gateway)
        cache = (shared or Shared.alone()).faces
        self._seeing = Seeing(pipeline, embedding, enhancement, self.capacity, settings, cache)
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

    async def verify(self, command: VerifyCommand, tenant: str = DEFAULT_TENANT) -> Verification:
        """Decides for each reference whether it shows the probe's person.

        Args:
            command: what is asked.
            tenant: who asks.

        Raises:
            MienError: a picture cannot be used, the model or its threshold is unknown, or the
                service is busy.
        """
        async with self.capacity.admitted():
            return await self._verify(tenant, command)

    async def close(self) -> None:
        """Frees threads and connections."""
        self._warm = False
        await self.capacity.close()
        self._pipeline.close()
        await self._embedding.close()
        await self._enhancement.close()

    async def _verify(self, tenant: str, command: VerifyCommand) -> Verification:
        watch = Stopwatch()
        model = await self._embedding.model(command.model)
        point = operating_point(
            model, command.fmr, command.threshold, self._settings.decision.default_fmr
        )
        # Crops, synthetic ones too, are not kept: they must be made anew where they are shown.
        shown = command.show_enhanced or command.show_aligned
        request = Request(tenant, model, crop_geometry(model), command.enhance, crops=shown)
        given = [(one.data, one.choice) for one in (command.probe, *command.references)]
        fields = ["probe", *indexed("reference", len(command.references))]
        seen = await self._seeing.chosen(request, given, fields, watch)
        similarities = await self._compare(request, seen, watch)
        name = f"{model.identity.name}@{model.identity.version}"
        limits = self._settings.decision
        (probe, done), *references = [(one.faces[0], one.done[0]) for one in seen]
        of_probe = faults(probe, "probe", limits)
        results = []
        for (reference, enhancement), value in zip(references, similarities, strict=True):
            reasons = of_probe + faults(reference, "reference", limits)
            applied = stricter(
                point, [one.thresholds for one in (done, enhancement) if one is not None]
            )
            decision = decide(value, applied, reasons)
            results.append(
                ReferenceResult(decision, reasons, value, applied, reference, enhancement)
            )
            DECISIONS.labels(name, decision).inc()
            if value is not None:
                SIMILARITY.labels(name).observe(value)
        for one in seen:
            if (face := one.faces[0].face) is not None:
                QUALITY.observe(face.quality.unified)
        return Verification(probe, done, results, model.identity, watch)

    async def _compare(
        self, request: Request, seen: list[Seen], watch: Stopwatch
    ) -> list[float | None]:
        """Similarity to each reference; None where one of the two faces is missing."""
        probe, references = seen[0], seen[1:]
        if probe.faces[0].face is None or all(one.faces[0].face is None for one in references):
            return [None] * len(references)
        await self._seeing.embed(request, seen, watch)
        values: list[float | None] = []
        with watch.stage("compare"):
            for one in references:
                if probe.vector is None or one.vector is None:
                    values.append(None)
                else:
                    values.append(similarity(probe.vector, one.vector, request.model.metric))
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
