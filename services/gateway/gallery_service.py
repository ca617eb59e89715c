"""gRPC about stored people: a thin skin over the gateway's core."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from services.errors import MienError
from services.gateway.bulk_enrolment import Row
from services.gateway.gallery_core import GalleryGateway
from services.gateway.gallery_messages import (
    bulk_message,
    deletion_message,
    enrol_message,
    export_message,
    gallery_message,
    identify_message,
    subject_message,
    subject_templates_message,
    verify_message,
)
from services.gateway.gallery_requests import (
    enrol_command,
    identify_command,
    tenant_of,
    verify_command,
)
from services.gateway.subjects import CreateCommand
from services.rpc.mien.v1 import gallery_pb2, gallery_pb2_grpc
from services.rpc.server import answer

SERVICE_NAME = gallery_pb2.DESCRIPTOR.services_by_name["GalleryService"].full_name
_Context = grpc.aio.ServicerContext[Any, Any]
_USUAL_PAGE = 100


class GalleryServicer(gallery_pb2_grpc.GalleryServiceServicer):
    """`mien.v1.GalleryService`.

    Args:
        gallery: does the work.
    """

    def __init__(self, gallery: GalleryGateway) -> None:
        self._gallery = gallery

    async def DescribeGallery(  # noqa: N802 - gRPC's name
        self, request: gallery_pb2.DescribeGalleryRequest, context: _Context
    ) -> gallery_pb2.DescribeGalleryResponse:
        """Tells which model the gallery lives by, and how full it is."""

        async def work(request_id: str) -> gallery_pb2.DescribeGalleryResponse:
            info = await self._gallery.models.describe(tenant_of(context))
            return gallery_message(info, self._gallery.settings.gallery.fpir, request_id)

        return await answer(context, "DescribeGallery", work)

    async def CreateSubject(  # noqa: N802 - gRPC's name
        self, request: gallery_pb2.CreateSubjectRequest, context: _Context
    ) -> gallery_pb2.CreateSubjectResponse:
        """Stores a subject without templates."""

        async def work(request_id: str) -> gallery_pb2.CreateSubjectResponse:
            command = CreateCommand(
                request.subject_id, request.name, dict(request.metadata), request.idempotency_key
            )
            made = await self._gallery.subjects.create(tenant_of(context), command)
            return gallery_pb2.CreateSubjectResponse(
                subject=subject_message(made.subject),
                repeated=made.repeated,
                request_id=request_id,
            )

        return await answer(context, "CreateSubject", work)

    async def ListSubjects(  # noqa: N802 - gRPC's name
        self, request: gallery_pb2.ListSubjectsRequest, context: _Context
    ) -> gallery_pb2.ListSubjectsResponse:
        """Lists subjects by id, page by page."""

        async def work(request_id: str) -> gallery_pb2.ListSubjectsResponse:
            page = await self._gallery.subjects.page(
                tenant_of(context), request.cursor, request.limit or _USUAL_PAGE
            )
            return gallery_pb2.ListSubjectsResponse(
                subjects=[subject_message(one) for one in page.rows],
                cursor=page.cursor,
                request_id=request_id,
            )

        return await answer(context, "ListSubjects", work)

    async def GetSubject(  # noqa: N802 - gRPC's name
        self, request: gallery_pb2.GetSubjectRequest, context: _Context
    ) -> gallery_pb2.GetSubjectResponse:
        """One subject with its templates."""

        async def work(request_id: str) -> gallery_pb2.GetSubjectResponse:
            found = await self._gallery.subjects.get(tenant_of(context), request.subject_id)
            return subject_templates_message(found, request_id)

        return await answer(context, "GetSubject", work)

    async def ExportSubject(  # noqa: N802 - gRPC's name
        self, request: gallery_pb2.ExportSubjectRequest, context: _Context
    ) -> gallery_pb2.ExportSubjectResponse:
        """All that is stored of a person."""

        async def work(request_id: str) -> gallery_pb2.ExportSubjectResponse:
            found = await self._gallery.exporter.export(
                tenant_of(context), request.subject_id, vectors=request.vectors
            )
            return export_message(found, request_id)

        return await answer(context, "ExportSubject", work)

    async def DeleteSubject(  # noqa: N802 - gRPC's name
        self, request: gallery_pb2.DeleteSubjectRequest, context: _Context
    ) -> gallery_pb2.DeleteSubjectResponse:
        """Deletes every trace of a subject, and tells what a second look found."""

        async def work(request_id: str) -> gallery_pb2.DeleteSubjectResponse:
            report = await self._gallery.subjects.delete(tenant_of(context), request.subject_id)
            return gallery_pb2.DeleteSubjectResponse(
                report=deletion_message(report), request_id=request_id
            )

        return await answer(context, "DeleteSubject", work)

    async def SetConsent(  # noqa: N802 - gRPC's name
        self, request: gallery_pb2.SetConsentRequest, context: _Context
    ) -> gallery_pb2.SetConsentResponse:
        """Withdraws consent, or gives it again."""

        async def work(request_id: str) -> gallery_pb2.SetConsentResponse:
            changed = await self._gallery.subjects.set_consent(
                tenant_of(context), request.subject_id, given=request.given
            )
            return gallery_pb2.SetConsentResponse(
                subject=subject_message(changed), request_id=request_id
            )

        return await answer(context, "SetConsent", work)

    async def DeleteTemplate(  # noqa: N802 - gRPC's name
        self, request: gallery_pb2.DeleteTemplateRequest, context: _Context
    ) -> gallery_pb2.DeleteTemplateResponse:
        """Deletes one template in all model versions."""

        async def work(request_id: str) -> gallery_pb2.DeleteTemplateResponse:
            report = await self._gallery.subjects.delete_template(
                tenant_of(context), request.subject_id, request.template_id
            )
            return gallery_pb2.DeleteTemplateResponse(
                report=deletion_message(report), request_id=request_id
            )

        return await answer(context, "DeleteTemplate", work)

    async def Enrol(  # noqa: N802 - gRPC's name
        self, request: gallery_pb2.EnrolRequest, context: _Context
    ) -> gallery_pb2.EnrolResponse:
        """Makes a template of pictures of one person, or stores vectors."""

        async def work(request_id: str) -> gallery_pb2.EnrolResponse:
            command = enrol_command(request)
            made = await self._gallery.enroller.enrol(tenant_of(context), command)
            return enrol_message(made, request_id)

        return await answer(context, "Enrol", work)

    # A coroutine that writes its answers itself, which grpc.aio takes and its stubs do not know: it
    # is cancelled where it stands, whereas a generator is left to the garbage collector.
    async def BulkEnrol(  # type: ignore[override]  # noqa: N802 - gRPC's name
        self,
        request_iterator: AsyncIterator[gallery_pb2.BulkEnrolRequest],
        context: _Context,
    ) -> None:
        """Enrols subject after subject, each answered in its order."""

        async def work(request_id: str) -> None:
            answers = self._gallery.bulk.enrol(tenant_of(context), _rows(request_iterator))
            async with aclosing(answers):
                async for one in answers:
                    await context.write(bulk_message(one, request_id))

        await answer(context, "BulkEnrol", work)

    async def VerifySubject(  # noqa: N802 - gRPC's name
        self, request: gallery_pb2.VerifySubjectRequest, context: _Context
    ) -> gallery_pb2.VerifySubjectResponse:
        """Says whether a picture or a vector is of one stored subject."""

        async def work(request_id: str) -> gallery_pb2.VerifySubjectResponse:
            command = verify_command(request)
            found = await self._gallery.verifier.verify(tenant_of(context), command)
            return verify_message(found, request_id)

        return await answer(context, "VerifySubject", work)

    async def Identify(  # noqa: N802 - gRPC's name
        self, request: gallery_pb2.IdentifyRequest, context: _Context
    ) -> gallery_pb2.IdentifyResponse:
        """Says who is seen in pictures, or whom vectors are of."""

        async def work(request_id: str) -> gallery_pb2.IdentifyResponse:
            command = identify_command(request)
            found = await self._gallery.identifier.identify(tenant_of(context), command)
            return identify_message(found, request_id)

        return await answer(context, "Identify", work)


async def _rows(requests: AsyncIterator[gallery_pb2.BulkEnrolRequest]) -> AsyncIterator[Row]:
    async for request in requests:
        try:
            yield enrol_command(request.enrolment)
        except MienError as error:
            yield error
