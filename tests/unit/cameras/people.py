"""Faces, models and looks that tests make up."""

from __future__ import annotations

import numpy as np

from services.cameras.camera import Camera
from services.cameras.messages import FrameOf
from services.cameras.policy import Policy, default_policy
from services.cameras.track import Shot
from services.cameras.verdict import Look
from services.gallery import Space
from services.gallery.identify import Identity
from services.gateway.detection import Detection
from services.gateway.gallery_models import GalleryModel
from services.rpc.mien.v1 import model_pb2
from services.settings import CameraSettings, GallerySettings

SETTINGS = CameraSettings()
DEFAULT = default_policy(SETTINGS, GallerySettings())
WIDTH, HEIGHT = 640, 480
MODEL = GalleryModel(
    Space("m", "1", "a", "b", 8),
    model_pb2.ModelInfo(
        identity=model_pb2.ModelIdentity(name="m", version="1"),
        metric=model_pb2.METRIC_COSINE,
        thresholds=[
            model_pb2.Threshold(fmr=1e-2, similarity=0.3),
            model_pb2.Threshold(fmr=1e-4, similarity=0.5),
        ],
    ),
)


def face(x: float, y: float = 240.0, size: float = 60.0, score: float = 0.9) -> Detection:
    """A frontal face with its middle there."""
    left, top = x - size / 2, y - size * 0.65
    shares = np.array([(0.3, 0.35), (0.7, 0.35), (0.5, 0.55), (0.35, 0.75), (0.65, 0.75)])
    points = (np.array([left, top]) + shares * [size, size * 1.3]).astype(np.float32)
    return Detection((left, top, size, size * 1.3), points, score)


def camera(policy: Policy = DEFAULT, settings: CameraSettings = SETTINGS) -> Camera:
    return Camera("t", "c", policy, settings, 0.6)


def of(number: int, fps: float = 5.0) -> FrameOf:
    moment = 100.0 + number / fps
    return FrameOf("c", str(number), moment, moment)


def vector(number: int, other: int = 0, share: float = 0.0) -> np.ndarray:
    """A person's vector, somewhat like another's."""
    made = np.zeros(8, np.float32)
    made[number] = np.sqrt(1.0 - share**2)
    made[other] += share
    return made


def shot(values: np.ndarray, weight: float = 1.0) -> Shot:
    return Shot(values, values, weight, 50.0, None)


def look(subject: str = "", *, strong: bool = False, ambiguous: bool = False) -> Look:
    identity = Identity.KNOWN if subject else Identity.UNKNOWN
    if ambiguous:
        identity = Identity.AMBIGUOUS
    return Look(identity, subject, strong, 0.4, 0.3, 0.01, None, model_pb2.ModelIdentity())
