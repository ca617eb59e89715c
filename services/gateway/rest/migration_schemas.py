"""What REST requests and answers about migrations look like."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool


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


class RunIn(_Strict):
    """How a migration runs."""

    rate: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="most templates per second; 0: no limit; null: the server's setting",
    )


class LossIn(_Strict):
    """Whether a loss is accepted."""

    accept_loss: StrictBool = Field(False, description="even if subjects would no longer be found")


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
    confidences: list[float] = Field(
        description="shares of the sample by 40 bins of confidence, from -1 to 1"
    )
    histograms: dict[str, list[float]] = Field(
        description="shares of comparisons of the gallery's templates among themselves, by 60 bins "
        "of similarity from -1 to 1: 'source genuine', 'source impostor', 'mapped genuine', "
        "'mapped impostor'; empty where there are none"
    )
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
