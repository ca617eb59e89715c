"""REST: migrations of the gallery, for operators."""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.responses import Response

from services.errors import Errors
from services.gateway.migration_access import MigrationAccess
from services.gateway.rest import problems
from services.gateway.rest.bodies import JSON, json_body, media_type, validated
from services.gateway.rest.descriptions import json_only
from services.gateway.rest.migration_schemas import (
    LossIn,
    MigrationAnswer,
    MigrationOut,
    MigrationsOut,
    PlanIn,
    PlanOut,
    RunIn,
    ShadowOut,
    WeakOut,
)
from services.gateway.rest.replies import id_of, ok
from services.migration import Migrations, Plan, PlanOptions, Record

ALL = "/v1/migrations"
ONE = "/v1/migrations/{id}"
_ERRORS = (
    Errors.INVALID_REQUEST,
    Errors.MALFORMED_BODY,
    Errors.UNSUPPORTED_MEDIA_TYPE,
    Errors.MAPPING_UNAVAILABLE,
    Errors.GALLERY_UNAVAILABLE,
)
_SEEN = (Errors.INVALID_REQUEST, Errors.MIGRATION_UNKNOWN, Errors.GALLERY_UNAVAILABLE)
_KNOWN = (*_ERRORS, Errors.MIGRATION_UNKNOWN, Errors.MIGRATION_STATE, Errors.MIGRATION_BUSY)
_Body = TypeVar("_Body", bound=BaseModel)


def add_migrations(app: FastAPI, access: MigrationAccess) -> None:
    """Adds the routes.

    Args:
        app: the application.
        access: the way to the migrations.
    """

    @app.post(
        ALL,
        response_model=PlanOut,
        operation_id="planMigration",
        summary="Say what a migration would do to this gallery; nothing is changed.",
        tags=["migrations"],
        responses=problems.responses(
            *_ERRORS, Errors.GALLERY_EMPTY, Errors.MODEL_UNKNOWN, Errors.IDENTITY_MISMATCH
        ),
        openapi_extra=_optional(PlanIn),
    )
    async def plan(request: Request) -> Response:
        asked = await _read(request, PlanIn)
        options = PlanOptions(asked.map, asked.fmr, asked.sample, asked.weak_below)
        made = await (await access.migrations()).plan(options)
        return ok(ALL, _plan_out(made, id_of(request)))

    @app.get(
        ALL,
        response_model=MigrationsOut,
        operation_id="listMigrations",
        summary="List all migrations that were planned.",
        tags=["migrations"],
        responses=problems.responses(Errors.GALLERY_UNAVAILABLE),
    )
    async def every(request: Request) -> Response:
        migrations = await access.migrations()
        found = [await _out(migrations, one) for one in await migrations.every()]
        return ok(ALL, MigrationsOut(migrations=found, request_id=id_of(request)))

    @app.get(
        ONE,
        response_model=MigrationAnswer,
        operation_id="getMigration",
        summary="Tell where a migration stands.",
        tags=["migrations"],
        responses=problems.responses(*_SEEN),
    )
    async def get(request: Request, id: str) -> Response:  # noqa: A002 - the path's name
        migrations = await access.migrations()
        return await _answer(request, migrations, await migrations.get(id), ONE)

    @app.get(
        f"{ONE}/shadow",
        response_model=ShadowOut,
        operation_id="getShadowReport",
        summary="Compare what both models answered to live queries.",
        tags=["migrations"],
        responses=problems.responses(*_SEEN),
    )
    async def shadow(request: Request, id: str) -> Response:  # noqa: A002
        tally = await (await access.migrations()).shadow(id)
        shown = ShadowOut(**tally.shown(), request_id=id_of(request))
        return ok(f"{ONE}/shadow", shown)

    for word, about in (
        ("start", "Fill the new collection in the background, and follow the old one."),
        ("resume", "Go on where it stopped."),
    ):
        _add_start(app, access, word, about)

    @app.post(
        f"{ONE}/pause",
        response_model=MigrationAnswer,
        operation_id="pauseMigration",
        summary="Stop after the batch at hand.",
        tags=["migrations"],
        responses=problems.responses(*_SEEN),
    )
    async def pause(request: Request, id: str) -> Response:  # noqa: A002
        migrations = await access.migrations()
        return await _answer(request, migrations, await migrations.pause(id), f"{ONE}/pause")

    @app.post(
        f"{ONE}/switch",
        response_model=MigrationAnswer,
        operation_id="switchMigration",
        summary="Catch up, then make the new model live, in one step.",
        tags=["migrations"],
        responses=problems.responses(*_KNOWN, Errors.MIGRATION_BEHIND, Errors.MIGRATION_LOSES),
        openapi_extra=_optional(LossIn),
    )
    async def switch(request: Request, id: str) -> Response:  # noqa: A002
        asked = await _read(request, LossIn)
        migrations = await access.migrations()
        done = await migrations.switch(id, accept_loss=asked.accept_loss)
        return await _answer(request, migrations, done, f"{ONE}/switch")

    @app.post(
        f"{ONE}/rollback",
        response_model=MigrationAnswer,
        operation_id="rollBackMigration",
        summary="Make the old model live again; what was enrolled since is mapped back.",
        tags=["migrations"],
        responses=problems.responses(*_KNOWN, Errors.MIGRATION_BEHIND, Errors.MIGRATION_LOSES),
        openapi_extra=_optional(LossIn),
    )
    async def rollback(request: Request, id: str) -> Response:  # noqa: A002
        asked = await _read(request, LossIn)
        migrations = await access.migrations()
        done = await migrations.rollback(id, accept_loss=asked.accept_loss)
        return await _answer(request, migrations, done, f"{ONE}/rollback")


def _add_start(app: FastAPI, access: MigrationAccess, word: str, about: str) -> None:
    @app.post(
        f"{ONE}/{word}",
        response_model=MigrationAnswer,
        operation_id=f"{word}Migration",
        summary=about,
        tags=["migrations"],
        responses=problems.responses(*_KNOWN),
        openapi_extra=_optional(RunIn),
    )
    async def start(request: Request, id: str) -> Response:  # noqa: A002
        asked = await _read(request, RunIn)
        migrations = await access.migrations()
        started = await migrations.start(id, rate=asked.rate)
        return await _answer(request, migrations, started, f"{ONE}/{word}")


def _optional(shape: type[BaseModel]) -> dict[str, Any]:
    """Describes a body that is JSON and may be left out."""
    described = json_only(shape)
    described["requestBody"]["required"] = False
    return described


async def _read(request: Request, shape: type[_Body]) -> _Body:
    """The body; where none is sent, all its fields are as usual."""
    if not await request.body():
        return shape()
    media_type(request, JSON)
    return validated(shape, await json_body(request))


async def _answer(
    request: Request, migrations: Migrations, record: Record, method: str
) -> Response:
    shown = await _out(migrations, record)
    return ok(method, MigrationAnswer(migration=shown, request_id=id_of(request)))


async def _out(migrations: Migrations, record: Record) -> MigrationOut:
    return MigrationOut(
        id=record.id,
        state=record.state.value,
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
        failure=None if record.failure is None else record.failure.code,
        carried_back=record.carried_back,
    )


def _plan_out(plan: Plan, request_id: str) -> PlanOut:
    judged = plan.judgement
    return PlanOut(
        id=plan.id,
        verdict=judged.answer,
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
        weak=[WeakOut(**vars(one)) for one in plan.weak],
        mean_confidence=plan.mean_confidence,
        seconds=plan.seconds,
        bytes=plan.bytes,
        warnings=list(plan.warnings),
        confidences=list(plan.confidences),
        histograms=judged.histograms,
        request_id=request_id,
    )
