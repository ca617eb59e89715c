"""All that the gateway does with stored people, free of REST and gRPC."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from models.zoo import MapCard, Zoo, ZooError
from services.audit.trail import Trail
from services.gallery import Gallery
from services.gallery.identify import FittedRate
from services.gateway.bulk_enrolment import BulkEnroller
from services.gateway.enrolment import Enroller
from services.gateway.face_work import FaceWork
from services.gateway.gallery_access import GalleryAccess
from services.gateway.gallery_models import GalleryModels
from services.gateway.identification import Identifier
from services.gateway.search_decision import MapThresholds
from services.gateway.subject_export import SubjectExporter
from services.gateway.subject_verification import SubjectVerifier
from services.gateway.subjects import Subjects


class GalleryGateway:
    """Subjects, enrolment, verification against a subject, and identification.

    Args:
        work: on pictures.
        opening: opens the gallery.
        map_thresholds: thresholds of the templates that a map made.
        trail: the way to the audit log.

    Attributes:
        access: the way to the gallery.
        models: of its vectors.
        subjects: what is stored of people, without their faces.
        exporter: tells all that is stored of a person.
        enroller: makes templates.
        bulk: enrols many.
        verifier: compares with one subject.
        identifier: searches among all.
        capacity: shared with all other requests.
        settings: limits and defaults.
    """

    def __init__(
        self,
        work: FaceWork,
        opening: Callable[[], Awaitable[Gallery]],
        map_thresholds: MapThresholds,
        trail: Trail,
    ) -> None:
        self.settings = work.settings
        self.capacity = work.capacity
        enrolment = work.settings.enrolment
        self.access = GalleryAccess(opening)
        self.models = GalleryModels(self.access, work.embedding, enrolment.model, map_thresholds)
        self.subjects = Subjects(self.access, work.shared)
        self.exporter = SubjectExporter(self.access, trail)
        self.enroller = Enroller(work, self.models)
        self.bulk = BulkEnroller(self.enroller, work.capacity, enrolment.bulk_rows)
        self.verifier = SubjectVerifier(work, self.models, trail)
        self.identifier = Identifier(work, self.models, trail)


def thresholds_of_cards(zoo: Zoo) -> MapThresholds:
    """Thresholds of mapped templates, from the cards of the maps.

    Args:
        zoo: holds the cards; a map without a card there has no thresholds.
    """
    known: dict[str, list[FittedRate]] = {}  # cards are read from files, one search asks many times

    def of(map_name: str) -> Sequence[FittedRate]:
        if map_name in known:
            return known[map_name]
        try:
            card = zoo.card(map_name)
        except ZooError:
            return []
        if not isinstance(card, MapCard):
            return []
        own = (one for one in card.thresholds if one.comparison == "T|map")
        known[map_name] = [FittedRate(one.fmr, one.similarity) for one in own]
        return known[map_name]

    return of
