"""Enrolment of a subject from what was seen along a track."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from services.cameras.service import Cameras
from services.errors import Errors, MienError
from services.gateway.enrol_command import EnrolCommand
from services.gateway.enrolment import EnrolAnswer, Enroller, Outcome
from services.gateway.given_vectors import GivenVector

_MOST_KEYS = 1000  # answers that are remembered, so that a repeated call gets the first one


@dataclass(frozen=True)
class TrackEnrolCommand:
    """Whom to enrol from which track.

    Attributes:
        track_id: of the track.
        subject_id: the subject is made if it does not exist.
        name: replaces the subject's name unless None.
        allow_duplicate: enrol even if another subject has this face.
        key: idempotency key, or empty.
    """

    track_id: str
    subject_id: str
    name: str | None = field(default=None, repr=False)
    allow_duplicate: bool = False
    key: str = ""


@dataclass(frozen=True)
class TrackEnrolled:
    """What became of it; no shots where it was refused."""

    outcome: Outcome
    subject_id: str
    template_ids: tuple[str, ...]
    shots: int


class TrackEnroller:
    """Enrols from tracks.

    Only shots that enrolment would take are used: good enough, not turned too far, and embedded as
    the camera saw them. A vector of an enhanced face is never stored.

    Args:
        cameras: hold the tracks.
        enroller: stores.
    """

    def __init__(self, cameras: Cameras, enroller: Enroller) -> None:
        self._cameras, self._enroller = cameras, enroller
        self._answers: OrderedDict[tuple[str, str], tuple[TrackEnrolCommand, TrackEnrolled]] = (
            OrderedDict()
        )
        cameras.forgetting.append(self.forget)

    async def enrol(self, tenant: str, command: TrackEnrolCommand) -> TrackEnrolled:
        """Enrols.

        Raises:
            MienError: the track is gone, the key was used for something else, or as `Enroller`.
        """
        before = self._answers.get((tenant, command.key)) if command.key else None
        if before is not None:
            if before[0] != command:
                raise MienError(
                    Errors.IDEMPOTENCY_KEY_REUSED,
                    "The idempotency key was used for another enrolment.",
                    field="idempotency_key",
                )
            first = before[1]
            return TrackEnrolled(
                Outcome.REPEATED, first.subject_id, first.template_ids, first.shots
            )
        track = self._cameras.track(tenant, command.track_id)
        template, model = track.template(native=True), track.model
        if template is None or model is None:
            return TrackEnrolled(Outcome.REFUSED, command.subject_id, (), 0)
        native = [shot for shot in track.shots if shot.native]
        space = model.space
        given = GivenVector(
            template,
            space.model,
            space.version,
            space.weights_sha256,
            space.preprocessing_sha256,
            quality=max(shot.quality for shot in native),
            pictures=len(native),
        )
        answer = await self._enroller.enrol(
            tenant,
            EnrolCommand(
                command.subject_id,
                vectors=(given,),
                name=command.name,
                key=command.key,
                allow_duplicate=command.allow_duplicate,
            ),
        )
        track.note_enrolment(command.subject_id)
        return self._remembered(tenant, command, answer, len(native))

    def _remembered(
        self, tenant: str, command: TrackEnrolCommand, answer: EnrolAnswer, shots: int
    ) -> TrackEnrolled:
        made = TrackEnrolled(answer.outcome, answer.subject_id, answer.template_ids, shots)
        if command.key:
            self._answers[tenant, command.key] = (command, made)
            if len(self._answers) > _MOST_KEYS:
                self._answers.popitem(last=False)
        return made

    def forget(self, tenant: str, subject_id: str) -> None:
        """Forgets the keys that a subject was enrolled under, as the gallery does."""
        for key in [
            key
            for key, (command, _) in self._answers.items()
            if key[0] == tenant and command.subject_id == subject_id
        ]:
            del self._answers[key]
