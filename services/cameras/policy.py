"""What a camera looks for and what is kept of it; set by callers, stored with the gallery."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.errors import Errors, MienError
from services.gallery import Job
from services.gateway.gallery_access import GalleryAccess
from services.settings import CameraSettings, GallerySettings
from services.telemetry import get_logger

_log = get_logger(__name__)
_PREFIX = "camera:"
_KNOWN_SECONDS = 10.0  # after which a policy that another process may have set is read again
_LONGEST = 86_400.0  # seconds
_MOST_PAIRS = 16
_Share = Annotated[float, Field(ge=0, le=1)]


class Policy(BaseModel):
    """A camera's policy with all fields set.

    Attributes:
        region: corners of the area in which faces are followed, in shares of width and height;
            empty for the whole frame.
        min_inter_eye_distance: pixels.
        fpir: target false-positive identification rate of a track's decision.
        watch_list: what the metadata of a subject must hold to be named.
        cool_down_seconds: for which a subject is not told again.
        keep_best_shot_seconds: for which the best shot's picture is kept.
        keep_track_seconds: for which the vectors of a track that has left are kept.
        enhance: enhance faces that gain by it.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    region: tuple[tuple[_Share, _Share], ...] = Field((), max_length=64)
    min_inter_eye_distance: float = Field(ge=4, le=1000)
    fpir: float = Field(gt=0, lt=1)
    watch_list: Mapping[str, str] = Field(default_factory=dict, max_length=_MOST_PAIRS)
    cool_down_seconds: float = Field(ge=0, le=_LONGEST)
    keep_best_shot_seconds: float = Field(ge=0, le=_LONGEST)
    keep_track_seconds: float = Field(ge=0, le=_LONGEST)
    enhance: bool = True


def default_policy(cameras: CameraSettings, gallery: GallerySettings) -> Policy:
    """The policy of a camera that was given none."""
    return Policy(
        min_inter_eye_distance=cameras.min_inter_eye_distance,
        fpir=gallery.fpir if cameras.fpir is None else cameras.fpir,
        cool_down_seconds=cameras.cool_down_seconds,
        keep_best_shot_seconds=cameras.keep_best_shot_seconds,
        keep_track_seconds=cameras.keep_track_seconds,
    )


def checked_policy(default: Policy, given: Mapping[str, object]) -> Policy:
    """A policy from what a caller set.

    Args:
        default: holds what was not set.
        given: by name of the field.

    Raises:
        MienError: names the field at fault.
    """
    region = given.get("region")
    if isinstance(region, (list, tuple)) and 0 < len(region) < 3:
        raise _invalid("region", "A region has at least three corners.")
    try:
        return Policy.model_validate({**default.model_dump(), **given})
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        raise _invalid(str(fault["loc"][0]), f"{fault['msg']}.") from error


class Policies:
    """The policies of all cameras, kept as jobs of the gallery.

    Args:
        access: the way to the gallery.
        default: of a camera that was given none.
    """

    def __init__(self, access: GalleryAccess, default: Policy) -> None:
        self._access = access
        self.default = default
        self._known: dict[tuple[str, str], tuple[Policy, float]] = {}

    async def get(self, tenant: str, camera_id: str) -> Policy:
        """A camera's policy.

        A gallery that cannot be asked does not stop a camera: it goes on with what was known, or
        with the default.
        """
        known = self._known.get((tenant, camera_id))
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        try:
            job = await (await self._access.gallery()).job(_name(tenant, camera_id))
            policy = self.default if job is None else self._read(job)
        except MienError as error:
            _log.warning("the policy of a camera cannot be read", code=error.kind.code)
            policy = self.default if known is None else known[0]
        self._remember(tenant, camera_id, policy)
        return policy

    async def put(self, tenant: str, camera_id: str, policy: Policy) -> None:
        """Stores a policy.

        Raises:
            MienError: the gallery cannot be used.
        """
        state = policy.model_dump(mode="json")
        await (await self._access.gallery()).put_job(Job(_name(tenant, camera_id), state))
        self._remember(tenant, camera_id, policy)

    async def of_tenant(self, tenant: str) -> dict[str, Policy]:
        """All policies that were set, by camera.

        Raises:
            MienError: the gallery cannot be used.
        """
        start = _name(tenant, "")
        jobs = await (await self._access.gallery()).jobs()
        return {
            job.name.removeprefix(start): self._read(job)
            for job in jobs
            if job.name.startswith(start)
        }

    def _remember(self, tenant: str, camera_id: str, policy: Policy) -> None:
        self._known[tenant, camera_id] = (policy, time.monotonic() + _KNOWN_SECONDS)

    def forget(self, tenant: str, camera_id: str) -> None:
        """Frees what is remembered of a camera that is gone; what is stored stays."""
        self._known.pop((tenant, camera_id), None)

    def _read(self, job: Job) -> Policy:
        try:
            return checked_policy(self.default, job.state)
        except MienError:
            _log.warning("a stored policy is not valid here; the default holds")
            return self.default


def _name(tenant: str, camera_id: str) -> str:
    return f"{_PREFIX}{tenant}:{camera_id}"


def _invalid(field: str, detail: str) -> MienError:
    return MienError(Errors.INVALID_REQUEST, detail, field=f"policy.{field}")
