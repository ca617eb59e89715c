"""`mien engines`: what can run networks here, plans built ahead of time, and agreement checked."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Literal

import typer
from rich.table import Table

from models.zoo import AnyCard, DetectorCard, EmbedderCard, EnhancerCard, MapCard, Zoo
from services.cli.context import command_settings
from services.cli.faces import JsonOption
from services.cli.models import NameArgument
from services.cli.output import out, print_json
from services.embedding.embedder import value_range
from services.enhancement import PICTURE_RANGE
from services.runtime import EngineError, EngineOptions, available_engines, load_engine
from services.runtime.engine import EXACT_LAYERS
from services.runtime.parity import STORED, compare
from services.runtime.plan_cache import PlanCache
from services.runtime.tensorrt_build import build_plan

app = typer.Typer(help="What runs the networks: list, build, verify.", no_args_is_help=True)

PrecisionOption = Annotated[
    Literal["fp32", "fp16", "bf16", "int8"], typer.Option(help="Numeric precision.")
]


@app.command("list")
def list_engines(as_json: JsonOption = False) -> None:
    """List the engines, best first, why some cannot be used here, and the plans that are kept."""
    engines = available_engines()
    plans = PlanCache(Zoo(command_settings().home).engines).entries()
    if as_json:
        print_json({"engines": engines, "plans": [str(plan.path) for plan in plans]})
        return
    table = Table("engine", "here")
    for name, why in engines.items():
        table.add_row(name, why or "yes")
    out.print(table)
    out.print(f"{len(plans)} plans are kept in {Zoo(command_settings().home).engines}")


@app.command()
def build(
    model: NameArgument,
    compute_capability: Annotated[str, typer.Option(help="Of the target GPU, e.g. 8.0.")],
    precision: PrecisionOption = "fp32",
    as_json: JsonOption = False,
) -> None:
    """Build a TensorRT plan ahead of time, for a GPU that need not be here."""
    zoo = Zoo(command_settings().home)
    card = zoo.card(model)
    options = EngineOptions(precision=precision, free_dimensions=_free(card))
    plan = build_plan(zoo.weights(card), options, compute_capability, cache=PlanCache(zoo.engines))
    size = plan.stat().st_size
    if as_json:
        print_json({"model": card.reference, "plan": str(plan), "bytes": size})
    else:
        out.print(f"{card.reference} for {compute_capability}: {plan}, {size / 1e6:.1f} MB")


@app.command()
def verify(
    model: NameArgument,
    engine: Annotated[str, typer.Option(help="Engine's name; auto for the best here.")] = "auto",
    precision: PrecisionOption = "fp32",
    as_json: JsonOption = False,
) -> int:
    """Compare an engine with the fp32 ONNX Runtime reference on generated inputs.

    Exit code: 0 it agrees within the limits, 1 it does not, 3 it cannot run.
    """
    zoo = Zoo(command_settings().home)
    card = zoo.card(model)
    path = zoo.weights(card)
    pixels = _range(card)
    limits = STORED if isinstance(card, MapCard) else None
    for exact in EXACT_LAYERS:
        options = EngineOptions(precision, free_dimensions=_free(card), exact_layers=exact)
        ours = load_engine(path, engine, options)
        if ours.info.precision != precision:
            raise EngineError(f"{ours.info.engine} cannot run {card.reference} in {precision}.")
        with closing(ours):
            report = compare(ours, path, options, pixels, limits)
            name = ours.info.engine
        # Only OpenVINO's int8 has several forms; what would be served is the first that passes.
        if report.passed or (precision, name.split()[0]) != ("int8", "openvino"):
            break
    if as_json:
        print_json({"model": card.reference, "engine": name, **asdict(report)})
    else:
        verdict = "agrees" if report.passed else f"does not agree: {report.why}"
        out.print(
            f"{name} in {precision} {verdict} (least cosine {report.cosine_min:.6f}, "
            f"limit {report.limit:g})"
        )
    return 0 if report.passed else 1


def _range(card: AnyCard) -> tuple[float, float]:
    """What the network's input is made of."""
    if isinstance(card, EmbedderCard):
        return value_range(card.input)
    return PICTURE_RANGE if isinstance(card, EnhancerCard) else (0.0, 255.0)


def _free(card: AnyCard) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """A detector takes pictures of any size."""
    return (("input", (1, 3, -1, -1)),) if isinstance(card, DetectorCard) else ()
