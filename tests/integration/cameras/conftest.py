"""A tenant for each test, people who are enrolled, and stubs of the camera service."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from services.rpc.mien.v1 import camera_pb2_grpc, face_pb2, gallery_pb2, gallery_pb2_grpc
from tests.integration.cameras.film import Metadata
from tests.integration.harness import Mien
from tests.integration.pictures import jpeg, portrait


@pytest.fixture
def metadata() -> Metadata:
    return (("x-mien-tenant", f"tenant-{uuid.uuid4().hex[:12]}"),)


@pytest.fixture(scope="session")
def stub(mien: Mien) -> Iterator[camera_pb2_grpc.CameraServiceStub]:
    with mien.channel() as channel:
        yield camera_pb2_grpc.CameraServiceStub(channel)


@pytest.fixture(scope="session")
def gallery(mien: Mien) -> Iterator[gallery_pb2_grpc.GalleryServiceStub]:
    with mien.gallery() as made:
        yield made


@pytest.fixture(scope="session")
def obama_filmed(portraits: Path) -> Image.Image:
    """Another photograph than the one that is enrolled."""
    return portrait(portraits, "obama2.jpg")


@pytest.fixture(scope="session")
def biden_filmed(portraits: Path) -> Image.Image:
    return portrait(portraits, "biden.jpg")


@pytest.fixture
def with_obama(
    gallery: gallery_pb2_grpc.GalleryServiceStub, metadata: Metadata, portraits: Path
) -> str:
    """Enrols Obama for the tenant; gives the subject's id."""
    enrol(gallery, metadata, "obama", portrait(portraits, "obama.jpg"))
    return "obama"


def enrol(
    gallery: gallery_pb2_grpc.GalleryServiceStub,
    metadata: Metadata,
    subject: str,
    picture: Image.Image,
    **pairs: str,
) -> None:
    request = gallery_pb2.EnrolRequest(
        subject_id=subject,
        pictures=[face_pb2.Image(content=jpeg(picture))],
        metadata=pairs,
        allow_duplicate=True,
    )
    made = gallery.Enrol(request, metadata=metadata)
    assert made.outcome == gallery_pb2.ENROLMENT_OUTCOME_ENROLLED
