"""What can be wrong with a model of the zoo."""

from __future__ import annotations


class ZooError(Exception):
    """Something about a model, its card or its weights is wrong; the message says what."""


class UnknownModelError(ZooError):
    """No model of that name or version is known."""


class WeightsMissingError(ZooError):
    """The model is known, but its weights are not on this machine."""


class FetchError(Exception):
    """A file could not be had; the message says from where and what to do."""


class DiskError(FetchError):
    """A file has no room here, or may not be written; another source would not help."""
