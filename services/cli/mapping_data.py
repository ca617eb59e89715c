"""What maps are fitted to: the same faces through two models, as each model's card says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from models.r3an.vectors import Pairs, Sides, SplitOptions, pair_up, sides_of
from models.training.faces import Faces
from models.training.people import load_people
from models.zoo import EmbedderCard, Zoo
from services.cli.context import command_settings
from services.cli.output import counting
from services.embedding import load_configured
from services.evaluation.crop_features import PLAIN_VIEWS, Vectors, blend_vectors, crop_vectors
from services.evaluation.pairs import PairsError
from services.settings import Settings

LABELS_BY = "poseface@1"
"""The model that doubts labels and unites people of two names; it is released with Mien."""


@dataclass(frozen=True)
class MappingData:
    """Faces, their vectors of both models, and the two cards."""

    pairs: Pairs
    faces: Faces
    source: EmbedderCard
    target: EmbedderCard

    def facts(self) -> dict[str, Any]:
        """Which models these are, for the record of a run."""
        return {
            "source": self.source.reference,
            "source_sha256": self.source.weights.sha256,
            "target": self.target.reference,
            "target_sha256": self.target.weights.sha256,
        }


def mapping_data(
    source: str,
    target: str,
    images: Path,
    cache: Path,
    options: SplitOptions,
    views: int = 0,
    blends: int = 0,
    *,
    trust_labels: bool = False,
) -> MappingData:
    """Embeds a folder of training faces with two models, or takes the vectors that are kept.

    Args:
        source: embedder, as name or name@version.
        target: likewise, another one.
        images: folder of index.tsv and tars.
        cache: folder for decoded faces and vectors.
        options: who is held out.
        views: changed views beside each face and its mirror image.
        blends: faces blended from each training face and another.
        trust_labels: take the labels as they are.

    Raises:
        ZooError: a model is not known, or its weights are not here.
        DataError: the folder is incomplete.
        PairsError: both names are of one model.
    """
    settings = command_settings()
    zoo = Zoo(settings.home)
    cards = zoo.embedder(source), zoo.embedder(target)
    if cards[0].reference == cards[1].reference:
        raise PairsError(f"{cards[0].reference} needs no map to itself.")
    labels = None if trust_labels else zoo.weights(zoo.embedder(LABELS_BY))
    people = load_people(options, images, cache, labels)
    sides = sides_of(people, options)
    mine, theirs = (
        _vectors(zoo, settings, card, people.faces, sides, cache / "vectors", views, blends)
        for card in cards
    )
    both = (mine.blends, theirs.blends) if blends else None
    return MappingData(pair_up(people, sides, mine.seen, theirs.seen, both), people.faces, *cards)


class _OfModel(NamedTuple):
    """One model's vectors: (N,V,d) of all faces, (T,B,d) of the training faces' blends."""

    seen: Vectors
    blends: Vectors


def _vectors(
    zoo: Zoo,
    settings: Settings,
    card: EmbedderCard,
    faces: Faces,
    sides: Sides,
    kept: Path,
    views: int,
    blends: int,
) -> _OfModel:
    embedder = load_configured(zoo, card.reference, settings.engine)
    try:
        total = len(faces) * (PLAIN_VIEWS + views) + len(sides.train) * blends
        with counting(f"embedding with {card.reference}", total) as advance:
            seen = crop_vectors(embedder, faces, kept, views, advance)
            if not blends:
                return _OfModel(seen, seen[:0])
            return _OfModel(
                seen, blend_vectors(embedder, faces, sides.train, kept, blends, advance)
            )
    finally:
        embedder.close()
