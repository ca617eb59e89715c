"""Enrolment: pictures or vectors of one person become templates, all or none of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from services.errors import Errors, MienError
from services.gallery import Enrolled, Enrolment, NewTemplate
from services.gallery.checks import checked_id, checked_tenant
from services.gateway.core import indexed
from services.gateway.decision import Cause, faults
from services.gateway.duplicates import refuse_duplicates
from services.gateway.enrol_command import EnrolCommand, fingerprint
from services.gateway.face_work import FaceWork
from services.gateway.gallery_models import GalleryModel, GalleryModels
from services.gateway.given_vectors import stacked
from services.gateway.pipeline import PreparedFace
from services.rpc.mien.v1 import model_pb2
from services.telemetry import Stopwatch
from services.telemetry.metrics import ENROLMENTS, QUALITY

_CHANGED = (Errors.IDENTITY_MISMATCH, Errors.COLLECTION_UNKNOWN)


class Outcome(StrEnum):
    """What became of an enrolment."""

    ENROLLED = "enrolled"
    REPEATED = "repeated"
    """The key was used for the same enrolment before; nothing was stored again."""
    REFUSED = "refused"
    """Pictures were too poor; nothing was stored."""


@dataclass(frozen=True)
class EnrolledPicture:
    """One picture of an enrolment: whether it is in the template, and what speaks against it."""

    used: bool
    faults: list[Cause]
    face: PreparedFace


@dataclass(frozen=True)
class EnrolAnswer:
    """What became of an `EnrolCommand`.

    Attributes:
        outcome: stored, repeated or refused.
        subject_id: whose.
        template_ids: one for each template; the live model's first where pictures were given.
        pictures: one for each picture; empty where the enrolment is repeated.
        identity: of the live model.
        stopwatch: time by stage.
    """

    outcome: Outcome
    subject_id: str
    template_ids: tuple[str, ...]
    pictures: list[EnrolledPicture]
    identity: model_pb2.ModelIdentity
    stopwatch: Stopwatch


class Enroller:
    """Enrols.

    Args:
        work: on pictures.
        models: of the gallery.
    """

    def __init__(self, work: FaceWork, models: GalleryModels) -> None:
        self._work = work
        self._models = models
        self._locks = work.shared.locks

    async def enrol(self, tenant: str, command: EnrolCommand) -> EnrolAnswer:
        """Enrols one subject.

        Raises:
            MienError: a field or picture cannot be used, the face is another subject's, consent was
                withdrawn, or a service is busy.
        """
        with self._work.capacity.permit():
            return await self.enrol_row(tenant, command, bulk=False)

    async def enrol_row(
        self, tenant: str, command: EnrolCommand, *, bulk: bool = True
    ) -> EnrolAnswer:
        """As `enrol`, for a row of a bulk enrolment, which has a place already.

        Raises:
            MienError: as `enrol`.
        """
        try:
            async with self._work.capacity.time_limit():
                answer = await self._enrol(tenant, command, bulk)
        except MienError as error:
            ENROLMENTS.labels(error.kind.code).inc()
            raise
        ENROLMENTS.labels(answer.outcome).inc()
        return answer

    async def _enrol(self, tenant: str, command: EnrolCommand, bulk: bool) -> EnrolAnswer:
        self._check(tenant, command)
        if not command.key:
            return await self._once(tenant, command, bulk)
        # A second call with the same key waits for the first one's answer, and shares it.
        async with self._locks.hold("enrolment", tenant, command.key):
            before = await self._before(tenant, command)
            return before or await self._once(tenant, command, bulk)

    async def _before(self, tenant: str, command: EnrolCommand) -> EnrolAnswer | None:
        """The answer to an enrolment under the same key; no picture is looked at for it."""
        watch = Stopwatch()
        gallery = await self._models.gallery()
        done = await gallery.enrolled(tenant, self._wanted(command, []))
        if done is None:
            return None
        live = (await self._models.to_enrol())[0]
        return self._answer(Outcome.REPEATED, command, done.template_ids, [], live, watch)

    async def _once(self, tenant: str, command: EnrolCommand, bulk: bool) -> EnrolAnswer:
        gallery = await self._models.gallery()
        known = await gallery.subject(tenant, command.subject_id)
        if known is not None and not known.consent:
            raise MienError(Errors.CONSENT_WITHDRAWN, "The subject has withdrawn consent.")
        try:
            return await self._attempt(tenant, command, bulk)
        except MienError as error:
            if error.error not in _CHANGED or command.vectors:
                raise
        # The live model was switched while the faces were embedded, or a collection dropped: once
        # more, with what is there now.
        self._models.forget()
        return await self._attempt(tenant, command, bulk)

    def _check(self, tenant: str, command: EnrolCommand) -> None:
        checked_tenant(tenant)
        checked_id(command.subject_id, "subject_id")
        if command.key:
            checked_id(command.key, "idempotency-key")
        most = self._work.settings.enrolment.max_pictures
        for name, given in (("pictures", command.pictures), ("vectors", command.vectors)):
            if len(given) > most:
                raise MienError(Errors.INVALID_REQUEST, f"At most {most} are accepted.", field=name)
        if bool(command.pictures) == bool(command.vectors):
            raise MienError(
                Errors.INVALID_REQUEST, "Give either pictures or vectors.", field="pictures"
            )

    async def _attempt(self, tenant: str, command: EnrolCommand, bulk: bool) -> EnrolAnswer:
        watch = Stopwatch()
        models = await self._models.to_enrol()
        pictures: list[EnrolledPicture] = []
        if command.vectors:
            templates = self._given(command, models[0])
        else:
            pictures = await self._looked_at(command, models[0], watch)
            used = [index for index, one in enumerate(pictures) if one.used]
            if not used:
                return self._answer(Outcome.REFUSED, command, (), pictures, models[0], watch)
            templates = [
                await self._fused(command, model, pictures, watch, bulk, live=model is models[0])
                for model in models
            ]
        done = await self._store(tenant, command, models[0], templates, watch)
        outcome = Outcome.REPEATED if done.repeated else Outcome.ENROLLED
        return self._answer(outcome, command, done.template_ids, pictures, models[0], watch)

    async def _looked_at(
        self, command: EnrolCommand, model: GalleryModel, watch: Stopwatch
    ) -> list[EnrolledPicture]:
        """Each picture with its face, and whether it may go into the template."""
        fields = indexed("picture", len(command.pictures))
        faces = await self._work.chosen(command.pictures, fields, model)
        for face in faces:
            watch.merge(face.stopwatch)
            if face.face is not None:
                QUALITY.observe(face.face.quality.unified)
        limits = self._work.settings.decision
        found = [[reason.cause for reason in faults(face, "probe", limits)] for face in faces]
        taken = not any(found) or (command.leave_out_poor and not all(found))
        # No face is enhanced here: comparisons with enhanced faces need thresholds of their own,
        # and a stored template does not tell that it was made of one.
        return [
            EnrolledPicture(taken and not causes, causes, face)
            for causes, face in zip(found, faces, strict=True)
        ]

    async def _fused(
        self,
        command: EnrolCommand,
        model: GalleryModel,
        pictures: Sequence[EnrolledPicture],
        watch: Stopwatch,
        bulk: bool,
        *,
        live: bool,
    ) -> NewTemplate:
        """One template of a model, of all pictures that are used."""
        faces = [one.face for one in pictures if one.used]
        if not live:  # another model may take another crop
            chosen = [
                one for one, told in zip(command.pictures, pictures, strict=True) if told.used
            ]
            faces = await self._work.chosen(chosen, indexed("picture", len(chosen)), model)
        crops = [face.crop for face in faces if face.crop is not None]
        qualities = [face.face.quality.unified for face in faces if face.face is not None]
        made = await self._work.embedding.templates(
            [crops], model.info, qualities=[qualities], bulk=bulk
        )
        watch.add("queue", made.crops.queue_seconds)
        watch.add("inference", made.crops.inference_seconds)
        return NewTemplate(
            model.space, made.vectors[0], quality=max(qualities), pictures=len(crops)
        )

    def _given(self, command: EnrolCommand, live: GalleryModel) -> list[NewTemplate]:
        rows = stacked(command.vectors, live.space, indexed("vector", len(command.vectors)))
        return [
            NewTemplate(live.space, row, quality=one.quality, pictures=one.pictures)
            for row, one in zip(rows, command.vectors, strict=True)
        ]

    async def _store(
        self,
        tenant: str,
        command: EnrolCommand,
        live: GalleryModel,
        templates: list[NewTemplate],
        watch: Stopwatch,
    ) -> Enrolled:
        gallery = await self._models.gallery()
        wanted = self._wanted(command, templates)
        # Between the look for a duplicate and the write, nobody else may enrol the same face.
        async with self._locks.hold("store", tenant):
            if not command.allow_duplicate and await gallery.live() is not None:
                probes = np.stack([one.vector for one in templates if one.space == live.space])
                with watch.stage("search"):
                    await refuse_duplicates(
                        gallery,
                        tenant,
                        live,
                        probes,
                        command.subject_id,
                        self._models.map_thresholds,
                        self._work.settings,
                    )
            with watch.stage("store"):
                if await gallery.live() is None:
                    async with self._locks.hold("collection"):
                        await gallery.create_collection(live.space)
                return (await gallery.enrol(tenant, [wanted]))[0]

    def _wanted(self, command: EnrolCommand, templates: list[NewTemplate]) -> Enrolment:
        return Enrolment(
            command.subject_id,
            templates,
            name=command.name,
            metadata=command.metadata,
            key=command.key,
            fingerprint=fingerprint(command) if command.key else "",
            replace_mapped=True,
        )

    def _answer(
        self,
        outcome: Outcome,
        command: EnrolCommand,
        ids: tuple[str, ...],
        pictures: list[EnrolledPicture],
        live: GalleryModel,
        watch: Stopwatch,
    ) -> EnrolAnswer:
        return EnrolAnswer(outcome, command.subject_id, ids, pictures, live.info.identity, watch)
