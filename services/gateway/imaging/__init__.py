"""The gateway's first stage: the bytes of a picture file to upright RGB pixels."""

from services.gateway.imaging.decode import decode
from services.gateway.imaging.encode import png_of
from services.gateway.imaging.picture import ImageError, ImageLimits, ImageProblem, Picture

__all__ = ["ImageError", "ImageLimits", "ImageProblem", "Picture", "decode", "png_of"]
