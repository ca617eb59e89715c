"""`mien bench`: speed and steadiness, each figure beside a reference measured in the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.bench import chaos as chaos_bench
from services.bench.cameras import CameraBench, bench_cameras
from services.bench.detect import bench_detect
from services.bench.embed import bench_embed
from services.bench.identify import bench_identify
from services.bench.landmarks import bench_landmarks
from services.bench.map import bench_map
from services.bench.migrate import bench_migrate
from services.bench.overload import bench_overload
from services.bench.result import BenchResult
from services.bench.serve import bench_serve
from services.bench.soak import bench_soak
from services.bench.verify import bench_verify
from services.cli.context import command_settings
from services.cli.faces import JsonOption
from services.cli.output import err, out, print_json

app = typer.Typer(help="Measure speed beside a reference.", no_args_is_help=True)


@app.command()
def verify(
    seconds: Annotated[float, typer.Option(min=2, help="Time for each of the two.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """One POST /v1/verify after another, beside the same work in a plain loop."""
    _show(bench_verify(command_settings(), seconds), as_json)


@app.command()
def embed(
    seconds: Annotated[float, typer.Option(min=2, help="Time for each of the two.")] = 10,
    concurrency: Annotated[int, typer.Option(min=1, help="Callers at once.")] = 64,
    as_json: JsonOption = False,
) -> None:
    """The embedding service over gRPC, beside the raw OpenVINO queue."""
    _show(bench_embed(command_settings(), seconds, concurrency), as_json)


@app.command()
def detect(
    seconds: Annotated[float, typer.Option(min=2, help="Time for each of the two.")] = 10,
    concurrency: Annotated[int, typer.Option(min=1, help="Callers at once.")] = 8,
    as_json: JsonOption = False,
) -> None:
    """FaceService.Detect over gRPC, beside OpenCV's detector in a loop."""
    _show(bench_detect(command_settings(), seconds, concurrency), as_json)


@app.command()
def serve(
    seconds: Annotated[float, typer.Option(min=2, help="Time for each of the two.")] = 15,
    concurrency: Annotated[int, typer.Option(min=1, help="Callers at once.")] = 8,
    as_json: JsonOption = False,
) -> None:
    """POST /v1/verify under several callers, beside a plain OpenCV service."""
    _show(bench_serve(command_settings(), seconds, concurrency), as_json)


@app.command()
def overload(
    seconds: Annotated[float, typer.Option(min=2, help="Time of overload.")] = 60,
    as_json: JsonOption = False,
) -> None:
    """POST /v1/verify offered twice what it can do: latency of what is accepted, and refusals."""
    _show(bench_overload(command_settings(), seconds), as_json)


@app.command("map")
def map_vectors(
    name: Annotated[str, typer.Option("--map", help="Map; the first known if none.")] = "",
    seconds: Annotated[float, typer.Option(min=2, help="Time for each of the two.")] = 10,
    concurrency: Annotated[int, typer.Option(min=1, help="Callers at once.")] = 8,
    as_json: JsonOption = False,
) -> None:
    """The mapping service beside its bare engine; mapping a vector beside extracting it anew."""
    _show(bench_map(command_settings(), name, seconds, concurrency), as_json)


@app.command()
def identify(
    templates: Annotated[int, typer.Option(min=10, help="In the gallery.")] = 100_000,
    dimension: Annotated[int, typer.Option(min=8, max=4096, help="Of the vectors.")] = 512,
    queries: Annotated[int, typer.Option(min=10, help="Probes of each of the two.")] = 500,
    as_json: JsonOption = False,
) -> None:
    """One probe after another against the embedded gallery, beside a bare exact faiss scan."""
    _show(bench_identify(command_settings(), templates, dimension, queries), as_json)


@app.command()
def landmarks(
    images: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Pictures with turned faces.")
    ],
    pictures: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """How far points of turned faces wander under small changes; the reference looks only once."""
    _show(bench_landmarks(command_settings(), images, pictures), as_json)


@app.command()
def migrate(
    map_name: Annotated[str, typer.Option("--map", help="Map, name or name@version.")],
    templates: Annotated[int, typer.Option(min=1000, help="In the gallery.")] = 100_000,
    seconds: Annotated[float, typer.Option(min=2, help="Time for the extraction.")] = 20,
    kills: Annotated[
        int, typer.Option(min=0, help="Migrate it again in processes killed so many times.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Migration of a made-up gallery, beside extraction from photographs of 250 x 250."""
    _show(bench_migrate(command_settings(), map_name, templates, seconds, kills), as_json)


@app.command()
def cameras(
    seconds: Annotated[float, typer.Option(min=5, help="Of the streams at their pace.")] = 30,
    streams: Annotated[int, typer.Option(min=1, max=64, help="At once.")] = 8,
    clips: Annotated[int, typer.Option(min=0, help="For tracks and decisions.")] = 40,
    fpir: Annotated[float, typer.Option(min=1e-6, max=0.5, help="Of all decisions.")] = 0.01,
    faces: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="PERSON/*.jpg; the demo's if none."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Camera streams with made-up clips, beside a plain loop that detects and embeds each face."""
    chosen = CameraBench(seconds, streams, clips, fpir, faces)
    _show(bench_cameras(command_settings(), chosen), as_json)


@app.command()
def chaos(
    faults: Annotated[
        list[str] | None, typer.Option("--faults", help="Of these names; all if none.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.5, help="That each fault lasts.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """A Mien of real processes under load, broken one way after another: what is lost (nothing)."""
    try:
        chosen = chaos_bench.chosen_faults(faults or [])
    except KeyError as error:
        names = ", ".join(one.name for one in chaos_bench.chosen_faults([]))
        raise typer.BadParameter(f"{error.args[0]} is none of: {names}") from error
    result = chaos_bench.bench_chaos(
        command_settings(), chosen, seconds, lambda one: err.print(_line(one))
    )
    if as_json:
        print_json(result.as_json())
    else:
        chaos_bench.print_table(result, out)
    if result.value < result.reference or result.details["lost"] or result.details["doubled"]:
        raise typer.Exit(1)


@app.command()
def soak(
    seconds: Annotated[float, typer.Option(min=2, help="Time of the load.")] = 600,
    share: Annotated[float, typer.Option(min=0.05, max=1, help="Of the capacity.")] = 0.8,
    calibration: Annotated[float, typer.Option(min=1, help="Time to find the capacity.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """A mixed load below capacity, for long: throughput, latency, refusals, and memory."""
    _show(bench_soak(command_settings(), seconds, share, calibration), as_json)


def _line(trial: chaos_bench.Trial) -> str:
    if trial.skipped:
        return f"{trial.fault}: skipped, {trial.skipped}"
    seen = (
        f"{trial.in_flight} in flight, {trial.answered} answered, otherwise {trial.refused}, "
        f"{trial.dishonest} dishonest, {trial.wrong} wrong, {trial.acknowledged} enrolled, "
        f"{trial.lost} lost, recovered after {trial.recovered_seconds} s {trial.failure}"
    )
    return f"{trial.fault}: {'survived' if trial.is_survived else 'NOT SURVIVED'}; {seen.strip()}"


def _show(result: BenchResult, as_json: bool) -> None:
    if as_json:
        print_json(result.as_json())
        return
    ratio = result.value / result.reference
    out.print(
        f"{result.value:.1f} {result.unit}; reference {result.reference:.1f}; ratio {ratio:.2f}"
    )
    for name, value in result.details.items():
        out.print(f"  {name}: {value}")
