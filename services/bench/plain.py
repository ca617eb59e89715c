"""The plain loop: the same work as a verification, with no service around it."""

from __future__ import annotations

import numpy as np
import simplejpeg

from models.zoo import Zoo
from services.embedding import load_configured
from services.gateway.alignment import CropGeometry, align
from services.gateway.server import load_detector
from services.settings import Settings


class PlainLoop:
    """Decodes, detects, aligns, embeds and compares, one after the other in this process.

    Args:
        settings: of detector and engine.
    """

    def __init__(self, settings: Settings) -> None:
        zoo = Zoo(settings.home)
        self.detector = load_detector(zoo, settings)
        self.embedder = load_configured(zoo, settings.embedding.models[0], settings.engine)

    @property
    def engine(self) -> str:
        """What runs the embedder."""
        info = self.embedder.engine.info
        return f"{info.engine} {info.precision}"

    def verify(self, probe: bytes, reference: bytes) -> float:
        """The similarity of the largest faces in two JPEG files."""
        crops = []
        for data in (probe, reference):
            pixels = simplejpeg.decode_jpeg(data, colorspace="RGB")
            faces = self.detector.detect(pixels)
            crops.append(align(pixels, faces[0].points, CropGeometry()))
        first, second = self.embedder.embed(np.stack(crops))
        return float(first @ second)
