"""Export: one plain network as ONNX, identity head and batch norms folded in.

The graph takes `data` (B,3,112,112), RGB, 0-255, float32, any batch, and gives `embedding`
(B,d_id), which the caller L2-normalises.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import onnx
import onnxruntime
import torch
import typer
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from models.backbones.trunk import INPUT_SIDE
from models.poseface.network import PoseFaceNet, ServingNetwork, build_network, serving_network
from models.poseface.options import TrainOptions
from models.poseface.prepare import prepare
from models.poseface.report import validation_figures, validation_table
from models.training.checkpoint import CHECKPOINT, RECORD, load_checkpoint, read_options

OPSET = 18
INPUT, OUTPUT = "data", "embedding"
HALF_FROM = 1024
"""Tensors with fewer numbers stay fp32: they weigh nothing and are the most sensitive."""

Weights = Literal["ema", "last"]
Precision = Literal["fp32", "fp16"]

app = typer.Typer(help="PoseFace: export a trained network.", add_completion=False)


@dataclass(frozen=True)
class Exported:
    """A written file.

    Attributes:
        path: the file.
        size: bytes.
        sha256: of the file.
        least_cosine: smallest cosine to torch over random pictures.
        largest_difference: largest absolute difference of the raw output.
    """

    path: Path
    size: int
    sha256: str
    least_cosine: float
    largest_difference: float


def load_trained(run: Path, weights: Weights = "ema") -> PoseFaceNet:
    """The network of a run's folder.

    Args:
        run: holds `checkpoint.pt` and `run.json`.
        weights: the averaged ones or those of the last step.
    """
    options = read_options(run / RECORD, TrainOptions)
    network = build_network(options.backbone, options.pose_dim, options.identity_dim)
    state = load_checkpoint(run / CHECKPOINT)
    network.load_state_dict(state["average" if weights == "ema" else "network"])
    return network.eval()


@torch.no_grad()
def mean_network(networks: Sequence[PoseFaceNet]) -> PoseFaceNet:
    """The mean of the weights of networks that started from the same ones (a "model soup").

    Runs with other options or seeds err in other directions; their mean errs less than each
    (Wortsman et al., 2022).

    Args:
        networks: of the same layers; the first is changed in place and returned.
    """
    first, *others = networks
    states = [other.state_dict() for other in others]
    for name, value in first.state_dict().items():
        if value.dtype.is_floating_point:
            value.copy_(torch.stack([value, *(state[name] for state in states)]).mean(dim=0))
    return first


@torch.no_grad()
def blend(trained: PoseFaceNet, start: PoseFaceNet, share: float) -> PoseFaceNet:
    """Weights on the line between a fine-tuned network and the one it started from.

    A fine-tuned network that stayed near its start keeps most of what it gained, and gets back
    some of what it lost, when it is drawn a little towards it (WiSE-FT: Wortsman et al., 2022).

    Args:
        trained: changed in place and returned.
        start: of the same layers.
        share: of the start, [0,1].
    """
    theirs = start.state_dict()
    for name, value in trained.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(theirs[name], share)
    return trained


def export_onnx(served: ServingNetwork, path: Path, precision: Precision = "fp32") -> Exported:
    """Write a serving network and compare the file with torch on random pictures."""
    served = served.eval()
    sample = torch.zeros(2, 3, INPUT_SIDE, INPUT_SIDE)
    batch = torch.export.Dim("batch", min=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    program = torch.onnx.export(
        served,
        (sample,),
        dynamo=True,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes={"data": {0: batch}},
        opset_version=OPSET,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch gave no ONNX program")
    model = program.model_proto
    if precision == "fp16":
        halve_weights(model)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    cosine, difference = compare(served, path)
    data = path.read_bytes()
    return Exported(path, len(data), hashlib.sha256(data).hexdigest(), cosine, difference)


def halve_weights(model: onnx.ModelProto) -> None:
    """Store large weights as fp16 with a cast to fp32 in front of their users.

    Half the size; engines fold the casts when they load the file and compute as before.
    """
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < HALF_FROM:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_fp16"))
        casts.append(helper.make_node("Cast", [f"{name}_fp16"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def compare(served: ServingNetwork, path: Path, faces: int = 4) -> tuple[float, float]:
    """Least cosine and largest difference between torch and the file, on random pictures."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(faces, 3, 14, 14, generator=generator) * 255
    pictures = torch.nn.functional.interpolate(coarse, INPUT_SIDE, mode="bilinear")
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), quiet, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        ours = served(pictures).numpy()
    theirs = np.asarray(session.run([OUTPUT], {INPUT: pictures.numpy()})[0])
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / norms).min()), float(np.abs(ours - theirs).max())


@app.command()
def export(
    run: Annotated[
        list[Path],
        typer.Option(exists=True, file_okay=False, help="folder of a run; of several, their mean"),
    ],
    out: Annotated[Path, typer.Option(help="ONNX file to write")],
    weights: Annotated[Weights, typer.Option(help="averaged, or of the last step")] = "ema",
    precision: Annotated[Precision, typer.Option(help="of the stored weights")] = "fp32",
    start_share: Annotated[
        float, typer.Option(min=0, max=1, help="draw the weights so far back to SFace's")
    ] = 0.0,
    sface: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="for --start-share and --data")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="training data: measure on held-out people"
        ),
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="decoded faces (beside OUT)")] = None,
) -> None:
    """Write a run's network, or the mean of several, as ONNX and compare it with torch."""
    network = mean_network([load_trained(one, weights) for one in run])
    if start_share:
        if sface is None:
            raise typer.BadParameter("--start-share needs --sface")
        options = read_options(run[0] / RECORD, TrainOptions)
        start = build_network(options.backbone, options.pose_dim, options.identity_dim, sface)
        network = blend(network, start, start_share)
    made = export_onnx(serving_network(network), out, precision)
    typer.echo(
        f"{made.path}: {made.size / 1e6:.1f} MB, sha256 {made.sha256}\n"
        f"against torch: least cosine {made.least_cosine:.7f}, "
        f"largest difference {made.largest_difference:.2e}"
    )
    if data is not None:
        _measure(
            network,
            read_options(run[0] / RECORD, TrainOptions),
            data,
            cache or out.parent / "cache",
            sface,
        )


def _measure(
    network: PoseFaceNet, options: TrainOptions, data: Path, cache: Path, sface: Path | None
) -> None:
    """Prints the table of the training runs for a network that was put together from them."""
    material = prepare(options, data, cache, sface)
    if material.validation is None:
        raise typer.BadParameter("--data needs --sface, and data with held-out people")
    figures, rows = validation_figures(network, material.faces, material.validation, amp=False)
    Console(width=160).print(validation_table(rows, figures, "exported"))


if __name__ == "__main__":
    app()
