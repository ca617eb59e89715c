"""Finds models by name: those released with Mien, and those that an operator added."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from models.zoo.adding import (
    a_kind,
    check_ends,
    completed_embedder,
    completed_map,
    copied,
    decoder_beside,
    explain,
)
from models.zoo.card import AnyCard, EmbedderCard, latest, read_card, write_card
from models.zoo.enhancer_card import EnhancerCard
from models.zoo.errors import (
    DiskError,
    FetchError,
    UnknownModelError,
    WeightsMissingError,
    ZooError,
)
from models.zoo.fetch import Progress, file_sha256
from models.zoo.map_card import MapCard
from models.zoo.obtain import obtain


def packaged_zoo() -> Path:
    """The folder of the models that are released with Mien."""
    return Path(__file__).parent


class Zoo:
    """The models of one installation.

    Args:
        home: the installation's own folder. Added models live in ``home/models``, downloaded
            weights in ``home/weights``, named by their hash.
    """

    def __init__(self, home: Path) -> None:
        self.engines = home / "engines"  # plans and verdicts that engines keep between starts
        self._added = home / "models"
        self._cache = home / "weights"
        self._archives = home / "archives"

    def cards(self) -> list[AnyCard]:
        """All known cards, in order of name and version.

        Raises:
            ZooError: a card file does not hold a valid card.
        """
        found = {card.reference: card for card in self._read_all()}
        return [found[reference] for reference in sorted(found)]

    def card(self, reference: str) -> AnyCard:
        """The card of ``name@version``, or of the newest version when only a name is given.

        Raises:
            UnknownModelError: no such model.
        """
        name, _, version = reference.partition("@")
        versions = {card.version: card for card in self.cards() if card.name == name}
        if not versions or (version and version not in versions):
            known = ", ".join(card.reference for card in self.cards())
            raise UnknownModelError(f"There is no model {reference!r}. Known models: {known}.")
        return versions[version or latest(list(versions))]

    def embedder(self, reference: str) -> EmbedderCard:
        """The card of an embedding model.

        Raises:
            UnknownModelError: no such model, or it does not embed faces.
        """
        card = self.card(reference)
        if not isinstance(card, EmbedderCard):
            raise UnknownModelError(f"{card.reference} is {a_kind(card)}, not an embedder.")
        return card

    def enhancer(self, reference: str) -> EnhancerCard:
        """The card of an enhancer.

        Raises:
            UnknownModelError: no such model, or it does not enhance faces.
        """
        card = self.card(reference)
        if not isinstance(card, EnhancerCard):
            raise UnknownModelError(f"{card.reference} is {a_kind(card)}, not an enhancer.")
        return card

    def map(self, reference: str) -> MapCard:
        """The card of a map between two embedding models.

        Raises:
            UnknownModelError: no such model, or it does not map vectors.
        """
        card = self.card(reference)
        if not isinstance(card, MapCard):
            raise UnknownModelError(f"{card.reference} is {a_kind(card)}, not a map.")
        return card

    def maps(self) -> list[MapCard]:
        """The newest version of each known map, in order of name."""
        names = {card.name for card in self.cards() if isinstance(card, MapCard)}
        return [self.map(name) for name in sorted(names)]

    def weights(self, card: AnyCard) -> Path:
        """Path of a model's weights on this machine.

        Raises:
            WeightsMissingError: they have not been pulled.
            ZooError: the file is not the one that the card names, so that its vectors would carry a
                false identity.
        """
        for path in self._places(card):
            if path.exists():
                if not _is_whole(path, card.weights.sha256):
                    raise ZooError(
                        f"{path} is not the file that the card of {card.reference} names "
                        f"(SHA-256 differs). Run: mien models pull {card.reference}"
                    )
                return path
        raise WeightsMissingError(
            f"The weights of {card.reference} are not on this machine. "
            f"Run: mien models pull {card.reference}"
        )

    def decoder(self, card: EmbedderCard) -> Path:
        """Path of a model's decoder, which lies beside its card.

        Raises:
            WeightsMissingError: it is not there.
            ZooError: the card names no decoder, or the file is not the one that the card names.
        """
        if card.decoder is None:
            raise ZooError(f"{card.reference} has no decoder.")
        weights = card.decoder.weights
        for path in self._beside(card, weights.file):
            if path.exists():
                if not _is_whole(path, weights.sha256):
                    raise ZooError(
                        f"{path} is not the decoder that the card of {card.reference} names "
                        "(SHA-256 differs)."
                    )
                return path
        raise WeightsMissingError(f"The decoder of {card.reference}, {weights.file}, is not here.")

    def pull(self, card: AnyCard, progress: Progress | None = None) -> Path:
        """Downloads a model's weights if they are missing or damaged, trying each source in turn.

        Raises:
            FetchError: no source gave the file, or it could not be converted; the message tells of
                each.
        """
        failures = []
        for path in self._places(card):
            if path.exists():
                if file_sha256(path) == card.weights.sha256:
                    return path
                if path.parent.is_relative_to(self._cache):
                    path.unlink()
                else:
                    failures.append(f"The file {path} is damaged (SHA-256 differs).")
        target = self._cached(card)
        for source in card.weights.sources:
            try:
                obtain(card.weights, source, self._archives, target, progress)
            except DiskError as error:
                raise DiskError(f"{card.reference}: {error}") from error
            except FetchError as error:
                failures.append(str(error))
            else:
                return target
        raise FetchError(f"{card.reference}: " + " | ".join(failures or ["it has no source"]))

    def discard_archives(self) -> None:
        """Removes the distributions that weights were taken from."""
        shutil.rmtree(self._archives, ignore_errors=True)

    def add(
        self, weights: Path, card: Path, probe: Callable[[EmbedderCard, Path], None]
    ) -> EmbedderCard:
        """Registers an embedder of the caller's own.

        Args:
            weights: its ONNX file; it is copied.
            card: its card. ``weights`` may be left out of it; ``version`` is "1" by default. The
                file of a decoder that it names lies beside it, and is copied too.
            probe: runs the model once and raises ZooError when it does not do what its card says.

        Raises:
            ZooError: unreadable file, invalid card, a name and version that are taken by other
                weights, a decoder that is not the one that the card names, or a model that does not
                fit its card.
        """
        filled = completed_embedder(weights, card)
        decoder = decoder_beside(card, filled)
        probe(filled, weights)
        self._register(filled, weights, decoder)
        return filled

    def add_map(self, weights: Path, card: Path, probe: Callable[[MapCard, Path], None]) -> MapCard:
        """Registers a map of the caller's own, as `mien mapping fit` writes it.

        Args:
            weights: its ONNX file; it is copied.
            card: its card, with the hash of that file.
            probe: runs the map once and raises ZooError when it does not do what its card says.

        Raises:
            ZooError: unreadable file, invalid card or one of another file, a name and version that
                are taken by other weights, ends that are not the models known by their names, or a
                map that does not fit its card.
        """
        filled = completed_map(weights, card)
        known = {one.reference: one for one in self.cards()}
        check_ends(filled, known)
        probe(filled, weights)
        self._register(filled, weights)
        return filled

    def save(self, card: AnyCard) -> Path:
        """Writes a changed card back to where it was read from, and returns that path."""
        added = self._added / card.name / card.version / "card.json"
        path = added if added.exists() else packaged_zoo() / card.name / card.version / "card.json"
        write_card(path, card)
        return path

    def _register(
        self, filled: EmbedderCard | MapCard, weights: Path, decoder: Path | None = None
    ) -> None:
        """Keeps an added model, if its name and version are free.

        Raises:
            ZooError: they are not.
        """
        existing = {known.reference: known for known in self.cards()}
        previous = existing.get(filled.reference)
        if previous and previous.weights.sha256 != filled.weights.sha256:
            raise ZooError(
                f"{filled.reference} is taken by other weights. Give the card another version."
            )
        other = next((k for k in existing.values() if k.name == filled.name), filled)
        if other.kind != filled.kind:
            raise ZooError(
                f"{filled.name} is the name of {a_kind(other)}. Give the card another name."
            )
        if (packaged_zoo() / filled.name / filled.version / "card.json").exists():
            raise ZooError(f"{filled.reference} is released with Mien and cannot be replaced.")
        folder = self._added / filled.name / filled.version
        folder.mkdir(parents=True, exist_ok=True)
        copied(weights, folder / filled.weights.file)
        if decoder is not None:
            copied(decoder, folder / decoder.name)
        write_card(folder / "card.json", filled)

    def _read_all(self) -> Iterator[AnyCard]:
        for root in (packaged_zoo(), self._added):
            for path in sorted(root.glob("*/*/card.json")):
                try:
                    yield read_card(path)
                except ValidationError as error:
                    raise ZooError(f"{path} is not a valid card. {explain(error)}") from error

    def _cached(self, card: AnyCard) -> Path:
        return self._cache / card.weights.sha256[:16] / card.weights.file

    def _places(self, card: AnyCard) -> list[Path]:
        return [*self._beside(card, card.weights.file), self._cached(card)]

    def _beside(self, card: AnyCard, file: str) -> list[Path]:
        """Where a file beside the card may be."""
        return [root / card.name / card.version / file for root in (packaged_zoo(), self._added)]


def _is_whole(path: Path, sha256: str) -> bool:
    status = path.stat()
    return _known_sha256(path, status.st_size, status.st_mtime_ns) == sha256


@functools.lru_cache(maxsize=64)
def _known_sha256(path: Path, size: int, modified: int) -> str:
    """Hash of a file, computed again only when its size or time of change differs."""
    return file_sha256(path)
