"""The plain loop: the same work as a verification, with no service around it."""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from models.zoo import Zoo
from services.embedding import load_configured
from services.gateway.alignment import CropGeometry, align
from services.gateway.server import load_detector
from services.settings import Settings


class PlainLoop:
    """Decodes, detects, aligns, embeds and compares, one after the other in this process.

    Args:
        settings: of detector and engine.
        model: embedder; the settings' first if none is named.
    """

    def __init__(self, settings: Settings, model: str = "") -> None:
        zoo = Zoo(settings.home)
        self.detector = load_detector(zoo, settings)
        name = model or settings.embedding.models[0]
        self.embedder = load_configured(zoo, name, settings.engine)

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

    def extract(self, data: bytes) -> NDArray[np.float32]:
        """The vector of the largest face in a JPEG file."""
        spec = self.embedder.card.input
        geometry = CropGeometry(spec.width, spec.height, spec.template, spec.template_scale)
        pixels = simplejpeg.decode_jpeg(data, colorspace="RGB")
        crop = align(pixels, self.detector.detect(pixels)[0].points, geometry)
        vector: NDArray[np.float32] = self.embedder.embed(crop[None])[0]
        return vector
