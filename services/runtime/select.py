"""Chooses the engine: the first that works here and agrees with the reference, best first."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from services.runtime.engine import (
    EXACT_LAYERS,
    Engine,
    EngineError,
    EngineOptions,
    Precision,
    PrecisionError,
)
from services.runtime.parity import Limits, ParityError, accepted
from services.runtime.plan_cache import PlanCache
from services.telemetry import get_logger
from services.telemetry.metrics import ENGINE_LOADS

_log = get_logger(__name__)

PrecisionChoice = Literal["auto", "fp32", "bf16", "fp16", "int8"]


@dataclass(frozen=True)
class Gate:
    """How a newly loaded engine is compared with the fp32 ONNX Runtime reference.

    Attributes:
        value_range: what pixel values 0 and 255 become at the network's input.
        folder: keeps verdicts, and engine plans, between starts.
        limits: how far it may be from the reference; None for what its precision allows.
    """

    value_range: tuple[float, float]
    folder: Path
    limits: Limits | None = None


@dataclass(frozen=True)
class _Kind:
    """An engine that may be chosen.

    Attributes:
        module: where it is; imported only when it is wanted.
        constructor: the class in it.
        best: precisions that "auto" tries, best first.
        needs_gpu: it is no fault of a machine without one that it is not there.
    """

    module: str
    constructor: str
    best: tuple[Precision, ...]
    needs_gpu: bool = False


# Best first. A GPU beats a CPU; among the CPU's, OpenVINO ran a MobileFaceNet 2.5 to 4 times as
# fast as ONNX Runtime (docs/performance.md).
_ENGINES = {
    "tensorrt": _Kind("services.runtime.tensorrt_engine", "TensorRtEngine", ("fp16", "fp32"), True),
    "cuda": _Kind("services.runtime.onnxruntime_engine", "OnnxRuntimeCudaEngine", ("fp32",), True),
    "openvino": _Kind("services.runtime.openvino_engine", "OpenVinoEngine", ("bf16", "fp32")),
    "onnxruntime": _Kind("services.runtime.onnxruntime_engine", "OnnxRuntimeEngine", ("fp32",)),
}


def available_engines() -> dict[str, str | None]:
    """Every engine by name, best first, with None if it can be used here or the reason why not."""
    return {name: _why_not(name) for name in _ENGINES}


def load_engine(
    path: Path,
    preference: str,
    options: EngineOptions,
    *,
    precision: PrecisionChoice | None = None,
    gate: Gate | None = None,
) -> Engine:
    """Loads a network.

    Args:
        path: ONNX file.
        preference: an engine's name, or "auto" for the best that works here.
        options: precision, threads and shapes.
        precision: in place of the options'; "auto" for the fastest that passes the gate. What fails
            the gate falls back to fp32.
        gate: compare the engine with the reference before it is used; None trusts it.

    Raises:
        EngineError: the named engine cannot run it, or none can; the message tells of each.
    """
    if preference != "auto" and preference not in _ENGINES:
        raise EngineError(f"There is no engine {preference!r}; there are {', '.join(_ENGINES)}.")
    absent = _absent(preference)
    failures = [f"{name}: {why}." for name, why in absent.items() if not _ENGINES[name].needs_gpu]
    tried: list[str] = []
    for name, wanted in _candidates(preference, precision or options.precision, absent):
        try:
            engine = _open(name, path, replace(options, precision=wanted), gate)
        except EngineError as error:
            # That "auto" finds a precision too coarse, or not here, is its business, not a fault.
            expected = precision == "auto" and isinstance(error, (ParityError, PrecisionError))
            (tried if expected else failures).append(f"{name} {wanted}: {error}")
            continue
        report = _log.warning if failures else _log.info
        kind = engine.info.engine.split()[0]
        fell_back = "yes" if failures else "no"
        ENGINE_LOADS.labels(kind, engine.info.precision, fell_back).inc()
        report(
            "engine chosen",
            model=path.name,
            engine=engine.info.engine,
            device=engine.info.device,
            precision=engine.info.precision,
            streams=engine.info.streams,
            threads=engine.info.threads,
            why="asked for" if preference != "auto" else "best that works here",
            not_here={name: why for name, why in absent.items() if _ENGINES[name].needs_gpu},
            also_tried=tried,
            passed_over=failures,
        )
        return engine
    raise EngineError(f"No engine can run {path.name}. " + " ".join([*tried, *failures]))


def _absent(preference: str) -> dict[str, str]:
    """Engines that this machine does not have, and why.

    Raises:
        EngineError: the one that was asked for is among them.
    """
    found = {name: why for name, why in available_engines().items() if why is not None}
    if preference in found:
        raise EngineError(f"{preference}: {found[preference]}.")
    return found


def _candidates(
    preference: str, precision: PrecisionChoice, absent: dict[str, str]
) -> Iterator[tuple[str, Precision]]:
    """Engines and precisions to try, best first; fp32 always comes last for each engine."""
    for name in _ENGINES if preference == "auto" else [preference]:
        if name in absent:
            continue
        kind = _ENGINES[name]
        if precision == "auto":
            wanted = kind.best
        else:
            wanted = (precision,) if precision in _can(name) else ()
        for one in dict.fromkeys((*wanted, "fp32")):
            yield name, one


def _can(name: str) -> tuple[str, ...]:
    return get_args(Precision) if name in ("tensorrt", "openvino") else ("fp32",)


def _open(name: str, path: Path, options: EngineOptions, gate: Gate | None) -> Engine:
    if name == "openvino" and options.precision == "int8" and gate is not None:
        return _open_mixed(path, options, gate)
    constructor = _constructor(name)
    if gate is None:
        return constructor(path, options)
    plans = {"cache": PlanCache(gate.folder)} if name == "tensorrt" else {}
    engine = constructor(path, options, **plans)
    return accepted(
        engine,
        path,
        options,
        value_range=gate.value_range,
        cache=gate.folder,
        limits=gate.limits,
    )


def _open_mixed(path: Path, options: EngineOptions, gate: Gate) -> Engine:
    """OpenVINO in mixed precision, with as few layers in fp32 as the gate lets pass.

    Raises:
        ParityError: the gate lets none pass.
    """
    constructor, value_range = _constructor("openvino"), gate.value_range
    failure: ParityError | None = None
    for exact in EXACT_LAYERS:
        chosen = replace(options, exact_layers=exact)
        engine = constructor(path, chosen, value_range)
        try:
            return accepted(
                engine,
                path,
                chosen,
                value_range=value_range,
                cache=gate.folder,
                limits=gate.limits,
            )
        except ParityError as error:
            failure = error
    raise failure or EngineError("There is no mixed precision to try.")


def _constructor(name: str) -> Callable[..., Engine]:
    kind = _ENGINES[name]
    constructor: Callable[..., Engine] = getattr(
        importlib.import_module(kind.module), kind.constructor
    )
    return constructor


def _why_not(name: str) -> str | None:
    kind = _ENGINES[name]
    try:
        module = importlib.import_module(kind.module)
    except ImportError as error:
        return f"{error.name} is not installed"
    check: Callable[[], str | None] | None = getattr(
        module, {"tensorrt": "why_not", "cuda": "why_no_cuda"}.get(name, ""), None
    )
    return check() if check is not None else None
