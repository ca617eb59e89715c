"""REST: migrations of the gallery, for operators."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from services.errors import Errors
from services.gateway.migration_access import MigrationAccess
from services.gateway.rest import problems
from services.gateway.rest.bodies import JSON, json_body, media_type, validated
from services.gateway.rest.descriptions import json_only
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


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PlanIn(_Strict):
    """What a plan asks."""

    map: str = Field(
        "", max_length=100, description="name or name@version; empty where one served map fits"
    )
    fmr: float | None = Field(None, gt=0, lt=1, description="live false-match rate")
    sample: int = Field(5000, ge=16, le=100_000, description="most templates that are looked at")
    weak_below: float | None = Field(
        None, ge=-1, le=1, description="confidence of weak templates; null: the card's level"
    )


class StartIn(_Strict):
    """How a migration runs."""

    rate: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="most templates per second; 0: no limit; null: the server's setting",
    )


class LossIn(_Strict):
    """Whether a loss is accepted."""

    accept_loss: bool = Field(False, description="even if subjects would no longer be found")


class MigrationOut(_Strict):
    """One migration."""

    id: str
    state: Literal["planned", "running", "paused", "caught_up", "switched", "rolled_back", "failed"]
    source: str = Field(description="model that it comes from, name@version")
    target: str = Field(description="model that it leads to, name@version")
    map: str
    at_work: bool = Field(description="whether somebody works on it now")
    total: int = Field(description="templates of the source when it was last started")
    read: int
    written: int = Field(description="mapped and stored")
    skipped: int = Field(description="deleted, replaced or enrolled natively meanwhile")
    second_hand: int = Field(description="left out because they are mapped already")
    weak: int = Field(description="stored with little confidence")
    mean_confidence: float | None
    rate: float = Field(description="templates per second lately")
    eta_seconds: float | None
    failure: str | None = Field(description="code of the error that ended the last run")
    carried_back: int = Field(description="templates that a rollback has mapped back")


class MigrationAnswer(_Strict):
    """Answer about one migration."""

    migration: MigrationOut
    request_id: str


class MigrationsOut(_Strict):
    """All migrations that were planned."""

    migrations: list[MigrationOut] = Field(description="by id")
    request_id: str


class WeakOut(_Strict):
    """A template that the map does not trust; its subject should enrol again."""

    tenant: str
    subject_id: str
    template_id: str
    confidence: float


class PlanOut(_Strict):
    """What to expect of a migration. Rates are null where there was nothing to measure by."""

    id: str
    verdict: Literal["migrate", "migrate with re-enrolment of the weak", "re-enrol"]
    basis: str = Field(description="what the verdict rests on")
    source: str
    target: str
    map: str
    templates: int
    second_hand: int = Field(description="mapped already; they are not mapped on")
    looked_at: int
    fmr: float
    fnmr_before: float | None = Field(description="comparisons within subjects that fail now")
    fnmr_mapped: float | None = Field(description="that fail with everything mapped")
    fnmr_expected: float | None = Field(description="that fail if the verdict is followed")
    fmr_at_card: float | None = Field(description="false-match rate here at the map's threshold")
    threshold: float | None = Field(description="of new probes against mapped templates")
    weak_below: float
    weak_share: float
    weak: list[WeakOut] = Field(description="at most a thousand, least trusted first")
    mean_confidence: float
    seconds: float = Field(description="that a run will probably take")
    bytes: int = Field(description="that the new templates will probably take")
    warnings: list[str]
    request_id: str


class ShadowOut(_Strict):
    """Answers of the live model beside those of the next, faces."""

    looked: int
    same: int = Field(description="both know the same subject")
    other: int = Field(description="they know different ones")
    lost: int = Field(description="only the live model knows anybody")
    gained: int = Field(description="only the next one does")
    neither: int
    agreement: float | None = Field(description="share with the same answer")
    live_leads: list[int] = Field(
        description="faces by 40 bins, -0.5 to 0.5, of the first candidate's similarity over its "
        "threshold"
    )
    next_leads: list[int]
    request_id: str


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
        openapi_extra=_optional(StartIn),
    )
    async def start(request: Request, id: str) -> Response:  # noqa: A002
        asked = await _read(request, StartIn)
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
        request_id=request_id,
    )
