"""Writes models of the zoo as a Triton model repository."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.zoo import AnyCard, DetectorCard, Zoo, write_card
from services.triton_graph import Graph, GraphError, sizes_text, write_batched

Backend = Literal["onnxruntime", "tensorrt", "python"]
Device = Literal["auto", "cpu", "gpu"]
Accelerator = Literal["none", "tensorrt", "openvino"]
BuildPlan = Callable[[Path, Path], object]
"""Builds a TensorRT plan from an ONNX file; given the ONNX file and where the plan goes."""

_CONFIG = "config.pbtxt"
_FIRST_VERSION = 1
# A detector takes pictures of any size; this is the size that it is warmed up with.
_WARM_SIDE = 640
_PYTHON_MODEL = Path(__file__).with_name("triton_python_model.py")
_RUNS = {
    "onnxruntime": 'platform: "onnxruntime_onnx"',
    "tensorrt": 'platform: "tensorrt_plan"',
    "python": 'backend: "python"',
}


class TritonExportError(Exception):
    """A model cannot be exported; the message says which and why."""


@dataclass(frozen=True)
class TritonOptions:
    """How the server is to run the models.

    Attributes:
        backend: what runs them. "onnxruntime" is in NVIDIA's Triton image; "tensorrt" needs a plan
            for the very GPU and TensorRT version; "python" runs ONNX Runtime in a model.py, for
            servers without the ONNX Runtime backend.
        device: "auto" lets Triton choose.
        max_batch: most rows in one batch.
        preferred_batches: batches that the server tries to fill, at most `max_batch`.
        max_queue_delay_us: microseconds that a request may wait for its batch to fill.
        max_queue: requests that may wait; more are refused at once.
        instances: copies of each model, which run side by side.
        accelerator: lets ONNX Runtime hand the graph on; the server's build must have it.
    """

    backend: Backend = "onnxruntime"
    device: Device = "auto"
    max_batch: int = 32
    preferred_batches: tuple[int, ...] = (8, 16, 32)
    max_queue_delay_us: int = 500
    max_queue: int = 512
    instances: int = 1
    accelerator: Accelerator = "none"

    def __post_init__(self) -> None:
        if self.max_batch < 1 or self.instances < 1:
            raise TritonExportError("max_batch and instances must be 1 or more.")
        if self.accelerator != "none" and self.backend != "onnxruntime":
            raise TritonExportError("An accelerator belongs to the backend onnxruntime.")
        if self.accelerator == "tensorrt" and self.device == "cpu":
            raise TritonExportError("The accelerator tensorrt needs a GPU.")
        if self.accelerator == "openvino" and self.device != "cpu":
            raise TritonExportError("The accelerator openvino is for the device cpu.")
        if self.backend == "tensorrt" and self.device == "cpu":
            raise TritonExportError("The backend tensorrt needs a GPU.")


@dataclass(frozen=True)
class ExportedModel:
    """One model in the repository.

    Attributes:
        reference: in Mien, as name@version.
        name: in Triton.
        version: in Triton.
        folder: the model's folder, with config.pbtxt and the card that holds the thresholds.
    """

    reference: str
    name: str
    version: int
    folder: Path


def triton_identity(card: AnyCard) -> tuple[str, int]:
    """Name and version of a model on a Triton server, whose versions are whole numbers.

    ``sface@1`` is version 1 of ``sface``; ``yunet@2023mar`` is version 1 of ``yunet-2023mar``.
    """
    if card.version.isascii() and card.version.isdigit() and not card.version.startswith("0"):
        return card.name, int(card.version)
    return f"{card.name}-{card.version}", _FIRST_VERSION


def export_triton(
    zoo: Zoo,
    references: Sequence[str],
    folder: Path,
    options: TritonOptions | None = None,
    *,
    build_plan: BuildPlan | None = None,
    overwrite: bool = False,
) -> list[ExportedModel]:
    """Writes a model repository that `tritonserver --model-repository` takes.

    Args:
        zoo: where cards and weights are.
        references: models of any kind; several versions of one model become versions of one
            Triton model.
        folder: the repository; other models in it stay.
        options: how the server is to run the models.
        build_plan: for the backend "tensorrt".
        overwrite: replace models of the same name in the repository.

    Raises:
        UnknownModelError: no such model.
        WeightsMissingError: its weights have not been pulled.
        EngineError: its weights are no network that can be loaded.
        TritonExportError: a model that is there already, versions with different tensors,
            a graph whose batch cannot be freed, or no way to build a plan.
    """
    options = options or TritonOptions()
    if options.backend == "tensorrt" and build_plan is None:
        raise TritonExportError(
            "A TensorRT plan is built on the machine that runs it, and TensorRT is not here. "
            "Export for onnxruntime, or with its accelerator tensorrt, which builds on the server."
        )
    groups: dict[str, dict[int, AnyCard]] = {}
    for reference in references:
        card = zoo.card(reference)
        name, version = triton_identity(card)
        groups.setdefault(name, {})[version] = card
    taken = [name for name in groups if (folder / name).exists()]
    if taken and not overwrite:
        raise TritonExportError(f"{folder} has {', '.join(taken)} already; nothing was written.")
    folder.mkdir(parents=True, exist_ok=True)
    # A server may be watching the repository: models come into it whole.
    with tempfile.TemporaryDirectory(prefix=".mien-triton-", dir=folder.parent) as scratch:
        for name, cards in groups.items():
            _write_model(zoo, name, cards, Path(scratch) / name, options, build_plan)
        for name in groups:
            if (folder / name).exists():
                shutil.rmtree(folder / name)
            (Path(scratch) / name).replace(folder / name)
    return [
        ExportedModel(card.reference, name, version, folder / name)
        for name, cards in groups.items()
        for version, card in cards.items()
    ]


def _write_model(
    zoo: Zoo,
    name: str,
    cards: dict[int, AnyCard],
    folder: Path,
    options: TritonOptions,
    build_plan: BuildPlan | None,
) -> None:
    graph: Graph | None = None
    for version, card in sorted(cards.items()):
        place = folder / str(version)
        place.mkdir(parents=True)
        try:
            written = write_batched(
                zoo.weights(card),
                place / "model.onnx",
                free_size=isinstance(card, DetectorCard),
            )
        except GraphError as error:
            raise TritonExportError(f"{card.reference}: {error}") from error
        if graph is not None and _tensors(written) != _tensors(graph):
            raise TritonExportError(
                f"{card.reference} has other tensors than the version before it. "
                "Export them into repositories of their own."
            )
        graph = written
        write_card(folder / _card_file(version), card)
        if options.backend == "python":
            shutil.copyfile(_PYTHON_MODEL, place / "model.py")
        if build_plan is not None and options.backend == "tensorrt":
            build_plan(place / "model.onnx", place / "model.plan")
            (place / "model.onnx").unlink()
    if graph is not None:
        (folder / _CONFIG).write_text(_config(name, cards, graph, options), encoding="utf-8")


def _config(
    name: str,
    cards: dict[int, AnyCard],
    graph: Graph,
    options: TritonOptions,
) -> str:
    parts = [
        f'name: "{name}"',
        _RUNS[options.backend],
        f"max_batch_size: {options.max_batch}",
        f"input [\n{_tensor(graph.source.name, graph.source.shape)}\n]",
        "output [\n" + ",\n".join(_tensor(one.name, one.shape) for one in graph.outputs) + "\n]",
        "version_policy { all { } }",
        _batching(options),
        _instances(options),
        _warm_up(graph, options),
        *_optimization(options),
        *(
            line
            for version, card in sorted(cards.items())
            for line in (
                _parameter(f"mien.{version}.model", card.reference),
                _parameter(f"mien.{version}.weights_sha256", card.weights.sha256),
                # Thresholds, and what must be done to a crop before the network, are in the card.
                _parameter(f"mien.{version}.card", _card_file(version)),
            )
        ),
    ]
    return "\n".join(parts) + "\n"


def _tensor(name: str, shape: Sequence[int]) -> str:
    return f"  {{ name: {_quoted(name)} data_type: TYPE_FP32 dims: [ {sizes_text(shape[1:])} ] }}"


def _batching(options: TritonOptions) -> str:
    preferred = sorted({size for size in options.preferred_batches if size <= options.max_batch})
    lines = [f"  max_queue_delay_microseconds: {options.max_queue_delay_us}"]
    if preferred:
        lines.insert(0, f"  preferred_batch_size: [ {sizes_text(preferred)} ]")
    lines.append(
        f"  default_queue_policy {{ timeout_action: REJECT max_queue_size: {options.max_queue} }}"
    )
    return "dynamic_batching {\n" + "\n".join(lines) + "\n}"


def _instances(options: TritonOptions) -> str:
    kind = {"auto": "KIND_AUTO", "cpu": "KIND_CPU", "gpu": "KIND_GPU"}[options.device]
    return f"instance_group [ {{ kind: {kind} count: {options.instances} }} ]"


def _warm_up(graph: Graph, options: TritonOptions) -> str:
    """One run of a single row, before the model counts as ready, and one of a full batch.

    A full batch of pictures of any size is left out: it would take memory that no request takes.
    """
    shape = graph.source.shape[1:]
    dims = sizes_text(_WARM_SIDE if side == -1 else side for side in shape)
    samples = [
        f'  {{ name: "{batch} random" batch_size: {batch} inputs {{ '
        f"key: {_quoted(graph.source.name)} "
        f"value {{ data_type: TYPE_FP32 dims: [ {dims} ] random_data: true }} }} }}"
        for batch in sorted({1} if -1 in shape else {1, options.max_batch})
    ]
    return "model_warmup [\n" + ",\n".join(samples) + "\n]"


def _optimization(options: TritonOptions) -> list[str]:
    """Hints for the GPU (pinned memory, CUDA graphs), and the accelerator that was asked for."""
    hints = []
    if options.device == "gpu":
        hints += ["input_pinned_memory { enable: true }", "output_pinned_memory { enable: true }"]
    if options.backend == "tensorrt":
        hints.append("cuda { graphs: true }")
    if options.accelerator == "tensorrt":
        hints.append(
            'execution_accelerators { gpu_execution_accelerator [ { name: "tensorrt" '
            'parameters { key: "precision_mode" value: "FP16" } } ] }'
        )
    if options.accelerator == "openvino":
        hints.append(
            'execution_accelerators { cpu_execution_accelerator [ { name: "openvino" } ] }'
        )
    if not hints:
        return []
    return ["optimization {\n" + "\n".join(f"  {hint}" for hint in hints) + "\n}"]


def _parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'


def _quoted(text: str) -> str:
    """Text format escapes what JSON escapes."""
    return json.dumps(text)


def _card_file(version: int) -> str:
    return f"card-{version}.json"


def _tensors(graph: Graph) -> list[tuple[str, tuple[int, ...]]]:
    return [(one.name, one.shape[1:]) for one in (graph.source, *graph.outputs)]
