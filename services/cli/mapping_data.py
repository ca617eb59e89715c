"""What maps are fitted to: the same faces through two models, as each model's card says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.r3an.vectors import Pairs, SplitOptions, pair_up
from models.training.faces import Faces
from models.training.people import load_people
from models.zoo import EmbedderCard, Zoo
from services.cli.context import command_settings
from services.cli.output import counting
from services.embedding import load_configured
from services.evaluation.crop_features import PLAIN_VIEWS, Vectors, crop_vectors
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
    mine, theirs = (_vectors(zoo, settings, card, people.faces, cache, views) for card in cards)
    return MappingData(pair_up(people, mine, theirs, options), people.faces, *cards)


def _vectors(
    zoo: Zoo, settings: Settings, card: EmbedderCard, faces: Faces, cache: Path, views: int
) -> Vectors:
    embedder = load_configured(zoo, card.reference, settings.engine)
    try:
        total = len(faces) * (PLAIN_VIEWS + views)
        with counting(f"embedding with {card.reference}", total) as advance:
            return crop_vectors(embedder, faces, cache / "vectors", views, advance)
    finally:
        embedder.close()
