"""The frames of one camera: a short queue, and the work on them one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from functools import partial

from services.cameras import shots
from services.cameras.camera import Camera
from services.cameras.frames import SeenFrame, pass_scale, see
from services.cameras.keeping import Keeping
from services.cameras.looker import Looker, WaitingShot
from services.cameras.messages import BestShot, Frame, FrameOf, Refusal, Report, Why
from services.cameras.policy import Policies
from services.cameras.session import Session
from services.cameras.shots import TakenShot
from services.cameras.track import Track
from services.errors import Errors, MienError
from services.gateway.detection import Detection
from services.gateway.face_work import FaceWork
from services.telemetry import get_logger
from services.telemetry.metrics import CAMERA_EVENTS, CAMERA_FRAMES, CAMERA_LATENCY

_log = get_logger(__name__)


class CameraStream:
    """A camera with its queue. It belongs to one event loop.

    Args:
        camera: its tracks.
        work: detects and measures.
        looker: embeds and decides.
        policies: of all cameras.
        keeping: of pictures and tracks.

    Attributes:
        camera: as given.
        session: that sends its frames; None while none does.
        frames: that were worked on.
        dropped: frames.
        idle_since: `time.monotonic` of the last frame, or of the end of its stream.
    """

    def __init__(
        self,
        camera: Camera,
        work: FaceWork,
        looker: Looker,
        policies: Policies,
        keeping: Keeping,
    ) -> None:
        self.camera = camera
        self.session: Session | None = None
        self.frames = 0
        self.dropped = 0
        self.idle_since = time.monotonic()
        self._work, self._looker, self._keeping = work, looker, keeping
        self._policies = policies
        self._limits = work.settings.cameras
        self._waiting: deque[tuple[Session, Frame]] = deque()
        self._dropped_since = 0
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def attach(self, session: Session) -> Session | None:
        """Takes frames of a stream from now on.

        Returns:
            The stream that sent them before and is to be ended.
        """
        before, self.session = self.session, session
        if before is not session:
            self._drop_waiting()
            self.camera.reconnected()
        return before if before is not session else None

    def detach(self, session: Session) -> None:
        """The stream is over; what it has sent and nobody waits for is not worked on."""
        if self.session is session:
            self.session = None
            self.idle_since = time.monotonic()
            self._drop_waiting()

    def put(self, session: Session, frame: Frame) -> None:
        """Adds a frame; where too many wait, the oldest is dropped."""
        if len(self._waiting) >= self._limits.max_waiting:
            old, _ = self._waiting.popleft()
            self._count_dropped(old)
        session.begin_work()
        self._waiting.append((session, frame))
        self.idle_since = time.monotonic()
        self._news.set()

    def flush(self) -> None:
        """Sends what happened, and keeps what is left of tracks that have left."""
        for event in self.camera.events():
            CAMERA_EVENTS.labels(event.kind).inc()
            if event.of.frame_id or event.seconds:
                CAMERA_LATENCY.observe(event.seconds)
            if self.session is not None:
                self.session.send(event)
        for track in self.camera.departed:
            self._keeping.keep_track(track)
        self.camera.departed.clear()

    def stop(self) -> None:
        """Stops, without waiting for it."""
        self._drop_waiting()
        self._task.cancel()

    async def close(self) -> None:
        """Stops."""
        self.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def _drop_waiting(self) -> None:
        while self._waiting:
            self._count_dropped(self._waiting.popleft()[0])

    def _count_dropped(self, session: Session) -> None:
        session.end_work()
        self.dropped += 1
        self._dropped_since += 1
        CAMERA_FRAMES.labels("dropped").inc()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                session, frame = self._waiting.popleft()
                try:
                    await self._frame(session, frame)
                except MienError as error:
                    CAMERA_FRAMES.labels("refused").inc()
                    session.send(Refusal(frame.of, error))
                except Exception:  # noqa: BLE001 - one bad frame must not end a camera
                    _log.exception("a frame could not be worked on")
                    CAMERA_FRAMES.labels("refused").inc()
                    failed = MienError(Errors.INTERNAL, "The frame could not be worked on.")
                    session.send(Refusal(frame.of, failed))
                finally:
                    session.end_work()

    async def _frame(self, session: Session, frame: Frame) -> None:
        started, capacity = time.monotonic(), self._work.capacity
        camera, limits = self.camera, self._limits
        camera.policy = await self._policies.get(camera.tenant, camera.camera_id)
        seen = await capacity.in_pool(
            partial(see, frame, self._work.pipeline, camera.policy, limits)
        )
        tracking = time.monotonic()
        height, width = seen.pixels.shape[:2]
        wanted = camera.follow(frame.of, seen.faces, width, height)
        tracked = time.monotonic()
        self.flush()
        if wanted:
            await self._take(session, frame.of, seen, wanted)
        self.frames += 1
        CAMERA_FRAMES.labels("done").inc()
        dropped, self._dropped_since = self._dropped_since, 0
        session.send(
            Report(
                frame.of,
                len(seen.faces),
                dropped,
                len(self._waiting),
                {
                    "queue": round((started - frame.of.arrived) * 1e3, 3),
                    "decode": round(seen.decode_ms, 3),
                    "detect": round(seen.detect_ms, 3),
                    "track": round((tracked - tracking) * 1e3, 3),
                    "total": round((time.monotonic() - frame.of.arrived) * 1e3, 3),
                },
                camera.in_sight(frame.of),
            )
        )

    async def _take(
        self,
        session: Session,
        of: FrameOf,
        seen: SeenFrame,
        wanted: list[tuple[Track, Detection]],
    ) -> None:
        model = await self._looker.model()
        policy = self.camera.policy
        if model is None:
            for track, _ in wanted:
                track.why_not, track.next_shot = Why.UNAVAILABLE, self.camera.now + 1.0
            return
        look = partial(
            shots.take,
            seen.pixels,
            scale=pass_scale(seen.pixels, policy),
            detector=self._work.pipeline,
            geometry=model.geometry,
            limits=self._work.settings.decision,
            keep=policy.keep_best_shot_seconds > 0,
        )
        taken = await self._work.capacity.in_pool(lambda: [look(face) for _, face in wanted])
        for (track, _), shot in zip(wanted, taken, strict=True):
            self._took(session, of, track, shot)
        self.flush()

    def _took(self, session: Session, of: FrameOf, track: Track, shot: TakenShot) -> None:
        quality = shot.face.quality.unified
        if track.best is None or quality > track.best.face.quality.unified:
            track.best = BestShot(of, shot.face, None, shot.picture is not None)
            if shot.picture is not None:
                keep = self.camera.policy.keep_best_shot_seconds
                self._keeping.keep_picture(track, track.best, shot.picture, keep)
        if shot.causes:
            track.poor += 1
            if not track.shots:
                track.why_not = shots.why_not(shot.causes, shot.face)
            self.camera.appear(track)
        else:
            track.poor = 0
            session.begin_work()
            self._looker.put(WaitingShot(self.camera, track, of, shot, session.end_work))
        track.next_shot = self.camera.now + shots.spacing(track)
