"""Chooses the engine: the first that works here, best first, and says which and why."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

from services.runtime.engine import Engine, EngineError, EngineOptions
from services.telemetry import get_logger

_log = get_logger(__name__)

# Best first: OpenVINO ran a MobileFaceNet 2.5 to 4 times as fast as ONNX Runtime on the same CPU
# (docs/performance.md).
_ENGINES = {
    "openvino": ("services.runtime.openvino_engine", "OpenVinoEngine"),
    "onnxruntime": ("services.runtime.onnxruntime_engine", "OnnxRuntimeEngine"),
}


def available_engines() -> dict[str, str | None]:
    """Every engine by name, best first, with None if it can be used here or the reason why not."""
    return {name: _why_not(name) for name in _ENGINES}


def load_engine(path: Path, preference: str, options: EngineOptions) -> Engine:
    """Loads a network.

    Args:
        path: ONNX file.
        preference: an engine's name, or "auto" for the best that works here.
        options: precision, threads and shapes.

    Raises:
        EngineError: the named engine cannot run it, or none can; the message tells of each.
    """
    names = list(_ENGINES) if preference == "auto" else [preference]
    failures: list[str] = []
    for name in names:
        try:
            engine = _construct(name, path, options)
        except EngineError as error:
            failures.append(f"{name}: {error}")
            continue
        report = _log.warning if failures else _log.info
        report(
            "engine chosen",
            model=path.name,
            engine=engine.info.engine,
            device=engine.info.device,
            precision=engine.info.precision,
            streams=engine.info.streams,
            why="asked for" if preference != "auto" else "best that works here",
            passed_over=failures,
        )
        return engine
    raise EngineError(f"No engine can run {path.name}. " + " ".join(failures))


def _construct(name: str, path: Path, options: EngineOptions) -> Engine:
    if name not in _ENGINES:
        raise EngineError(f"There is no engine {name!r}; there are {', '.join(_ENGINES)}.")
    module, attribute = _ENGINES[name]
    try:
        constructor = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise EngineError(f"{error.name} is not installed.") from error
    if name == "onnxruntime" and options.precision != "fp32":
        options = replace(options, precision="fp32")
    engine: Engine = constructor(path, options)
    return engine


def _why_not(name: str) -> str | None:
    module, _ = _ENGINES[name]
    try:
        importlib.import_module(module)
    except ImportError as error:
        return f"{error.name} is not installed"
    return None
