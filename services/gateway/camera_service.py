"""gRPC about cameras: a thin skin over `services.cameras`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from services.cameras.messages import Refusal
from services.cameras.service import Cameras
from services.cameras.session import Session
from services.cameras.track_enrolment import TrackEnrolCommand, TrackEnroller
from services.errors import MienError
from services.gateway.camera_messages import (
    best_shot_message,
    camera_message,
    frame_input,
    frame_of,
    policy_fields,
    policy_message,
    response,
)
from services.gateway.enrolment import Enroller
from services.gateway.gallery_messages import OUTCOMES
from services.gateway.gallery_requests import tenant_of
from services.rpc.mien.v1 import camera_pb2, camera_pb2_grpc
from services.rpc.server import answer

SERVICE_NAME = camera_pb2.DESCRIPTOR.services_by_name["CameraService"].full_name
_Context = grpc.aio.ServicerContext[Any, Any]


class CameraServicer(camera_pb2_grpc.CameraServiceServicer):
    """`mien.v1.CameraService`.

    Args:
        cameras: do the work.
        enroller: stores what was seen.
    """

    def __init__(self, cameras: Cameras, enroller: Enroller) -> None:
        self._cameras = cameras
        self._enroller = TrackEnroller(cameras, enroller)

    # A coroutine that writes its answers itself, as `GalleryServicer.BulkEnrol` is.
    async def Recognize(  # type: ignore[override]  # noqa: N802 - gRPC's name
        self,
        request_iterator: AsyncIterator[camera_pb2.RecognizeRequest],
        context: _Context,
    ) -> None:
        """Follows the faces in frames and tells who they are."""

        async def work(_: str) -> None:
            async with self._cameras.session(tenant_of(context)) as session:
                reading = asyncio.create_task(self._read(session, request_iterator))
                try:
                    async for message in session.messages():
                        await context.write(response(message))
                finally:
                    reading.cancel()
                    await asyncio.wait([reading])

        await answer(context, "Recognize", work)

    async def ListCameras(  # noqa: N802 - gRPC's name
        self, request: camera_pb2.ListCamerasRequest, context: _Context
    ) -> camera_pb2.ListCamerasResponse:
        """Lists the tenant's cameras."""
        del request

        async def work(request_id: str) -> camera_pb2.ListCamerasResponse:
            found = await self._cameras.known(tenant_of(context))
            return camera_pb2.ListCamerasResponse(
                cameras=[camera_message(one) for one in found], request_id=request_id
            )

        return await answer(context, "ListCameras", work)

    async def GetCameraPolicy(  # noqa: N802 - gRPC's name
        self, request: camera_pb2.GetCameraPolicyRequest, context: _Context
    ) -> camera_pb2.GetCameraPolicyResponse:
        """Tells a camera's policy."""

        async def work(request_id: str) -> camera_pb2.GetCameraPolicyResponse:
            policy = await self._cameras.policy(tenant_of(context), request.camera_id)
            return camera_pb2.GetCameraPolicyResponse(
                policy=policy_message(policy), request_id=request_id
            )

        return await answer(context, "GetCameraPolicy", work)

    async def SetCameraPolicy(  # noqa: N802 - gRPC's name
        self, request: camera_pb2.SetCameraPolicyRequest, context: _Context
    ) -> camera_pb2.SetCameraPolicyResponse:
        """Sets a camera's policy."""

        async def work(request_id: str) -> camera_pb2.SetCameraPolicyResponse:
            given = policy_fields(request.policy)
            policy = await self._cameras.set_policy(tenant_of(context), request.camera_id, given)
            return camera_pb2.SetCameraPolicyResponse(
                policy=policy_message(policy), request_id=request_id
            )

        return await answer(context, "SetCameraPolicy", work)

    async def GetBestShot(  # noqa: N802 - gRPC's name
        self, request: camera_pb2.GetBestShotRequest, context: _Context
    ) -> camera_pb2.GetBestShotResponse:
        """Gives the picture of a track's best shot."""

        async def work(request_id: str) -> camera_pb2.GetBestShotResponse:
            kept = self._cameras.picture(tenant_of(context), request.track_id)
            return camera_pb2.GetBestShotResponse(
                image=kept.image,
                shot=best_shot_message(kept.shot),
                expires=kept.expires,
                request_id=request_id,
            )

        return await answer(context, "GetBestShot", work)

    async def EnrolTrack(  # noqa: N802 - gRPC's name
        self, request: camera_pb2.EnrolTrackRequest, context: _Context
    ) -> camera_pb2.EnrolTrackResponse:
        """Enrols a subject from what was seen along a track."""

        async def work(request_id: str) -> camera_pb2.EnrolTrackResponse:
            command = TrackEnrolCommand(
                request.track_id,
                request.subject_id,
                request.name if request.HasField("name") else None,
                request.allow_duplicate,
                request.idempotency_key,
            )
            made = await self._enroller.enrol(tenant_of(context), command)
            return camera_pb2.EnrolTrackResponse(
                outcome=OUTCOMES[made.outcome],
                subject_id=made.subject_id,
                template_ids=made.template_ids,
                shots=made.shots,
                request_id=request_id,
            )

        return await answer(context, "EnrolTrack", work)

    async def _read(
        self, session: Session, requests: AsyncIterator[camera_pb2.RecognizeRequest]
    ) -> None:
        try:
            async for request in requests:
                of = frame_of(request)
                try:
                    frame = frame_input(request, of)
                except MienError as error:
                    session.send(Refusal(of, error))
                    continue
                self._cameras.push(session, frame)
        except MienError as error:
            session.fail(error)
        finally:
            session.end()
