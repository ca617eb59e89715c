"""Verification against a stored subject: is the probe this person?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.audit.record import Action
from services.audit.trail import Trail
from services.errors import Errors, MienError
from services.gallery import Template
from services.gallery.checks import checked_id, checked_tenant
from services.gallery.identify import identification_point
from services.gateway.core import PictureInput
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
from services.gateway.enhancement import Enhancement
from services.gateway.face_work import FaceWork
from services.gateway.gallery_models import GalleryModel, GalleryModels, identity_of
from services.gateway.given_vectors import GivenVector, Vector, stacked
from services.gateway.pipeline import PreparedFace
from services.gateway.seeing import Request
from services.gateway.subjects import known_subject
from services.rpc.mien.v1 import model_pb2
from services.telemetry import Stopwatch
from services.telemetry.metrics import DECISIONS, QUALITY, SIMILARITY


@dataclass(frozen=True)
class VerifySubjectCommand:
    """A probe and a subject.

    Attributes:
        subject_id: whose templates.
        picture: the probe.
        vector: given in place of a picture.
        fmr: target false-match rate of one comparison; None for the server's default.
        threshold: a threshold of the caller's own, in place of ``fmr``.
        enhance: enhance the face if it gains by it.
    """

    subject_id: str
    picture: PictureInput | None = None
    vector: GivenVector | None = None
    fmr: float | None = None
    threshold: float | None = None
    enhance: bool = True


@dataclass(frozen=True)
class VerifySubjectAnswer:
    """The answer to a `VerifySubjectCommand`.

    Attributes:
        decision: same, different or inconclusive.
        reasons: why it is inconclusive.
        similarity: to the template that decided; None when there was nothing to compare.
        template_id: of that template; empty likewise.
        point: the threshold that was applied.
        identity: of that template: native or mapped.
        templates: how many were compared.
        probe: the face; None where a vector was given.
        enhancement: what was done to it.
        stopwatch: time by stage.
    """

    decision: Decision
    reasons: list[Reason]
    similarity: float | None
    template_id: str
    point: OperatingPoint
    identity: model_pb2.ModelIdentity
    templates: int
    probe: PreparedFace | None
    enhancement: Enhancement | None
    stopwatch: Stopwatch


class SubjectVerifier:
    """Compares a probe with a subject's templates of the live model.

    Args:
        work: on pictures.
        models: of the gallery.
        trail: the way to the audit log.
    """

    def __init__(self, work: FaceWork, models: GalleryModels, trail: Trail) -> None:
        self._work = work
        self._trail = trail
        self._models = models

    async def verify(self, tenant: str, command: VerifySubjectCommand) -> VerifySubjectAnswer:
        """Decides whether the probe is of the subject.

        Raises:
            MienError: the subject is unknown, has withdrawn consent or has no template of the live
                model; or the probe cannot be used.
        """
        checked_tenant(tenant)
        checked_id(command.subject_id, "subject_id")
        async with (
            self._work.capacity.admitted(),
            self._trail.search(Action.VERIFY, tenant, [command.subject_id]) as told,
        ):
            answer = await self._compared(tenant, command)
            told.counts["templates"] = answer.templates
            return answer

    async def _compared(self, tenant: str, command: VerifySubjectCommand) -> VerifySubjectAnswer:
        watch = Stopwatch()
        live = await self._models.live()
        default = self._work.settings.decision.default_fmr
        point = operating_point(live.info, command.fmr, command.threshold, default)
        templates = await self._templates(tenant, command.subject_id, live)
        if command.vector is not None:
            rows = stacked([command.vector], live.space, ["vector"])
            best = self._best(rows[0], templates, live, point)
            return self._answer(live, point, best, len(templates), None, None, watch)
        return await self._picture(tenant, command, live, point, templates, watch)

    async def _templates(self, tenant: str, subject_id: str, live: GalleryModel) -> list[Template]:
        subject = await known_subject(self._models.access, tenant, subject_id)
        if not subject.consent:
            raise MienError(Errors.CONSENT_WITHDRAWN, "The subject has withdrawn consent.")
        gallery = await self._models.gallery()
        found = await gallery.templates(tenant, subject_id)
        own = [one for one in found if one.space == live.space]
        if not own:
            raise MienError(
                Errors.TEMPLATE_UNKNOWN,
                f"The subject has no template of {live.space.reference}.",
                field="subject_id",
            )
        return own

    async def _picture(
        self,
        tenant: str,
        command: VerifySubjectCommand,
        live: GalleryModel,
        point: OperatingPoint,
        templates: Sequence[Template],
        watch: Stopwatch,
    ) -> VerifySubjectAnswer:
        if command.picture is None:
            raise MienError(Errors.INVALID_REQUEST, "A picture is needed.", field="picture")
        request = Request(tenant, live.info, live.geometry, command.enhance)
        given = [(command.picture.data, command.picture.choice)]
        (seen,) = await self._work.seeing.chosen(request, given, ["picture"], watch)
        await self._work.seeing.embed(request, [seen], watch)
        probe, done = seen.faces[0], seen.done[0]
        best = None
        raised = 0.0
        if done is not None:  # an enhanced face needs a threshold of its own
            raised = stricter(point, [done.thresholds]).threshold - point.threshold
        if probe.face is not None and seen.vector is not None:
            QUALITY.observe(probe.face.quality.unified)
            with watch.stage("compare"):
                best = self._best(seen.vector, templates, live, point, raised)
        return self._answer(live, point, best, len(templates), probe, done, watch)

    def _best(
        self,
        vector: Vector,
        templates: Sequence[Template],
        live: GalleryModel,
        point: OperatingPoint,
        raised: float = 0.0,
    ) -> tuple[float, Template, OperatingPoint]:
        """The template that the probe is farthest above the threshold of, and that threshold."""
        compared = [
            (
                similarity(vector, np.asarray(one.vector), live.info.metric),
                one,
                self._point_of(one, point, raised),
            )
            for one in templates
        ]
        return max(compared, key=lambda one: one[0] - one[2].threshold)

    def _point_of(self, template: Template, point: OperatingPoint, raised: float) -> OperatingPoint:
        """The threshold of a template: what a map made has another than what is native."""
        if not template.map or point.fmr is None:
            return OperatingPoint(point.threshold + raised, point.fmr)
        fitted = self._models.map_thresholds(template.map)
        if len(fitted) < 2:
            raise MienError(
                Errors.THRESHOLD_UNKNOWN,
                f"The thresholds of {template.map} are not known here.",
                field="fmr",
            )
        of_one = identification_point(fitted, point.fmr, templates=1, margin_decades=0.0)
        return OperatingPoint(of_one.threshold + raised, point.fmr)

    def _answer(
        self,
        live: GalleryModel,
        point: OperatingPoint,
        best: tuple[float, Template, OperatingPoint] | None,
        templates: int,
        probe: PreparedFace | None,
        enhancement: Enhancement | None,
        watch: Stopwatch,
    ) -> VerifySubjectAnswer:
        reasons = [] if probe is None else faults(probe, "probe", self._work.settings.decision)
        value = None if best is None else best[0]
        applied = point if best is None else best[2]
        decision = decide(value, applied, reasons)
        DECISIONS.labels(live.space.reference, decision).inc()
        if value is not None:
            SIMILARITY.labels(live.space.reference).observe(value)
        return VerifySubjectAnswer(
            decision,
            reasons,
            value,
            "" if best is None else best[1].id,
            applied,
            identity_of(live.space, "" if best is None else best[1].map),
            templates,
            probe,
            enhancement,
            watch,
        )
