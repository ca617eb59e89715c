"""Migrations whose steps are audited."""

from __future__ import annotations

from models.zoo import Zoo
from services.audit.record import Action
from services.audit.trail import Trail
from services.gallery import Gallery
from services.gateway.mapping_client import MappingClient
from services.migration import Migrations, Plan, PlanOptions, Record
from services.migration.run import Engine, Told
from services.settings import Settings


class AuditedMigrations(Migrations):
    """As `Migrations`; each command is written down, the rows that move are not.

    Args:
        trail: to write to.
        gallery: as for `Migrations`, likewise the rest.
        mapping: likewise.
        settings: likewise.
        zoo: likewise.
    """

    def __init__(
        self,
        trail: Trail,
        gallery: Gallery,
        mapping: MappingClient,
        settings: Settings,
        zoo: Zoo | None = None,
    ) -> None:
        super().__init__(gallery, mapping, settings, zoo)
        self._trail = trail

    async def plan(self, options: PlanOptions | None = None) -> Plan:
        """See `Migrations.plan`."""
        made = await super().plan(options)
        about = {"migration": made.id, "verdict": made.judgement.answer}
        await self._trail.note(Action.MIGRATION_PLAN, about=about)
        return made

    async def run(
        self,
        name: str,
        *,
        rate: float | None = None,
        follow: bool = False,
        told: Told | None = None,
        engine: Engine | None = None,
    ) -> Record:
        """See `Migrations.run`; a start in the background comes by here too."""
        await self._trail.note(Action.MIGRATION_START, outcome="begun", about={"migration": name})
        return await super().run(name, rate=rate, follow=follow, told=told, engine=engine)

    async def pause(self, name: str) -> Record:
        """See `Migrations.pause`."""
        async with self._trail.change(Action.MIGRATION_PAUSE, about={"migration": name}):
            return await super().pause(name)

    async def switch(self, name: str, *, accept_loss: bool = False) -> Record:
        """See `Migrations.switch`."""
        about = {"migration": name, "accept_loss": accept_loss}
        async with self._trail.change(Action.MIGRATION_SWITCH, about=about):
            return await super().switch(name, accept_loss=accept_loss)

    async def rollback(self, name: str, *, accept_loss: bool = False) -> Record:
        """See `Migrations.rollback`."""
        about = {"migration": name, "accept_loss": accept_loss}
        async with self._trail.change(Action.MIGRATION_ROLLBACK, about=about):
            return await super().rollback(name, accept_loss=accept_loss)

    async def discard(self, name: str) -> int:
        """See `Migrations.discard`."""
        about = {"migration": name}
        async with self._trail.change(Action.MIGRATION_DISCARD, about=about) as counts:
            counts["templates"] = await super().discard(name)
            return counts["templates"]
