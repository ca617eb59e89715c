"""One conversion by its name; what it needs is imported when it is asked for."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Literal

from models.conversion.errors import ConversionError

Method = Literal["keras-h5", "dlib-resnet"]

_MODULES: dict[Method, str] = {
    "keras-h5": "models.conversion.keras_h5",
    "dlib-resnet": "models.conversion.dlib_resnet",
}

__all__ = ["ConversionError", "Method", "convert", "converter"]


def convert(method: Method, source: Path) -> bytes:
    """Reads a weights file and gives the same network as an ONNX file's content.

    Args:
        method: what the file is.
        source: the file, as its authors published it.

    Raises:
        ConversionError: a package is missing, or the file is damaged or holds another network than
            the method knows.
    """
    try:
        converted: bytes = converter(method).to_onnx(source)
    except OSError as error:
        raise ConversionError(f"{source.name} cannot be read.") from error
    return converted


def converter(method: Method) -> ModuleType:
    """The module of a method.

    Raises:
        ConversionError: a package that it needs is missing; better known before a download.
    """
    try:
        return importlib.import_module(_MODULES[method])
    except ModuleNotFoundError as error:
        raise ConversionError(
            f"Conversion needs the package {error.name}. Run: pip install 'mien[convert]'"
        ) from error
