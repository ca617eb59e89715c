"""Export: encoder and decoder as two ONNX files, the averaged weights of a run.

The encoder takes `data` (B,3,96,96), RGB, -1 to 1, any batch, and gives `embedding` (B,320), not
L2-normalised, and `weight` (B,1), the image's fusion weight in (0,1). The decoder takes
`embedding`, `pose` (B,Np) one-hot and `noise` (B,Nz), and gives `image` (B,3,96,96), RGB, -1 to 1.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from torch import Tensor, nn

from models.drgan.network import FEATURE_DIM, IMAGE_SIDE, Decoder, Encoded
from models.drgan.options import TrainOptions
from models.drgan.poses import YawBins
from models.drgan.report import Examination, encode, fusion_table, measured_table, redrawn
from models.drgan.sheets import invented_sheet, pose_codes
from models.drgan.train import Generator, build_generator
from models.training.checkpoint import CHECKPOINT, RECORD, load_checkpoint, read_options
from models.training.onnx_export import Precision, sample_pictures, write_onnx
from models.training.people import load_people

ENCODER_FILE, DECODER_FILE = "drgan.onnx", "decoder.onnx"
SAMPLES = 4
RESAMPLES = 300

app = typer.Typer(help="DR-GAN: export a trained run.", add_completion=False)


class ServedEncoder(nn.Module):
    """(B,3,96,96) -> (B,320), (B,1): plain tensors, as a graph's outputs must be."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """(B,3,96,96) RGB -1 to 1 -> feature (B,320), weight (B,1)."""
        encoded: Encoded = self.encoder(data)
        return encoded.feature, encoded.weight


def load_generator(run: Path) -> tuple[Generator, YawBins]:
    """The averaged encoder and decoder of a run's folder, and its pose code."""
    options = read_options(run / RECORD, TrainOptions)
    record: dict[str, Any] = json.loads((run / RECORD).read_text())
    bins = YawBins(tuple(record["yaw_bins"]))
    generator = build_generator(options, bins, record["teacher_dim"], None)
    generator.load_state_dict(load_checkpoint(run / CHECKPOINT)["average"])
    return generator.eval(), bins


def decoder_samples(decoder: Decoder, bins: YawBins) -> dict[str, Tensor]:
    """Inputs by name: random features in several poses."""
    generator = torch.Generator().manual_seed(0)
    places = torch.arange(SAMPLES) % len(bins)
    yaw = torch.tensor(bins.centres)[places]
    return {
        "embedding": torch.randn(SAMPLES, FEATURE_DIM, generator=generator),
        "pose": pose_codes(places, yaw, decoder),
        "noise": torch.zeros(SAMPLES, decoder.noise),
    }


@app.command()
def export(
    run: Annotated[Path, typer.Option(exists=True, file_okay=False, help="folder of a run")],
    out: Annotated[Path, typer.Option(help="folder for drgan.onnx and decoder.onnx")],
    precision: Annotated[Precision, typer.Option(help="of the stored weights")] = "fp16",
    start: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="teacher's file, for --data")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="training data: measure on held-out people"
        ),
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="decoded faces (OUT/cache)")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="with --data: picture of invented people in every pose")
    ] = None,
) -> None:
    """Write a run's encoder and decoder as ONNX and compare them with torch."""
    generator, bins = load_generator(run)
    faces = {"data": sample_pictures(SAMPLES, IMAGE_SIDE) / 127.5 - 1}
    encoder = ServedEncoder(generator.encoder)
    made = write_onnx(encoder, out / ENCODER_FILE, faces, ["embedding", "weight"], precision)
    typer.echo(str(made))
    samples = decoder_samples(generator.decoder, bins)
    made = write_onnx(generator.decoder, out / DECODER_FILE, samples, ["image"], precision)
    typer.echo(f"{made}\nyaw bins: {', '.join(f'{centre:+.0f}' for centre in bins.centres)}")
    if data is None:
        return
    if start is None:
        raise typer.BadParameter("--data needs --start")
    options = read_options(run / RECORD, TrainOptions)
    people = load_people(options, data, cache or out / "cache", start)
    if people.validation is None:
        raise typer.BadParameter("--data holds nobody who is held out")
    examination = Examination(people.faces, people.validation)
    cpu = torch.device("cpu")
    features, _ = encode(generator.encoder, examination.crops, cpu)
    if sheet is not None:
        invented_sheet(generator.encoder, generator.decoder, features, bins, sheet)
    measured = examination.of(generator.encoder, cpu, RESAMPLES)
    console = Console(width=120)
    console.print(measured_table(measured, "exported"))
    drawn = redrawn(generator.encoder, generator.decoder, features, bins, cpu)
    synthetic = replace(measured, bins=people.validation.figures(drawn), fusion=[])
    console.print(measured_table(synthetic, "synthetic: features of faces drawn from the front"))
    console.print(fusion_table(measured.fusion))


if __name__ == "__main__":
    app()
