"""The parity gate: an engine may serve a network only if it agrees with the fp32 reference."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from services.runtime.engine import (
    Arrays,
    Engine,
    EngineError,
    EngineInfo,
    EngineOptions,
    TensorInfo,
)
from services.runtime.onnxruntime_engine import OnnxRuntimeEngine
from services.runtime.parity_inputs import INPUTS_VERSION, generated_inputs
from services.runtime.plan_cache import default_folder, file_sha256, write_atomically
from services.telemetry import get_logger

_log = get_logger(__name__)


@dataclass(frozen=True)
class Limits:
    """How far an engine may be from the reference.

    Attributes:
        cosine: least cosine between an output and the reference's.
        error: greatest difference in an output that is no vector, relative to the largest value
            that the reference has in that output.
        number: likewise, in an output of one number for each item.
    """

    cosine: float
    error: float
    number: float


LIMITS = {
    "fp32": Limits(cosine=0.9999, error=0.01, number=0.01),
    "fp16": Limits(cosine=0.9999, error=0.05, number=0.02),
    "bf16": Limits(cosine=0.9999, error=0.10, number=0.05),
    "int8": Limits(cosine=0.999, error=0.25, number=0.10),
}
"""By precision. The cosines are the project's promise; the errors keep single cells of a map, such
as one anchor of a detector, from going astray where the cosine of the whole does not show it. A
number has no direction either (the cosine of two of the same sign is 1, whatever they are): the
numbers keep a fusion weight, of which only the ratio to others counts, within that share."""


STORED = Limits(cosine=0.999999, error=0.001, number=0.001)
"""For vectors that are stored for years, whatever engine made them: the angle to the reference is
at most 0.1 degrees. Only fp32 keeps it."""


class ParityError(EngineError):
    """An engine does not agree with the reference; the message says where and by how much."""


@dataclass(frozen=True)
class ParityReport:
    """What a comparison found.

    Attributes:
        precision: whose limits were taken.
        cosine_min: least cosine over all outputs.
        limit: least cosine allowed.
        error_max: greatest relative error over the outputs that are no vectors; 0 without such.
        error_limit: greatest relative error allowed.
        worst: the output with the least cosine.
        passed: whether all limits were kept and all values finite.
        why: what was wrong, empty if nothing was.
        number_max: greatest relative error over the outputs of one number for each item; 0 without
            such.
        number_limit: greatest relative error allowed in them.
    """

    precision: str
    cosine_min: float
    limit: float
    error_max: float
    error_limit: float
    worst: str
    passed: bool
    why: str = ""
    number_max: float = 0.0
    number_limit: float = 0.0


def check_parity(
    engine: Engine,
    reference: Engine,
    inputs: Sequence[Arrays],
    precision: str,
    limits: Limits | None = None,
) -> ParityReport:
    """Compares every output of two engines.

    An output of one vector for each item is compared vector by vector. Any other is compared as a
    whole over all inputs, because a map in which there is nothing to see has no direction to keep;
    of one number for each item, only the error counts.

    Args:
        engine: what is to be judged.
        reference: what it must agree with.
        inputs: batches, each with all inputs.
        precision: "fp32", "fp16", "bf16" or "int8".
        limits: in place of the precision's own.

    Raises:
        EngineError: one of the two cannot run the inputs.
    """
    limits = limits or LIMITS[precision]
    answers = [(engine.infer(batch), reference.infer(batch)) for batch in inputs]
    report = ParityReport(
        precision, 1.0, limits.cosine, 0.0, limits.error, "", passed=True,
        number_limit=limits.number,
    )  # fmt: skip
    for info in reference.info.outputs:
        found = [answer.get(info.name) for answer, _ in answers]
        expected = [answer[info.name] for _, answer in answers]
        why = _unlike(found, expected)
        if why:
            return replace(
                report, cosine_min=-1.0, worst=info.name, passed=False, why=f"{info.name}: {why}"
            )
        pairs = [
            (ours, theirs) for ours, theirs in zip(found, expected, strict=True) if ours is not None
        ]
        report = _worse(report, info.name, pairs)
    faults = []
    if report.cosine_min < limits.cosine:
        faults.append(f"cosine {report.cosine_min:.6f} of {report.worst} is below {limits.cosine}")
    if report.error_max > limits.error:
        faults.append(f"relative error {report.error_max:.4f} is above {limits.error}")
    if report.number_max > limits.number:
        faults.append(
            f"relative error {report.number_max:.4f} of single numbers is above {limits.number}"
        )
    return replace(report, passed=not faults, why="; ".join(faults))


def accepted(
    engine: Engine,
    model_path: Path,
    options: EngineOptions,
    *,
    value_range: tuple[float, float] = (0.0, 255.0),
    reference_path: Path | None = None,
    cache: Path | None = None,
    limits: Limits | None = None,
) -> Engine:
    """Lets an engine pass only if it agrees with ONNX Runtime in fp32 on the same file.

    A pass is kept on disk, so that the next start with the same file, engine, device, precision and
    shapes needs no comparison. A failure is not kept: the next start looks again.

    Args:
        engine: a loaded network; it is closed if it does not pass.
        model_path: the ONNX file that it was loaded from.
        options: as it was loaded with.
        value_range: what black and white are for the network.
        reference_path: the fp32 file to agree with, where `model_path` is a quantised form of it.
        cache: folder for verdicts; by default beside the engine plans.
        limits: in place of the precision's own.

    Returns:
        The engine.

    Raises:
        ParityError: it does not agree.
        EngineError: it cannot run the inputs, or the reference cannot load the file.
    """
    original = reference_path or model_path
    limits = limits or LIMITS[engine.info.precision]
    key = _key(engine.info, (model_path, original), options, value_range, limits)
    verdict = (cache or default_folder()) / f"{key}.parity"
    known = _verdict(verdict)
    if known is not None and known.passed:
        return engine
    try:
        report = known or compare(engine, original, options, value_range, limits)
        write_atomically(verdict, json.dumps(asdict(report)).encode())
        if not report.passed:
            raise ParityError(
                f"{engine.info.engine} on {engine.info.device} in {report.precision} does not "
                f"agree with the reference on {original.name}: {report.why}."
            )
    except EngineError:
        engine.close()
        raise
    _log.info(
        "engine agrees with the reference",
        model=model_path.name,
        engine=engine.info.engine,
        precision=report.precision,
        cosine_min=report.cosine_min,
        error_max=report.error_max,
    )
    return engine


def compare(
    engine: Engine,
    path: Path,
    options: EngineOptions,
    value_range: tuple[float, float],
    limits: Limits | None = None,
) -> ParityReport:
    """Compares an engine with fp32 ONNX Runtime on generated inputs, without judging it.

    Args:
        engine: what is compared, loaded from ``path`` or from a quantised form of it.
        path: ONNX file that the reference loads.
        options: that the engine was loaded with.
        value_range: what pixel values 0 and 255 become at the network's input.
        limits: in place of the precision's own.

    Raises:
        EngineError: the engine cannot run the inputs, or the reference cannot load the file.
    """
    reference = OnnxRuntimeEngine(path, replace(options, precision="fp32"))
    with contextlib.closing(reference):
        shapes = _common(engine.info.inputs, reference.info.inputs)
        inputs = generated_inputs(shapes, value_range)
        return check_parity(engine, reference, inputs, engine.info.precision, limits)


def _common(ours: Sequence[TensorInfo], theirs: Sequence[TensorInfo]) -> list[TensorInfo]:
    """Shapes that both can run; the reference runs any batch, but no other size than the file's."""
    fixed = {info.name: info.shape for info in theirs}
    return [
        TensorInfo(
            info.name,
            (
                info.shape[0],
                *(
                    own if file < 0 else file
                    for own, file in zip(info.shape[1:], fixed[info.name][1:], strict=True)
                ),
            ),
        )
        for info in ours
    ]


def _unlike(
    found: Sequence[NDArray[np.float32] | None], expected: Sequence[NDArray[np.float32]]
) -> str:
    """Why outputs cannot be compared; empty if they can."""
    for ours, theirs in zip(found, expected, strict=True):
        if ours is None:
            return "it is missing"
        if ours.shape != theirs.shape:
            return f"it has the shape {ours.shape} instead of {theirs.shape}"
        if not np.isfinite(ours).all():
            return "it has values that are not finite"
    return ""


def _worse(
    report: ParityReport,
    name: str,
    pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> ParityReport:
    """The report with one more output taken into account."""
    is_vector = pairs[0][0].ndim <= 2
    ours, theirs = (_joined(side, is_vector) for side in zip(*pairs, strict=True))
    if is_vector and ours.shape[1] == 1:
        return replace(report, number_max=max(report.number_max, _error(ours, theirs)))
    if not is_vector:
        report = replace(report, error_max=max(report.error_max, _error(ours, theirs)))
    cosine = float(_cosines(ours, theirs).min())
    if cosine < report.cosine_min:
        report = replace(report, cosine_min=cosine, worst=name)
    return report


def _joined(arrays: Sequence[NDArray[np.float32]], is_vector: bool) -> NDArray[np.float32]:
    """Batches as rows of vectors, or all that is in them as one row."""
    if is_vector:
        return np.concatenate([array.reshape(len(array), -1) for array in arrays])
    return np.concatenate([array.ravel() for array in arrays])[None]


def _error(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Greatest difference, relative to the reference's largest value if it has any but 0."""
    return float(np.abs(ours - theirs).max()) / (float(np.abs(theirs).max()) or 1.0)


def _cosines(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of each row; two rows of nothing but zeros are alike."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    cosines: NDArray[np.float64] = np.einsum("ij,ij->i", a, b) / np.where(lengths > 0, lengths, 1.0)
    return np.where(both_zero, 1.0, cosines)


def _key(
    info: EngineInfo,
    files: Sequence[Path],
    options: EngineOptions,
    value_range: tuple[float, float],
    limits: Limits,
) -> str:
    """What a verdict depends on, as a file name."""
    hashes = [file_sha256(path) for path in files]
    parts = (
        hashes,
        info.engine,
        _processor() if info.device == "CPU" else info.device,
        info.precision,
        options.free_dimensions,
        options.exact_layers,
        value_range,
        asdict(limits),
        INPUTS_VERSION,
    )
    return f"{hashes[0][:12]}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:20]}"


def _processor() -> str:
    """The CPU's model: one that lacks an instruction may round differently."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "CPU"


def _verdict(file: Path) -> ParityReport | None:
    try:
        return TypeAdapter(ParityReport).validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
