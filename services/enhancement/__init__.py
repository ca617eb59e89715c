"""The enhancement service: poor faces in, redrawn faces out, with what was done to each."""

from services.enhancement.enhancer import PICTURE_RANGE, Enhancer, load_enhancer
from services.enhancement.server import EnhancementServer
from services.enhancement.service import EnhancementService, InProcessLink

__all__ = [
    "PICTURE_RANGE",
    "EnhancementServer",
    "EnhancementService",
    "Enhancer",
    "InProcessLink",
    "load_enhancer",
]
