"""Stored people: where they are kept, how they are found, moved, and forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from services.settings.base import Group


class GallerySettings(Group):
    """Where subjects and templates are kept, and how they are searched."""

    uri: str = Field(
        "",
        description="sqlite:PATH, http(s)://HOST:PORT of Milvus, or milvus-lite:PATH; "
        "none: gallery.sqlite3 in `home`",
    )
    token: SecretStr = Field(SecretStr(""), description="of the Milvus server, if it asks for one")
    timeout_seconds: float = Field(
        10.0, gt=0, description="longest wait for Milvus to answer; an embedded gallery has none"
    )
    retry_seconds: float = Field(
        1.0, gt=0, description="how long calls fail at once after Milvus did not answer"
    )
    master_key: SecretStr = Field(
        SecretStr(""),
        description="32 bytes as base64, which the keys of the embedded gallery are wrapped with; "
        "none: master_key_file",
    )
    master_key_file: Path | None = Field(
        None, description="file of the master key; none: made beside the database, with its name"
    )
    key_command: str = Field(
        "",
        description="command that keeps the master key elsewhere and wraps and unwraps keys, see "
        "docs/gallery.md; none: master_key or its file",
    )
    exact_templates: int = Field(
        50_000,
        ge=0,
        description="tenants with more templates are searched by 8-bit codes, and the best "
        "compared exactly",
    )
    fpir: float = Field(
        0.01, gt=0, lt=1, description="false-positive identification rate if none is named"
    )
    margin_decades: float = Field(
        1.0,
        ge=0,
        le=6,
        description="ambiguous: the second is nearer to the first than thresholds of false-match "
        "rates so many powers of ten apart",
    )


class MigrationSettings(Group):
    """Moving a gallery from one model to the next."""

    batch: int = Field(1000, ge=1, le=4000, description="templates that are moved at once")
    rate: float = Field(0.0, ge=0, description="most templates per second; 0: no limit")
    lease_seconds: float = Field(
        15.0, gt=0, description="after this, the work of a process that is gone is free to others"
    )
    patience_seconds: float = Field(
        600.0, gt=0, description="how long a run waits for a gallery or a map that is away"
    )
    follow_seconds: float = Field(
        2.0, gt=0, description="how often a run that has caught up looks for new templates"
    )
    shadow: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of identifications that the target's model is asked too, for a report",
    )
    renew: bool = Field(
        False,
        description="subjects that are recognised by a mapped template and well seen get a native "
        "one in its place",
    )
    renew_min_quality: float = Field(
        60.0, ge=0, le=100, description="least unified quality of such a picture"
    )
    renew_fpir: float = Field(
        1e-3,
        gt=0,
        lt=1,
        description="false-positive identification rate whose threshold such a match must reach",
    )


class EnrolmentSettings(Group):
    """How subjects are enrolled."""

    model: str = Field(
        "",
        description="embedder of the first enrolment, as name or name@version; later ones use "
        "the gallery's live model; none: the default embedder",
    )
    max_pictures: int = Field(16, ge=1, le=1000, description="pictures or vectors in one enrolment")
    bulk_rows: int = Field(
        2, ge=1, le=64, description="rows of one bulk enrolment that are worked on at once"
    )
    max_rows: int = Field(
        10_000, ge=1, description="rows in one bulk enrolment over REST; gRPC has no limit"
    )


class IdentificationSettings(Group):
    """How people are identified."""

    max_pictures: int = Field(8, ge=1, le=1000, description="pictures in one call")
    max_vectors: int = Field(256, ge=1, le=10_000, description="vectors in one call")
    max_faces: int = Field(
        32, ge=1, le=256, description="faces of one picture that are identified, largest first"
    )


class AuditSettings(Group):
    """The audit log."""

    enabled: bool = Field(True, description="write an audit log")
    folder: Path | None = Field(
        None, description="of its files; none: beside an embedded gallery, or audit in MIEN_HOME"
    )
    required: bool = Field(
        True, description="refuse what cannot be written in it; false: do it, and log an error"
    )
    subjects: Literal["plain", "hashed"] = Field(
        "plain", description="hashed: a keyed hash stands for each subject's id"
    )
    searches: bool = Field(True, description="write down verifications and identifications")
    candidates: bool = Field(False, description="and which subjects an identification named")
    anchor_seconds: float = Field(
        1.0,
        ge=0,
        description="longest time in which records are not signed yet; 0: sign each before its "
        "action goes on",
    )


class RetentionRules(Group):
    """What is deleted by itself. 0: nothing."""

    subject_days: float = Field(
        0.0, ge=0, description="subjects without a change or a new template for so long"
    )
    withdrawn_days: float = Field(
        0.0, ge=0, description="subjects whose consent was withdrawn so long ago"
    )


class RetentionSettings(RetentionRules):
    """Retention, for every tenant or for one."""

    superseded_days: float = Field(
        0.0,
        ge=0,
        description="collections that are not live, so long after the last migration was touched",
    )
    tenants: dict[str, RetentionRules] = Field(
        {}, description="rules of single tenants in place of these, as JSON by tenant"
    )
    every_seconds: float = Field(3600.0, gt=0, description="how often the gateway looks")
    clock_seconds: float = Field(
        300.0, gt=0, description="nothing is deleted when the clock jumped by more than this"
    )
    gap_days: float = Field(
        7.0, gt=0, description="nor when it seems that nobody has looked for longer than this"
    )
