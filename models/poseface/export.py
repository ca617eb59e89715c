"""Export: one plain network as ONNX, identity head and batch norms folded in.

The graph takes `data` (B,3,112,112), RGB, 0-255, float32, any batch, and gives `embedding`
(B,d_id), which the caller L2-normalises.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich.console import Console

from models.backbones.trunk import INPUT_SIDE
from models.poseface.network import PoseFaceNet, ServingNetwork, build_network, serving_network
from models.poseface.options import TrainOptions
from models.poseface.prepare import prepare
from models.poseface.report import validation_figures, validation_table
from models.training.checkpoint import CHECKPOINT, RECORD, load_checkpoint, read_options
from models.training.onnx_export import Exported, Precision, sample_pictures, write_onnx

INPUT, OUTPUT = "data", "embedding"
SAMPLES = 4

Weights = Literal["ema", "last"]

app = typer.Typer(help="PoseFace: export a trained network.", add_completion=False)


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
    return write_onnx(
        served, path, {INPUT: sample_pictures(SAMPLES, INPUT_SIDE)}, [OUTPUT], precision
    )


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
        float, typer.Option(min=0, max=1, help="draw the weights so far back to where they began")
    ] = 0.0,
    sface: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="for --start-share and --data")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="for --start-share, of a run that had a --start"
        ),
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
        began = start or sface
        if began is None:
            raise typer.BadParameter("--start-share needs --sface or --start")
        options = read_options(run[0] / RECORD, TrainOptions)
        first = build_network(options.backbone, options.pose_dim, options.identity_dim, began)
        network = blend(network, first, start_share)
    made = export_onnx(serving_network(network), out, precision)
    typer.echo(str(made))
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
