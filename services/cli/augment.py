"""`mien augment`: synthetic pictures that enlarge a training set."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from models.training.sheets import write_sheet
from models.zoo import Zoo
from services.cli.context import command_settings
from services.cli.output import counting, out
from services.enhancement.enhancer import Poor, load_enhancer
from services.errors import MienError
from services.gateway.faces import MEASURING_CROP, FaceChoice
from services.gateway.server import load_pipeline
from services.picture_files import pictures_below
from services.runtime import EngineOptions, load_engine
from services.settings import Settings
from services.synthesis import stated_equalisation, translate

Pixels = NDArray[np.uint8]
Draw = Callable[[Pixels], Pixels]

INDEX, SHEET = "index.tsv", "contact.png"
_SHEET_FACES, _SHEET_COLUMNS = 24, 4

app = typer.Typer(help="Make synthetic pictures for training sets.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `nir` a word of its own while it is the only one."""


@app.command()
def nir(
    images: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Visible pictures.")],
    folder: Annotated[
        Path, typer.Option("--out", file_okay=False, help=f"For pictures, {INDEX} and {SHEET}.")
    ],
    model: Annotated[str, typer.Option(help="The translator as name@version.")] = "vis2nir@1",
    weights: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Its ONNX file, where no card knows it."),
    ] = None,
    aligned: Annotated[
        bool, typer.Option("--aligned", help="The pictures are 112 x 112 crops already.")
    ] = False,
    equalise: Annotated[
        bool | None,
        typer.Option(
            "--equalise/--no-equalise",
            help="Of the input's histogram, with --weights; by default as its training.",
        ),
    ] = None,
) -> None:
    """Draw near-infrared faces from photographs: synthetic, for training only, not for enrolment.

    Each picture's largest face is cut out as for an embedder. What is drawn keeps the name of the
    picture that it was drawn from, and says in itself and in the index that it is synthetic.
    """
    name, at, version = model.partition("@")
    if not at or not name or not version:
        raise typer.BadParameter("--model is a name@version")
    settings = command_settings()
    if weights is None and equalise is not None:
        raise typer.BadParameter("--equalise and --no-equalise go with --weights")
    draws = _known(settings, model) if weights is None else _file(settings, weights, equalise)
    paths = pictures_below(images)
    rows: list[list[str]] = []
    shown: list[Pixels] = []
    with counting("pictures", len(paths)) as advance:
        for path, crop in _crops(settings, paths, aligned, advance):
            drawn = draws(crop)
            source = path.relative_to(images)
            target = source.with_name(f"{source.name}.png")
            _write(folder / target, drawn)
            rows.append([str(target), str(source), "true", name, version])
            if len(shown) < 2 * _SHEET_FACES:
                shown += [crop, drawn]
    if not rows:
        raise typer.BadParameter("--images holds no picture of a face")
    with (folder / INDEX).open("w", newline="") as file:
        header = ["path", "source", "synthetic", "model", "version"]
        csv.writer(file, delimiter="\t").writerows([header, *rows])
    _write_contact(folder / SHEET, shown)
    left = len(paths) - len(rows)
    out.print(f"{len(rows)} synthetic faces in {folder}; {left} pictures without a usable face")


def _known(settings: Settings, model: str) -> Draw:
    """The translator that a card of the zoo describes.

    Raises:
        typer.BadParameter: it draws something else.
    """
    zoo = Zoo(settings.home)
    if zoo.enhancer(model).operation != "visible_to_nir":
        raise typer.BadParameter(f"{model} does not draw near infrared")
    translator = load_enhancer(zoo, model, settings.engine)
    return lambda crop: translator.enhance([Poor(crop, len(crop))])[0]


def _file(settings: Settings, weights: Path, equalise: bool | None) -> Draw:
    """The translator of a file that no card describes.

    Raises:
        typer.BadParameter: nothing says how its input is prepared.
    """
    wanted = stated_equalisation(weights, "vis2nir") if equalise is None else equalise
    if wanted is None:
        raise typer.BadParameter(
            f"nothing beside {weights.name} says whether its input is equalised; "
            "name --equalise or --no-equalise"
        )
    engine = load_engine(weights, settings.engine.preference, EngineOptions())
    return lambda crop: translate(engine, crop[None], equalise=wanted)[0]


def _crops(
    settings: Settings, paths: list[Path], aligned: bool, advance: Callable[[int], None]
) -> Iterator[tuple[Path, Pixels]]:
    """Pictures that show a face, each with the crop of it."""
    pipeline = None if aligned else load_pipeline(Zoo(settings.home), settings)
    side = (MEASURING_CROP.height, MEASURING_CROP.width)
    for path in paths:
        advance(1)
        if pipeline is None:
            read = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if read is not None and read.shape[:2] == side:
                yield path, np.ascontiguousarray(read[..., ::-1], dtype=np.uint8)
            continue
        try:
            face = pipeline.prepare(path.read_bytes(), FaceChoice(), MEASURING_CROP, "picture")
        except MienError:
            continue
        if face.crop is not None:
            yield path, face.crop


def _write(path: Path, picture: Pixels) -> None:
    """A PNG file that says of itself that it is synthetic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = PngInfo()
    about.add_text("synthetic", "true")
    Image.fromarray(picture).save(path, pnginfo=about)


def _write_contact(path: Path, shown: list[Pixels]) -> None:
    """Pairs of what was there and what was drawn, a few in a row."""
    width = 2 * _SHEET_COLUMNS
    blank = np.full_like(shown[0], 255)
    padded = shown + [blank] * (-len(shown) % width)
    write_sheet(path, [padded[start : start + width] for start in range(0, len(padded), width)])
