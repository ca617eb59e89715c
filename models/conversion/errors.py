"""What goes wrong in a conversion."""

from __future__ import annotations


class ConversionError(Exception):
    """A weights file could not be converted; the message says why and, where it helps, where."""
