"""All faults, one after the other."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from models.zoo import Zoo
from services.bench.chaos.background import Background, Moved, usable_map
from services.bench.chaos.callers import Callers
from services.bench.chaos.faults import FAULTS, Fault, Store
from services.bench.chaos.house import House
from services.bench.chaos.journal import Journal
from services.bench.chaos.lookup import doubled, lost
from services.bench.chaos.questions import people_of
from services.bench.chaos.trial import Trial, tried
from services.bench.result import BenchResult
from services.settings import Settings

_PACES: dict[Store, float] = {"embedded": 1.0, "milvus": 0.4}  # Milvus Lite is slow
_NO_MAP = "no map's models are here; `mien models pull dlib` brings one"


def chosen_faults(names: Sequence[str]) -> list[Fault]:
    """Faults by name, in the order in which they are tried; all of them where none is named.

    Raises:
        KeyError: there is no such fault.
    """
    known = {one.name: one for one in FAULTS}
    wanted = {known[name].name for name in names}
    return [one for one in FAULTS if not wanted or one.name in wanted]


def bench_chaos(
    settings: Settings,
    faults: Sequence[Fault],
    seconds: float,
    tell: Callable[[Trial], None] = lambda _: None,
) -> BenchResult:
    """Breaks a Mien of real processes, one fault after the other, while callers go on.

    ``value`` is how many faults were survived, ``reference`` how many were tried: nothing
    acknowledged was lost, no answer was wrong, refusals were those that the fault explains, and it
    recovered by itself.

    Args:
        settings: of Mien.
        faults: to be tried.
        seconds: that each lasts.
        tell: is told each trial as it ends.

    Raises:
        FetchError: the pictures cannot be downloaded.
        RuntimeError: Mien does not start, or nothing can be tried.
    """
    possible = [one for one in faults if not one.missing()]
    skipped = [Trial(one.name, skipped=one.missing()) for one in faults if one not in possible]
    if not possible:
        raise RuntimeError("none of these faults can be tried here")
    return asyncio.run(_Bench(settings, seconds, tell).run(possible, skipped))


class _Bench:
    def __init__(self, settings: Settings, seconds: float, tell: Callable[[Trial], None]) -> None:
        self._settings, self._seconds, self._tell = settings, seconds, tell
        self._people = people_of(settings.home)
        self._map = usable_map(Zoo(settings.home))
        self._trials: list[Trial] = []
        self._enrolled = self._unacknowledged = self._lost = self._doubled = 0

    async def run(self, faults: Sequence[Fault], skipped: Sequence[Trial]) -> BenchResult:
        target = "poseface" if self._map is None else self._map.target.reference
        source = target if self._map is None else self._map.source.reference
        with tempfile.TemporaryDirectory(prefix="mien-chaos-") as folder:
            embedders = tuple(dict.fromkeys((target, source)))
            house = House(self._settings, Path(folder), embedders, source)
            try:
                moved = await self._with_stores(house, faults)
            finally:
                await house.stop()
            mounted = house.disk.is_mounted
        for one in skipped:
            self._tell(one)
        survived = sum(one.is_survived for one in self._trials)
        return BenchResult(
            value=survived,
            reference=len(self._trials),
            unit="faults survived",
            details={
                "acknowledged": self._enrolled,
                "never_acknowledged": self._unacknowledged,
                "lost": self._lost,
                "doubled": self._doubled,
                "wrong": sum(one.wrong for one in self._trials),
                "migration": self._why_none() if moved is None else asdict(moved),
                "fault_seconds": self._seconds,
                "disk": "a file system of its own" if mounted else "limit of the process",
                "cpus": len(os.sched_getaffinity(0)),
                "faults": [
                    {**asdict(one), "survived": one.is_survived}
                    for one in (*self._trials, *skipped)
                ],
            },
        )

    def _why_none(self) -> str:
        return _NO_MAP if self._map is None else "none: it runs with an embedded gallery"

    async def _with_stores(self, house: House, faults: Sequence[Fault]) -> Moved | None:
        """Tries the faults of both stores; what became of the migration on the first."""
        background = None
        if self._map is not None:
            background = Background(self._settings, self._map, house.database)
            await background.fill()
        await house.start()
        moved = None
        if embedded := [one for one in faults if one.store == "embedded"]:
            moved = await self._tried(house, embedded, "embedded", background)
        if milvus := [one for one in faults if one.store == "milvus"]:
            await house.move_to_milvus()
            await self._tried(house, milvus, "milvus", None)
        return moved

    async def _tried(
        self, house: House, faults: Sequence[Fault], store: Store, background: Background | None
    ) -> Moved | None:
        journal = Journal()
        callers = Callers(house.url, self._people, store, journal, _PACES[store])
        try:
            await callers.prepare()
            if background is not None:
                await background.start(callers.client)
            async with callers.calling():
                for fault in faults:
                    trial = await tried(house, callers, fault, self._seconds)
                    self._trials.append(trial)
                    self._tell(trial)
            self._enrolled += len(journal.acknowledged)
            self._unacknowledged += len(journal.enrolled) - len(journal.acknowledged)
            self._lost += await lost(callers, journal.acknowledged)
            self._doubled += await doubled(callers, journal.acknowledged)
            state = "" if background is None else await background.end(callers.client)
        finally:
            await callers.close()
        if background is None:
            return None
        await asyncio.to_thread(house.gateway.terminate)
        return await background.compare(state)
