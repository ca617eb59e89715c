"""Runs networks: a small engine contract, one file for each engine behind it."""

from services.runtime.engine import (
    Arrays,
    Engine,
    EngineError,
    EngineInfo,
    EngineOptions,
    TensorInfo,
)
from services.runtime.select import Gate, PrecisionChoice, available_engines, load_engine

__all__ = [
    "Arrays",
    "Engine",
    "EngineError",
    "EngineInfo",
    "EngineOptions",
    "Gate",
    "PrecisionChoice",
    "TensorInfo",
    "available_engines",
    "load_engine",
]
