"""Identification: who is seen in pictures, and whom vectors are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.audit.record import Action
from services.audit.trail import Trail
from services.errors import Errors, MienError
from services.gallery import Candidate, NewTemplate, Space
from services.gallery.checks import checked_limit, checked_tenant
from services.gallery.values import MOST_CANDIDATES
from services.gateway.core import indexed
from services.gateway.decision import faults
from services.gateway.enhancement import Enhancement, Status
from services.gateway.face_work import FaceWork
from services.gateway.faces import Face
from services.gateway.gallery_models import GalleryModel, GalleryModels
from services.gateway.given_vectors import GivenVector, Vector, stacked
from services.gateway.pipeline import PreparedFace
from services.gateway.search_decision import (
    FaceIdentity,
    IdentityDecision,
    SearchPoint,
    face_identity,
    search_point,
)
from services.gateway.seeing import Request
from services.gateway.seen import Seen, joined
from services.gateway.shadowing import Shadowing
from services.migration.renewal import Renewal
from services.rpc.mien.v1 import model_pb2
from services.telemetry import Stopwatch, get_logger
from services.telemetry.metrics import IDENTIFICATIONS, QUALITY, SEARCH

_log = get_logger(__name__)


@dataclass(frozen=True)
class IdentifyCommand:
    """Pictures or vectors, and the operating point.

    Attributes:
        pictures: picture files; all their faces are meant.
        vectors: given in place of pictures.
        limit: most candidates for each face or vector.
        fpir: target false-positive identification rate; None for the server's default.
        threshold: a threshold of the caller's own, in place of ``fpir``.
        enhance: enhance faces that gain by it.
    """

    pictures: tuple[bytes, ...] = ()
    vectors: tuple[GivenVector, ...] = ()
    limit: int = 5
    fpir: float | None = None
    threshold: float | None = None
    enhance: bool = True


@dataclass(frozen=True)
class IdentifiedFace:
    """A face, what was done to it, and who it is."""

    face: Face
    enhancement: Enhancement | None
    identification: FaceIdentity


@dataclass(frozen=True)
class IdentifiedPicture:
    """The faces of one picture; ``face_count`` may be more than are identified."""

    width: int
    height: int
    face_count: int
    faces: list[IdentifiedFace]


@dataclass(frozen=True)
class IdentifyAnswer:
    """The answer to an `IdentifyCommand`; one of the two lists is empty."""

    pictures: list[IdentifiedPicture]
    vectors: list[FaceIdentity]
    point: SearchPoint
    identity: model_pb2.ModelIdentity
    stopwatch: Stopwatch


class Identifier:
    """Searches the gallery.

    Args:
        work: on pictures.
        models: of the gallery.
        trail: the way to the audit log.
    """

    def __init__(self, work: FaceWork, models: GalleryModels, trail: Trail) -> None:
        self._work = work
        self._trail = trail
        self._models = models
        self._renewal = Renewal(work.settings.migration)
        self._shadowing = Shadowing(work, models)

    async def identify(self, tenant: str, command: IdentifyCommand) -> IdentifyAnswer:
        """Says who is seen.

        Raises:
            MienError: a field, picture or vector cannot be used, nobody is enrolled, or a service
                is busy.
        """
        self._check(tenant, command)
        async with (
            self._work.capacity.admitted(),
            self._trail.search(Action.IDENTIFY, tenant) as told,
        ):
            answer = await self._searched(tenant, command)
            faces = [face.identification for one in answer.pictures for face in one.faces]
            faces += answer.vectors
            known = [one for one in faces if one.decision is IdentityDecision.KNOWN]
            told.counts |= {"faces": len(faces), "known": len(known)}
            told.subjects = [one.candidates[0].candidate.subject_id for one in known]
            return answer

    async def _searched(self, tenant: str, command: IdentifyCommand) -> IdentifyAnswer:
        watch = Stopwatch()
        live = await self._models.live()
        gallery = await self._models.gallery()
        point = search_point(
            live.info,
            await gallery.searchable(tenant, live.space),
            self._work.settings.gallery,
            self._models.map_thresholds,
            fpir=command.fpir,
            threshold=command.threshold,
        )
        pictures: list[IdentifiedPicture] = []
        vectors: list[FaceIdentity] = []
        if command.vectors:
            rows = stacked(command.vectors, live.space, indexed("vector", len(command.vectors)))
            found = await self._search(tenant, live, rows, command.limit, watch)
            vectors = [face_identity(one, point, [], command.limit) for one in found]
        else:
            pictures = await self._pictures(tenant, command, live, point, watch)
        name = live.space.reference
        told = [face.identification for one in pictures for face in one.faces] + vectors
        for one in told:
            IDENTIFICATIONS.labels(name, one.decision).inc()
        return IdentifyAnswer(pictures, vectors, point, live.info.identity, watch)

    def _check(self, tenant: str, command: IdentifyCommand) -> None:
        checked_tenant(tenant)
        checked_limit(command.limit, most=MOST_CANDIDATES)
        limits = self._work.settings.identification
        for name, count, most in (
            ("pictures", len(command.pictures), limits.max_pictures),
            ("vectors", len(command.vectors), limits.max_vectors),
        ):
            if count > most:
                raise MienError(Errors.INVALID_REQUEST, f"At most {most} are accepted.", field=name)
        if bool(command.pictures) == bool(command.vectors):
            raise MienError(
                Errors.INVALID_REQUEST, "Give either pictures or vectors.", field="pictures"
            )

    async def _pictures(
        self,
        tenant: str,
        command: IdentifyCommand,
        live: GalleryModel,
        point: SearchPoint,
        watch: Stopwatch,
    ) -> list[IdentifiedPicture]:
        fields = indexed("picture", len(command.pictures))
        shadowed = self._work.settings.migration.shadow > 0 and not point.own
        request = Request(tenant, live.info, live.geometry, command.enhance, crops=shadowed)
        pictures = await self._work.seeing.all_faces(request, command.pictures, fields, watch)
        await self._work.seeing.embed(request, pictures, watch)
        faces = [face for one in pictures for face in one.faces]
        done = [each for one in pictures for each in one.done]
        found: list[list[Candidate]] = []
        rows = joined(pictures)
        if rows is not None:
            found = await self._search(tenant, live, rows, command.limit, watch)
        told = [
            self._told(face, enhancement, candidates, point, command.limit)
            for face, enhancement, candidates in zip(faces, done, found, strict=True)
        ]
        if rows is not None:
            await self._renew(tenant, live.space, point, told, rows)
            if not point.own:
                crops = [face.crop for face in faces if face.crop is not None]
                answers = [one.identification for one in told]
                self._shadowing.look(tenant, live, crops, answers, point.native.fpir)
        return _by_picture(pictures, told)

    async def _renew(
        self,
        tenant: str,
        space: Space,
        point: SearchPoint,
        told: Sequence[IdentifiedFace],
        vectors: Vector,
    ) -> None:
        """Gives subjects who were known by mapped templates native ones, where settings choose so.

        An answer does not fail with it. Enhanced faces are not stored, here as little as elsewhere.
        """
        if not self._work.settings.migration.renew or point.own:
            return
        rate = min(point.native.fpir, self._renewal.fpir)
        surer = replace(point, native=replace(point.native, fpir=rate))
        for one, vector in zip(told, vectors, strict=True):
            found, quality = one.identification, one.face.quality.unified
            mended = one.enhancement is not None and one.enhancement.status is Status.APPLIED
            if found.decision is not IdentityDecision.KNOWN or mended:
                continue
            first = found.candidates[0].candidate
            wanted = surer.of(first.map) if first.map else None
            if wanted is not None and self._renewal.is_due(first, quality, wanted.threshold):
                template = NewTemplate(space, vector, quality=quality)
                try:
                    gallery = await self._models.gallery()
                    await self._renewal.renew(gallery, tenant, first.subject_id, template)
                except MienError as error:
                    _log.warning("a template was not renewed", code=error.kind.code)

    async def _search(
        self, tenant: str, live: GalleryModel, rows: Vector, limit: int, watch: Stopwatch
    ) -> list[list[Candidate]]:
        gallery = await self._models.gallery()
        with watch.stage("search"), SEARCH.time():
            # The second decides whether the first is ambiguous, even where one is asked for.
            return await gallery.search(tenant, live.space, rows, max(limit, 2))

    def _told(
        self,
        prepared: PreparedFace,
        enhancement: Enhancement | None,
        candidates: list[Candidate],
        point: SearchPoint,
        limit: int,
    ) -> IdentifiedFace:
        if prepared.face is None:
            raise RuntimeError("every prepared face of a picture is there")
        QUALITY.observe(prepared.face.quality.unified)
        reasons = faults(prepared, "probe", self._work.settings.decision)
        causes = [reason.cause for reason in reasons]
        applied = point.for_enhanced(() if enhancement is None else enhancement.thresholds)
        return IdentifiedFace(
            prepared.face, enhancement, face_identity(candidates, applied, causes, limit)
        )


def _by_picture(
    pictures: Sequence[Seen], told: Sequence[IdentifiedFace]
) -> list[IdentifiedPicture]:
    """The faces given back to their pictures."""
    made, start = [], 0
    for one in pictures:
        end = start + len(one.faces)
        faces = list(told[start:end])
        made.append(IdentifiedPicture(*one.size, one.face_count, faces))
        start = end
    return made
