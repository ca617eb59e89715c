"""A model's weights from one source: downloaded, checked, converted if they need it, in place."""

from __future__ import annotations

from pathlib import Path

from models.conversion import ConversionError, convert, converter
from models.zoo.card_base import Conversion, Source, UrlSource, Weights
from models.zoo.disk import writing
from models.zoo.errors import FetchError
from models.zoo.fetch import Progress, fetch_member, fetch_url, file_sha256


def obtain(
    weights: Weights,
    source: Source,
    archives: Path,
    target: Path,
    progress: Progress | None = None,
) -> None:
    """Puts a weights file in its place, whole or not at all.

    Args:
        weights: which file, and what it is made from.
        source: where it comes from.
        archives: folder that keeps distributions.
        target: where it goes.
        progress: told how far the download is.

    Raises:
        FetchError: it is not to be had, is not the file that the card names, or cannot be
            converted.
    """
    if weights.conversion is None:
        _download(source, weights.sha256, archives, target, progress)
        return
    try:
        converter(weights.conversion.method)
    except ConversionError as error:
        raise FetchError(str(error)) from error
    original = target.with_name(weights.conversion.file + ".original")
    try:
        _download(source, weights.conversion.sha256, archives, original, progress)
        _convert(weights.conversion, original, weights, target)
    finally:
        original.unlink(missing_ok=True)


def _download(
    source: Source, sha256: str, archives: Path, target: Path, progress: Progress | None
) -> None:
    if isinstance(source, UrlSource):
        fetch_url(source, target, sha256, progress)
        return
    arrived = target.with_name(target.name + ".new")
    fetch_member(source, archives, arrived, progress)
    if file_sha256(arrived) != sha256:
        arrived.unlink()
        raise FetchError(
            f"{source.member} in {source.filename} is not the expected file (SHA-256 differs)"
        )
    arrived.replace(target)


def _convert(conversion: Conversion, original: Path, weights: Weights, target: Path) -> None:
    try:
        content = convert(conversion.method, original)
    except ConversionError as error:
        raise FetchError(f"{conversion.file} was downloaded, but not converted. {error}") from error
    made = target.with_name(target.name + ".new")
    with writing(made, len(content)):
        made.write_bytes(content)
    if file_sha256(made) != weights.sha256:
        made.unlink()
        raise FetchError(
            f"{conversion.file} was converted, but not to the expected file (SHA-256 differs). "
            "Another version of the package onnx may write other bytes"
        )
    made.replace(target)
