"""Weights that others published in formats of their own, written as ONNX on the user's machine.

The same bytes in give the same bytes out, on every machine: a card names the SHA-256 of both.
"""

from models.conversion.convert import ConversionError, Method, convert, converter

__all__ = ["ConversionError", "Method", "convert", "converter"]
