"""Fitted thresholds of a card as the messages of every service have them."""

from __future__ import annotations

from collections.abc import Iterable

from models.zoo import ModelThreshold
from services.rpc.mien.v1 import model_pb2


def threshold_message(one: ModelThreshold) -> model_pb2.Threshold:
    """One threshold."""
    return model_pb2.Threshold(
        fmr=one.fmr,
        similarity=one.similarity,
        interval_low=one.interval[0],
        interval_high=one.interval[1],
    )


def threshold_messages(thresholds: Iterable[ModelThreshold]) -> list[model_pb2.Threshold]:
    """All of them, strictest last."""
    return [threshold_message(one) for one in sorted(thresholds, key=lambda one: -one.fmr)]
