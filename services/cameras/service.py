"""All cameras of the gateway: who sends frames, what is known, what is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.cameras.camera import Camera
from services.cameras.frames import check_frame, checked_camera_id
from services.cameras.keeping import Keeping, KeptPicture
from services.cameras.looker import Looker
from services.cameras.messages import Frame, Refusal
from services.cameras.policy import Policies, Policy, checked_policy, default_policy
from services.cameras.session import Session
from services.cameras.stream import CameraStream
from services.cameras.track import Track
from services.cameras.tracking import library
from services.errors import Errors, MienError
from services.gateway.face_work import FaceWork
from services.gateway.gallery_models import GalleryModels
from services.telemetry import get_logger
from services.telemetry.metrics import CAMERA_FRAMES, CAMERA_TRACKS, CAMERAS

_log = get_logger(__name__)
_SWEEP_SECONDS = 1.0
_CHECK_SECONDS = 5.0  # between looks whether the subjects that were recognised still exist
_RETRY_AFTER = 5.0  # seconds
_STOPPING = "The service stops; connect again."


@dataclass(frozen=True)
class CameraInfo:
    """A camera as the service knows it."""

    camera_id: str
    policy: Policy
    connected: bool
    frames: int
    dropped: int
    tracks: int


class Cameras:
    """The camera service, free of gRPC. It belongs to one event loop.

    Args:
        work: detects, measures, enhances and embeds.
        models: of the gallery.

    Attributes:
        policies: of all cameras.
        keeping: of pictures and tracks.
        looker: embeds and decides.
        forgetting: called with tenant and subject when one is deleted.
    """

    def __init__(self, work: FaceWork, models: GalleryModels) -> None:
        self._work = work
        self._settings = work.settings.cameras
        default = default_policy(self._settings, work.settings.gallery)
        self.policies = Policies(models.access, default)
        self.keeping = Keeping()
        self.looker = Looker(work, models, self._told)
        self.forgetting: list[Callable[[str, str], None]] = []
        self._streams: dict[tuple[str, str], CameraStream] = {}
        self._sessions: set[Session] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._checked = 0.0
        self._stopping = False

    async def start(self) -> None:
        """Loads the tracker and begins to work."""
        await asyncio.to_thread(library)
        self.looker.start()
        self._sweeper = asyncio.create_task(self._sweep_always())

    def refuse_streams(self) -> None:
        """Ends all streams, so that their callers connect elsewhere."""
        self._stopping = True
        for session in list(self._sessions):
            session.fail(MienError(Errors.NOT_READY, _STOPPING, retry_after=1.0))

    async def close(self) -> None:
        """Stops, and deletes all that is held."""
        self.refuse_streams()
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        for stream in self._streams.values():
            await stream.close()
        self._streams.clear()
        await self.looker.close()

    @asynccontextmanager
    async def session(self, tenant: str) -> AsyncIterator[Session]:
        """A stream, for as long as its caller is there.

        Raises:
            MienError: there are as many as there may be, or the service stops.
        """
        if self._stopping:
            raise MienError(Errors.NOT_READY, _STOPPING, retry_after=1.0)
        if len(self._sessions) >= self._settings.max_cameras:
            raise _full("streams")
        session = Session(tenant)
        self._sessions.add(session)
        try:
            yield session
        finally:
            self._sessions.discard(session)
            for camera_id in session.cameras:
                if (stream := self._streams.get((tenant, camera_id))) is not None:
                    stream.detach(session)

    def push(self, session: Session, frame: Frame) -> None:
        """Takes a frame; one that cannot be used is answered in the stream.

        Raises:
            MienError: the stream's first camera is one more than there may be.
        """
        try:
            check_frame(frame, self._settings)
            stream = self._stream_of(session, frame.of.camera_id)
        except MienError as error:
            if error.error is Errors.OVERLOADED and not session.cameras:
                raise
            CAMERA_FRAMES.labels("refused").inc()
            session.send(Refusal(frame.of, error))
            return
        stream.put(session, frame)

    async def policy(self, tenant: str, camera_id: str) -> Policy:
        """A camera's policy.

        Raises:
            MienError: the id is not valid.
        """
        return await self.policies.get(tenant, checked_camera_id(camera_id))

    async def set_policy(self, tenant: str, camera_id: str, given: Mapping[str, object]) -> Policy:
        """Sets a camera's policy.

        Raises:
            MienError: a field is not valid, or the gallery cannot be used.
        """
        checked_camera_id(camera_id)
        policy = checked_policy(self.policies.default, given)
        await self.policies.put(tenant, camera_id, policy)
        return policy

    async def known(self, tenant: str) -> list[CameraInfo]:
        """The tenant's cameras, by id.

        Raises:
            MienError: the gallery cannot be used.
        """
        policies = await self.policies.of_tenant(tenant)
        known = {one for owner, one in self._streams if owner == tenant}
        found = []
        for camera_id in sorted({*policies, *known}):
            stream = self._streams.get((tenant, camera_id))
            policy = policies.get(camera_id, self.policies.default)
            if stream is None:
                found.append(CameraInfo(camera_id, policy, False, 0, 0, 0))
                continue
            told = sum(track.told for track in stream.camera.tracks.values())
            connected = stream.session is not None
            found.append(
                CameraInfo(camera_id, policy, connected, stream.frames, stream.dropped, told)
            )
        return found

    def picture(self, tenant: str, track_id: str) -> KeptPicture:
        """The picture of a track's best shot.

        Raises:
            MienError: it is not kept.
        """
        found = self.keeping.picture(tenant, track_id)
        if found is None:
            raise MienError(
                Errors.SHOT_NOT_KEPT,
                "No picture is kept of this track, or it has expired.",
                field="track_id",
            )
        return found

    def track(self, tenant: str, track_id: str) -> Track:
        """A track that is followed or kept.

        Raises:
            MienError: there is none.
        """
        for track in self._tracks(tenant):
            if track.id == track_id:
                return track
        raise MienError(
            Errors.TRACK_UNKNOWN, "There is no such track, or not any more.", field="track_id"
        )

    def forget(self, tenant: str, subject_id: str) -> int:
        """Deletes all that is held of a subject.

        Returns:
            How many tracks hold something of it after that: 0.
        """
        self.looker.searcher.forget(tenant, subject_id)
        for track in self._holding(tenant, subject_id):
            track.forget()
            self.keeping.drop_track(track)
        for (owner, _), stream in self._streams.items():
            if owner == tenant:
                stream.camera.told.pop(subject_id, None)
        for also in self.forgetting:
            also(tenant, subject_id)
        return len(self._holding(tenant, subject_id))

    def _holding(self, tenant: str, subject_id: str) -> list[Track]:
        return [one for one in self._tracks(tenant) if subject_id in one.subjects()]

    def _tracks(self, tenant: str) -> list[Track]:
        followed = [
            track
            for (owner, _), stream in self._streams.items()
            if owner == tenant
            for track in stream.camera.all_tracks()
        ]
        return followed + [one for one in self.keeping.departed() if one.tenant == tenant]

    def _stream_of(self, session: Session, camera_id: str) -> CameraStream:
        key = (session.tenant, camera_id)
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= self._settings.max_cameras and not self._make_room():
                raise _full("cameras")
            score = self._work.settings.detection.min_score
            camera = Camera(*key, self.policies.default, self._settings, score)
            stream = CameraStream(camera, self._work, self.looker, self.policies, self.keeping)
            self._streams[key] = stream
        before = stream.attach(session)
        session.cameras.add(camera_id)
        if before is not None:
            before.cameras.discard(camera_id)
            before.fail(
                MienError(
                    Errors.CAMERA_TAKEN_OVER,
                    "Another stream sends the frames of one of these cameras now.",
                    field="frame.camera_id",
                )
            )
        return stream

    def _make_room(self) -> bool:
        """Gives up the camera that has been cut off for longest; False if all are connected."""
        idle = [item for item in self._streams.items() if item[1].session is None]
        if not idle:
            return False
        key, stream = min(idle, key=lambda item: item[1].idle_since)
        self._give_up(key, stream)
        return True

    def _give_up(self, key: tuple[str, str], stream: CameraStream) -> None:
        stream.camera.leave_all()
        stream.flush()
        stream.stop()
        self.policies.forget(*key)
        del self._streams[key]

    def _told(self, camera: Camera) -> None:
        stream = self._streams.get((camera.tenant, camera.camera_id))
        if stream is not None and stream.camera is camera:
            stream.flush()

    async def _sweep_always(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            try:
                await self._sweep()
            except MienError as error:
                _log.warning("cameras could not be looked after", code=error.kind.code)
            except Exception:  # noqa: BLE001 - what is kept must expire all the same
                _log.exception("cameras could not be looked after")

    async def _sweep(self) -> None:
        now = time.monotonic()
        self.keeping.sweep()
        for key, stream in list(self._streams.items()):
            if now < stream.idle_since + self._settings.resume_seconds:
                continue
            if stream.session is None:
                self._give_up(key, stream)
            else:
                stream.camera.leave_all()
                stream.flush()
        CAMERAS.set(sum(one.session is not None for one in self._streams.values()))
        CAMERA_TRACKS.set(sum(len(one.camera.tracks) for one in self._streams.values()))
        if now > self._checked + _CHECK_SECONDS:
            self._checked = now
            await self._forget_the_deleted()

    async def _forget_the_deleted(self) -> None:
        """Forgets subjects who were deleted through another process, or withdrew consent."""
        for tenant in {owner for owner, _ in self._streams}:
            held = {one for track in self._tracks(tenant) for one in track.subjects()}
            for subject_id in held:
                if not await self.looker.searcher.exists(tenant, subject_id):
                    self.forget(tenant, subject_id)


def _full(what: str) -> MienError:
    return MienError(
        Errors.OVERLOADED, f"There are as many {what} as there may be.", retry_after=_RETRY_AFTER
    )
