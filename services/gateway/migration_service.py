"""gRPC about migrations: a thin skin over `services.migration`."""

from __future__ import annotations

from typing import Any

import grpc

from services.errors import Errors, MienError
from services.gateway.migration_access import MigrationAccess
from services.migration import Migrations, Plan, PlanOptions, Record, State
from services.rpc.mien.v1 import migration_pb2, migration_pb2_grpc
from services.rpc.server import answer

SERVICE_NAME = migration_pb2.DESCRIPTOR.services_by_name["MigrationService"].full_name
_Context = grpc.aio.ServicerContext[Any, Any]

_STATES = {
    state: migration_pb2.MigrationState.Value(f"MIGRATION_STATE_{state.name}") for state in State
}
_VERDICTS = {
    "migrate": migration_pb2.MIGRATION_VERDICT_MIGRATE,
    "migrate with re-enrolment of the weak": (
        migration_pb2.MIGRATION_VERDICT_MIGRATE_AND_RE_ENROL_WEAK
    ),
    "re-enrol": migration_pb2.MIGRATION_VERDICT_RE_ENROL,
}


class MigrationServicer(migration_pb2_grpc.MigrationServiceServicer):
    """`mien.v1.MigrationService`.

    Args:
        access: the way to the migrations.
    """

    def __init__(self, access: MigrationAccess) -> None:
        self._access = access

    async def PlanMigration(  # noqa: N802 - gRPC's name
        self, request: migration_pb2.PlanMigrationRequest, context: _Context
    ) -> migration_pb2.PlanMigrationResponse:
        """Says what a migration would do to this gallery."""

        async def work(request_id: str) -> migration_pb2.PlanMigrationResponse:
            plan = await (await self._access.migrations()).plan(_options(request))
            return migration_pb2.PlanMigrationResponse(plan=_plan(plan), request_id=request_id)

        return await answer(context, "PlanMigration", work)

    async def ListMigrations(  # noqa: N802 - gRPC's name
        self, request: migration_pb2.ListMigrationsRequest, context: _Context
    ) -> migration_pb2.ListMigrationsResponse:
        """Lists all migrations that were planned."""
        del request

        async def work(request_id: str) -> migration_pb2.ListMigrationsResponse:
            migrations = await self._access.migrations()
            return migration_pb2.ListMigrationsResponse(
                migrations=[await _told(migrations, one) for one in await migrations.every()],
                request_id=request_id,
            )

        return await answer(context, "ListMigrations", work)

    async def GetMigration(  # noqa: N802 - gRPC's name
        self, request: migration_pb2.GetMigrationRequest, context: _Context
    ) -> migration_pb2.GetMigrationResponse:
        """Tells where a migration stands."""

        async def work(request_id: str) -> migration_pb2.GetMigrationResponse:
            migrations = await self._access.migrations()
            told = await _told(migrations, await migrations.get(request.id))
            return migration_pb2.GetMigrationResponse(migration=told, request_id=request_id)

        return await answer(context, "GetMigration", work)

    async def StartMigration(  # noqa: N802 - gRPC's name
        self, request: migration_pb2.StartMigrationRequest, context: _Context
    ) -> migration_pb2.StartMigrationResponse:
        """Starts to fill the new collection, in the background."""

        async def work(request_id: str) -> migration_pb2.StartMigrationResponse:
            told = await self._start(request)
            return migration_pb2.StartMigrationResponse(migration=told, request_id=request_id)

        return await answer(context, "StartMigration", work)

    async def PauseMigration(  # noqa: N802 - gRPC's name
        self, request: migration_pb2.PauseMigrationRequest, context: _Context
    ) -> migration_pb2.PauseMigrationResponse:
        """Stops after the batch at hand."""

        async def work(request_id: str) -> migration_pb2.PauseMigrationResponse:
            migrations = await self._access.migrations()
            told = await _told(migrations, await migrations.pause(request.id))
            return migration_pb2.PauseMigrationResponse(migration=told, request_id=request_id)

        return await answer(context, "PauseMigration", work)

    async def ResumeMigration(  # noqa: N802 - gRPC's name
        self, request: migration_pb2.ResumeMigrationRequest, context: _Context
    ) -> migration_pb2.ResumeMigrationResponse:
        """Goes on where it stopped."""

        async def work(request_id: str) -> migration_pb2.ResumeMigrationResponse:
            told = await self._start(request)
            return migration_pb2.ResumeMigrationResponse(migration=told, request_id=request_id)

        return await answer(context, "ResumeMigration", work)

    async def SwitchMigration(  # noqa: N802 - gRPC's name
        self, request: migration_pb2.SwitchMigrationRequest, context: _Context
    ) -> migration_pb2.SwitchMigrationResponse:
        """Catches up, then makes the new model live."""

        async def work(request_id: str) -> migration_pb2.SwitchMigrationResponse:
            migrations = await self._access.migrations()
            record = await migrations.switch(request.id, accept_loss=request.accept_loss)
            told = await _told(migrations, record)
            return migration_pb2.SwitchMigrationResponse(migration=told, request_id=request_id)

        return await answer(context, "SwitchMigration", work)

    async def RollBackMigration(  # noqa: N802 - gRPC's name
        self, request: migration_pb2.RollBackMigrationRequest, context: _Context
    ) -> migration_pb2.RollBackMigrationResponse:
        """Makes the old model live again."""

        async def work(request_id: str) -> migration_pb2.RollBackMigrationResponse:
            migrations = await self._access.migrations()
            record = await migrations.rollback(request.id, accept_loss=request.accept_loss)
            told = await _told(migrations, record)
            return migration_pb2.RollBackMigrationResponse(migration=told, request_id=request_id)

        return await answer(context, "RollBackMigration", work)

    async def GetShadowReport(  # noqa: N802 - gRPC's name
        self, request: migration_pb2.GetShadowReportRequest, context: _Context
    ) -> migration_pb2.GetShadowReportResponse:
        """Compares what both models answered to live queries."""

        async def work(request_id: str) -> migration_pb2.GetShadowReportResponse:
            tally = await (await self._access.migrations()).shadow(request.id)
            return migration_pb2.GetShadowReportResponse(
                **tally.model_dump(), request_id=request_id
            )

        return await answer(context, "GetShadowReport", work)

    async def _start(
        self, request: migration_pb2.StartMigrationRequest | migration_pb2.ResumeMigrationRequest
    ) -> migration_pb2.Migration:
        rate = request.rate if request.HasField("rate") else None
        if rate is not None and not 0 <= rate < float("inf"):
            raise MienError(Errors.INVALID_REQUEST, "A rate is 0 or more.", field="rate")
        migrations = await self._access.migrations()
        return await _told(migrations, await migrations.start(request.id, rate=rate))


def _options(request: migration_pb2.PlanMigrationRequest) -> PlanOptions:
    fmr = request.fmr if request.HasField("fmr") else None
    weak = request.weak_below if request.HasField("weak_below") else None
    if fmr is not None and not 0 < fmr < 1:
        raise MienError(
            Errors.INVALID_REQUEST, "A false-match rate lies between 0 and 1.", field="fmr"
        )
    if weak is not None and not -1 <= weak <= 1:
        raise MienError(Errors.INVALID_REQUEST, "A confidence is -1 to 1.", field="weak_below")
    usual = PlanOptions()
    return PlanOptions(request.map, fmr, request.sample or usual.sample, weak)


async def _told(migrations: Migrations, record: Record) -> migration_pb2.Migration:
    return migration_pb2.Migration(
        id=record.id,
        state=_STATES[record.state],
        source=record.source.space().reference,
        target=record.target.space().reference,
        map=record.map,
        at_work=await migrations.at_work(record.id),
        total=record.total,
        read=record.read,
        written=record.written,
        skipped=record.skipped,
        second_hand=record.second_hand,
        weak=record.weak,
        mean_confidence=record.mean_confidence,
        rate=record.rate,
        eta_seconds=record.eta_seconds,
        failure="" if record.failure is None else record.failure.code,
        carried_back=record.carried_back,
    )


def _plan(plan: Plan) -> migration_pb2.MigrationPlan:
    judged = plan.judgement
    return migration_pb2.MigrationPlan(
        id=plan.id,
        verdict=_VERDICTS[judged.answer],
        basis=judged.basis,
        source=plan.source.reference,
        target=plan.target.reference,
        map=plan.map,
        templates=plan.templates,
        second_hand=plan.second_hand,
        looked_at=plan.looked_at,
        fmr=plan.fmr,
        fnmr_before=judged.fnmr_before,
        fnmr_mapped=judged.fnmr_mapped,
        fnmr_expected=judged.fnmr_expected,
        fmr_at_card=judged.fmr_at_card,
        threshold=plan.threshold,
        weak_below=plan.weak_below,
        weak_share=plan.weak_share,
        weak=[
            migration_pb2.WeakTemplate(
                tenant=one.tenant,
                subject_id=one.subject_id,
                template_id=one.template_id,
                confidence=one.confidence,
            )
            for one in plan.weak
        ],
        mean_confidence=plan.mean_confidence,
        seconds=plan.seconds,
        bytes=plan.bytes,
        warnings=plan.warnings,
        confidences=plan.confidences,
        histograms={
            name: migration_pb2.ScoreHistogram(shares=shares)
            for name, shares in judged.histograms.items()
        },
    )
