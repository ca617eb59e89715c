"""Which map is meant, what it would do, and the record of that."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from models.zoo import MapCard, Zoo, ZooError
from services.errors import Errors, MienError
from services.gallery import Gallery, Space
from services.gateway.mapping_client import MappingClient, reference
from services.migration import record as records
from services.migration.plan import Plan, make_plan
from services.migration.record import Record, SpaceRecord, State
from services.migration.spaces import source_space, target_space
from services.rpc.mien.v1 import mapping_pb2


@dataclass(frozen=True)
class PlanOptions:
    """What a plan asks.

    Attributes:
        map: name or name@version; empty where one served map takes the live model's vectors.
        fmr: live false-match rate; None for the default of the settings.
        sample: most templates that are looked at.
        weak_below: confidence below which a template is weak; None for the card's own level.
    """

    map: str = ""
    fmr: float | None = None
    sample: int = 5000
    weak_below: float | None = None


class Planner:
    """Makes plans.

    Args:
        gallery: to be migrated.
        mapping: the way to the maps.
        fmr: live false-match rate, where none is named.
        zoo: holds the maps' cards, where they are known here.
    """

    def __init__(
        self, gallery: Gallery, mapping: MappingClient, fmr: float, zoo: Zoo | None
    ) -> None:
        self._gallery, self._mapping, self._fmr, self._zoo = gallery, mapping, fmr, zoo

    async def plan(self, options: PlanOptions) -> Plan:
        """Plans a migration and notes it, unless it has been begun.

        Raises:
            MienError: GALLERY_EMPTY; MODEL_UNKNOWN for a map that is not served;
                IDENTITY_MISMATCH for one that takes other vectors than the live ones.
        """
        live = await self._gallery.live()
        if live is None:
            raise MienError(Errors.GALLERY_EMPTY, "There is nothing to migrate yet.")
        info = await self._map(options.map, live)
        plan = await make_plan(
            self._gallery,
            self._mapping,
            (live, target_space(info)),
            info,
            self._card(info),
            fmr=options.fmr or self._fmr,
            sample=options.sample,
            weak_below=options.weak_below,
        )
        await self._note(plan, info)
        return plan

    async def _map(self, name: str, live: Space) -> mapping_pb2.MapInfo:
        """The map that is meant.

        Raises:
            MienError: MODEL_UNKNOWN, IDENTITY_MISMATCH, or INVALID_REQUEST where several fit.
        """
        if name:
            await self._mapping.refresh()  # a new map may be served under an old name
            info = await self._mapping.map_info(name)
            source_space(info, live)
            return info
        fitting = []
        for info in await self._mapping.refresh():
            with contextlib.suppress(MienError):
                source_space(info, live)
                fitting.append(info)
        if len(fitting) == 1:
            return fitting[0]
        served = ", ".join(reference(one) for one in fitting)
        raise MienError(
            Errors.INVALID_REQUEST if fitting else Errors.MODEL_UNKNOWN,
            f"Several maps take vectors of {live.reference}: {served}."
            if fitting
            else f"No map that is served takes vectors of {live.reference}.",
            field="map",
        )

    def _card(self, info: mapping_pb2.MapInfo) -> MapCard | None:
        """The map's card, if this very map is known here."""
        if self._zoo is None:
            return None
        try:
            card = self._zoo.map(reference(info))
        except ZooError:
            return None
        return card if card.weights.sha256 == info.weights_sha256 else None

    async def _note(self, plan: Plan, info: mapping_pb2.MapInfo) -> None:
        """Makes the record of what was planned, unless work on it has begun."""
        old = await records.known(self._gallery, plan.id)
        if old is not None and old.state is not State.PLANNED:
            return
        record = Record(
            id=plan.id,
            source=SpaceRecord.of(plan.source),
            target=SpaceRecord.of(plan.target),
            map=plan.map,
            map_sha256=info.weights_sha256,
            weak_below=plan.weak_below,
            total=plan.templates,
        )
        await self._gallery.put_job(record.job())
