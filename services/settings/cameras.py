"""Cameras, and the client that watches them."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from services.settings.base import Group


class CameraSettings(Group):
    """Streams of cameras. What a policy can set is here as its default."""

    max_cameras: int = Field(32, ge=1, description="cameras, and streams, at once")
    max_tracks: int = Field(32, ge=1, description="faces of one camera that are followed at once")
    max_waiting: int = Field(
        3, ge=1, description="frames of one camera that wait; older ones are dropped"
    )
    max_frame_bytes: int = Field(8 * 1024 * 1024, ge=1024, description="largest frame, bytes")
    max_frame_pixels: int = Field(8_300_000, ge=256, description="largest frame, pixels")
    resume_seconds: float = Field(
        10.0, ge=0, description="tracks of a camera that is cut off are kept for so long"
    )
    lost_seconds: float = Field(
        3.0, gt=0, description="a face that is not seen for so long has left"
    )
    undecided_seconds: float = Field(
        2.0, gt=0, description="after this, who is not recognised is told to be unknown"
    )
    max_shots: int = Field(5, ge=2, le=32, description="shots that are fused to a template")
    max_looks: int = Field(
        8, ge=2, le=1000, description="shots of one track that are searched in the gallery"
    )
    min_inter_eye_distance: float = Field(
        16.0, ge=4, description="faces with fewer pixels between the eyes are not followed"
    )
    fpir: float | None = Field(
        None, gt=0, lt=1, description="of a track's decision; unset: that of the gallery"
    )
    cool_down_seconds: float = Field(
        0.0, ge=0, description="a subject is not told again by a camera for so long"
    )
    keep_best_shot_seconds: float = Field(
        0.0, ge=0, description="best-shot pictures are kept for so long; 0: not at all"
    )
    keep_track_seconds: float = Field(
        60.0, ge=0, description="vectors of a track that has left are kept for so long"
    )


class WatchSettings(Group):
    """`mien watch`."""

    key: SecretStr = Field(SecretStr(""), description="API key or token that is sent")
    tls: bool = Field(False, description="speak TLS with the gateway")
    ca: Path | None = Field(
        None, description="authority of the gateway's certificate, as PEM; none: the system's"
    )
    webhook_secret: SecretStr = Field(SecretStr(""), description="signs the posts of --webhook")
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="of --redis-stream"
    )
    redis_entries: int = Field(10_000, ge=1, description="events kept in the stream, about")
    queue: int = Field(
        1000, ge=1, description="events that wait for a webhook or Redis; more are left out"
    )
