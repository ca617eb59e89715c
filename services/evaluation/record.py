"""Puts measured figures into a model's card, each with the command that repeats it."""

from __future__ import annotations

import datetime as dt
import os
import platform
from pathlib import Path
from typing import Any

from models.zoo import EmbedderCard, Zoo
from models.zoo.card_base import Metric

_FROM_CPUINFO = "model name"


def record(zoo: Zoo, card: EmbedderCard, result: dict[str, Any], data: str, command: str) -> Path:
    """Writes the figures of `mien evaluate` into the card, in place of earlier ones on that data.

    Args:
        zoo: that holds the card.
        card: of the model that was measured.
        result: the JSON of `mien evaluate`.
        data: what the pairs are, in words.
        command: what repeats the measurement.

    Returns:
        The card's path.
    """
    percent = {"accuracy": (result["accuracy"], result["accuracy_interval"])} | {
        f"tar_at_fmr_{target}": (value, result["tar_interval"].get(target))
        for target, value in result["tar_at_fmr"].items()
    }
    fractions = {"eer": (result["eer"], None), "fte": (result["fte"], None)}
    shared = {
        "data": data,
        "command": command,
        "hardware": hardware(),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
    }
    made = [
        Metric(name=name, value=value, interval=interval, unit=unit, **shared)
        for unit, group in (("percent", percent), ("fraction", fractions))
        for name, (value, interval) in group.items()
    ]
    kept = [metric for metric in card.metrics if metric.data != data]
    return zoo.save(card.model_copy(update={"metrics": (*kept, *made)}))


def hardware() -> str:
    """The processor and how many of it this process may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith(_FROM_CPUINFO):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {len(os.sched_getaffinity(0))} CPUs"
