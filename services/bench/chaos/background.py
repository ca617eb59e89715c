"""The migration that runs in the background of the faults."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from models.zoo import MapCard, WeightsMissingError, Zoo
from services.gallery import DEFAULT_TENANT, Enrolment, Gallery, NewTemplate, Space, Template
from services.gallery.open import open_gallery
from services.gallery.spaces import space_of_card
from services.settings import Settings

_TEMPLATES = 3000
_RATE = 40  # templates a second: slow enough that every fault finds it at work
_AT_ONCE = 500
_PAGE = 2000
_CATCH_UP_SECONDS = 120.0


@dataclass(frozen=True)
class Moved:
    """What became of the migration.

    Attributes:
        templates: in the old collection.
        missing: of those, not in the new one, where nothing native of the subject is either.
        doubled: in the new one twice, or more native ones of a subject than were enrolled.
        state: of the migration, at last.
    """

    templates: int
    missing: int
    doubled: int
    state: str


class Background:
    """A migration over REST.

    Args:
        settings: of this process.
        card: of the map.
        database: of the embedded gallery.
    """

    def __init__(self, settings: Settings, card: MapCard, database: Path) -> None:
        self._settings, self._card = settings, card
        self._uri = f"sqlite:{database}"
        self._id = ""
        zoo = Zoo(settings.home)
        ends = (card.source, card.target)
        self._spaces = [space_of_card(zoo.embedder(one.reference)) for one in ends]

    async def fill(self) -> None:
        """Makes the gallery, before anybody serves it."""
        rng = np.random.default_rng(3)
        source = self._spaces[0]
        gallery = await open_gallery(self._settings, self._uri)
        try:
            await gallery.create_collection(source)
            for start in range(0, _TEMPLATES, _AT_ONCE):
                rows = rng.standard_normal((_AT_ONCE, source.dimension)).astype(np.float32)
                rows /= np.linalg.norm(rows, axis=1, keepdims=True)
                await gallery.enrol(
                    DEFAULT_TENANT,
                    [
                        Enrolment(f"old-{start + number}", [NewTemplate(source, row)])
                        for number, row in enumerate(rows)
                    ],
                )
        finally:
            await gallery.close()

    async def start(self, client: httpx.AsyncClient) -> None:
        """Plans and starts it.

        Raises:
            RuntimeError: it is refused.
        """
        plan = await _asked(client, "/v1/migrations", {"map": self._card.reference})
        self._id = str(plan["id"])
        await _asked(client, f"/v1/migrations/{self._id}/start", {"rate": _RATE})

    async def end(self, client: httpx.AsyncClient) -> str:
        """Lets it catch up as fast as it can; returns its state.

        Raises:
            RuntimeError: it is refused.
        """
        await _asked(client, f"/v1/migrations/{self._id}/pause", {})
        await _asked(client, f"/v1/migrations/{self._id}/resume", {"rate": 0})
        deadline = time.monotonic() + _CATCH_UP_SECONDS
        while True:
            answer = await client.get(f"/v1/migrations/{self._id}")
            state = str(answer.json()["migration"]["state"])
            if state not in ("planned", "running") or time.monotonic() > deadline:
                return state
            await asyncio.sleep(0.2)

    async def compare(self, state: str) -> Moved:
        """Compares both collections, when nobody serves the gallery any more."""
        gallery = await open_gallery(self._settings, self._uri)
        try:
            old, new = [await _rows(gallery, space) for space in self._spaces]
        finally:
            await gallery.close()
        held = Counter(one.id for one in new)
        native = Counter(one.subject_id for one in new if not one.map)
        enrolled = Counter(one.subject_id for one in old)
        missing = sum(one.id not in held and not native[one.subject_id] for one in old)
        again = sum(count - 1 for count in held.values())
        return Moved(len(old), missing, again + (native - enrolled).total(), state)


def usable_map(zoo: Zoo) -> MapCard | None:
    """A map whose models are both here; None where there is none."""
    for card in zoo.maps():
        try:
            for end in (card.source, card.target):
                zoo.weights(zoo.embedder(end.reference))
        except WeightsMissingError:
            continue
        return card
    return None


async def _rows(gallery: Gallery, space: Space) -> list[Template]:
    found: list[Template] = []
    after = 0
    while page := await gallery.scan(space, after, _PAGE):
        found += page
        after = page[-1].sequence
    return found


async def _asked(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    if answer.status_code != httpx.codes.OK:
        raise RuntimeError(f"{path} is answered by {answer.status_code}")
    told: dict[str, Any] = answer.json()
    return told
