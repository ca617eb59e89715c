"""What REST takes and answers where operators look after keys, retention and tenants."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from services.gallery.checks import TENANT_PATTERN


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TenantKeyOut(_Shape):
    """A tenant's data key."""

    tenant: str
    version: int = Field(description="of the newest key")
    created: float = Field(description="seconds since the epoch; 0: by an older Mien")
    behind: int = Field(description="rows that are still sealed with older keys")


class DataKeysOut(_Shape):
    """The data keys of all tenants."""

    keys: list[TenantKeyOut]
    request_id: str


class RotateIn(_Shape):
    """Which tenants get new data keys."""

    tenants: list[Annotated[str, Field(json_schema_extra={"pattern": TENANT_PATTERN})]] = Field(
        default=[], description="none: all"
    )


class RewrapOut(_Shape):
    """Where the new master key is, on the gateway's machine."""

    file: str
    request_id: str


class RetentionIn(_Shape):
    """How retention is to run."""

    dry_run: StrictBool = Field(default=True, description="only say what is due")
    accept_clock: StrictBool = Field(
        default=False, description="the clock was looked at and is right, although it jumped"
    )


class DueOut(_Shape):
    """What a rule asks to delete."""

    rule: str
    since: float = Field(description="from when its time is counted, seconds since the epoch")
    tenant: str | None = Field(description="null for a collection")
    subject_id: str | None = Field(description="null for a collection")
    model: str | None = Field(description="of a collection of all tenants; null for a subject")


class RetentionOut(_Shape):
    """What became of a run of retention."""

    due: list[DueOut]
    deleted: int = Field(description="subjects")
    unproven: int = Field(description="deletions whose second look found something")
    dropped: dict[str, int] = Field(description="templates that went with collections, by model")
    held: str | None = Field(description="why nothing was deleted")
    dry_run: bool
    request_id: str
