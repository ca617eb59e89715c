"""The decision over a track: when looks at its growing template add up to somebody, or to nobody.

A track is compared with the gallery several times, and each look is a chance to take a stranger for
somebody. Three things keep the false-positive identification rate (FPIR) of the whole track at the
one that was asked for. Looks are few (``max_looks``). One look is not enough, unless it passes the
threshold of a tenth of the rate: otherwise the look before must have named the same subject. And
each look is made at ``PER_LOOK`` of the rate: looks of one track resemble each other, because each
template holds shots of the one before; for eight looks whose scores are normal and equally
correlated, what is left of repeating them is at most a factor of 1.2, at a correlation of 0.95.

What was told is changed only by two looks in succession that agree with each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.cameras.messages import Why
from services.gallery.identify import Identity
from services.gateway.search_decision import FaceIdentity, IdentityDecision, SearchPoint
from services.rpc.mien.v1 import model_pb2

PER_LOOK = 0.8
"""Share of the rate at which one look is made."""
STRONG = 0.1
"""Share of the rate at which one look alone is enough."""
_AGREEING = 2  # looks


@dataclass(frozen=True)
class Look:
    """One comparison of a track's template with the gallery.

    Attributes:
        identity: known, unknown or ambiguous.
        subject_id: the first candidate's where it is known; empty otherwise.
        strong: it would be known at a tenth of the rate, too.
        similarity: to the first candidate; None without one.
        threshold: that it must reach.
        fpir: that the threshold was set for.
        margin: lead of the first candidate; None without a second.
        model: that made the vectors, mapped where the candidate's template is.
    """

    identity: Identity
    subject_id: str
    strong: bool
    similarity: float | None
    threshold: float
    fpir: float
    margin: float | None
    model: model_pb2.ModelIdentity

    def as_nobody(self) -> Look:
        """The same look where its candidate is not in the watch list."""
        return Look(
            Identity.UNKNOWN,
            "",
            False,
            self.similarity,
            self.threshold,
            self.fpir,
            self.margin,
            self.model,
        )


def look_of(
    found: FaceIdentity,
    strict: FaceIdentity,
    point: SearchPoint,
    fpir: float,
    identity: model_pb2.ModelIdentity,
) -> Look:
    """A look from the decisions at the rate and at a tenth of it.

    Args:
        found: at the rate.
        strict: at a tenth of it.
        point: the thresholds of ``found``.
        fpir: of the whole track.
        identity: of the native vectors.
    """
    first = found.candidates[0] if found.candidates else None
    model = model_pb2.ModelIdentity()
    model.CopyFrom(identity)
    if first is not None and first.candidate.map:
        model.origin, model.map = model_pb2.VECTOR_ORIGIN_MAPPED, first.candidate.map
    known = found.decision is IdentityDecision.KNOWN and first is not None
    subject = first.candidate.subject_id if known and first is not None else ""
    strong = bool(
        subject
        and strict.decision is IdentityDecision.KNOWN
        and strict.candidates[0].candidate.subject_id == subject
    )
    return Look(
        Identity(found.decision.value),
        subject,
        strong,
        None if first is None else first.candidate.similarity,
        point.native.threshold + point.raised if first is None else first.threshold,
        fpir,
        found.margin,
        model,
    )


class Verdict:
    """What the looks at one track add up to.

    Attributes:
        subject_id: who it is; empty while nobody is named.
        decided: somebody is named, or it was settled that it is nobody.
        last: the last look.
        looks: how many there were.
        named: whom the last look named; empty for nobody.
    """

    def __init__(self) -> None:
        self.subject_id = ""
        self.decided = False
        self.last: Look | None = None
        self.looks = 0
        self.named = ""
        self._agreed = 0

    def take(self, look: Look) -> bool:
        """Takes a look.

        Returns:
            Whether the decision is another than before.
        """
        self.looks += 1
        self.last = look
        self._agreed = self._agreed + 1 if look.subject_id == self.named and self._agreed else 1
        self.named = look.subject_id
        first_strong = look.strong and not self.decided
        if not first_strong and self._agreed < _AGREEING:
            return False
        changed = not self.decided or look.subject_id != self.subject_id
        self.subject_id, self.decided = look.subject_id, True
        return changed

    def settle(self) -> None:
        """Nobody was named in time: it is nobody until two looks say otherwise."""
        self.decided = True

    def why(self) -> Why | None:
        """Why nobody is named; None where somebody is, or where there was no look."""
        if self.subject_id or self.last is None:
            return None
        if self.last.identity is Identity.AMBIGUOUS:
            return Why.AMBIGUOUS
        return Why.NOT_CONFIRMED if self.last.subject_id else Why.NO_MATCH
