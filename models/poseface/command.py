"""The training command, its options taken from `TrainOptions` so that none can be missing."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from models.poseface.augment import Augmentation
from models.poseface.checkpoint import read_options
from models.poseface.options import GPU_CHANGES, Profile, TrainOptions, profile_options

AUGMENT_PREFIX = "augment_"

app = typer.Typer(help="PoseFace: train the face embedder.", add_completion=False)


def _parameter(name: str, field: FieldInfo, group: str, shown: str) -> inspect.Parameter:
    kind = field.annotation
    if get_origin(kind) is not Literal and type(None) in get_args(kind):
        kind = next(part for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is Literal and not all(isinstance(v, str) for v in get_args(kind)):
        kind = type(get_args(kind)[0])
    flag = "--" + name.replace("_", "-")
    names = [f"{flag}/--no-{flag[2:]}"] if kind is bool else [flag]
    option = typer.Option(
        *names, help=f"{field.description} ({shown})", rich_help_panel=group, show_default=False
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],  # type: ignore[operator]
    )


def _shown(name: str, field: FieldInfo) -> str:
    default = field.get_default()
    gpu = GPU_CHANGES.get(name, default)
    return f"{default}" if gpu == default else f"cpu {default}, gpu {gpu}"


def _parameters(model: type[BaseModel], group: str, prefix: str = "") -> list[inspect.Parameter]:
    return [
        _parameter(prefix + name, field, group, _shown(name, field))
        for name, field in model.model_fields.items()
        if name != "augmentation"
    ]


def _chosen(values: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in values.items() if value is not None}
    augmentation = {
        name.removeprefix(AUGMENT_PREFIX): given.pop(name)
        for name in list(given)
        if name.startswith(AUGMENT_PREFIX)
    }
    return {**given, "augmentation": augmentation} if augmentation else given


def train(
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="index.tsv and tars")],
    out: Annotated[Path, typer.Option(help="folder of the run; a run that is there goes on")],
    profile: Annotated[Profile, typer.Option(help="preset that the options below change")] = "cpu",
    sface: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="SFace's ONNX file: start and teacher"),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="decoded faces, teacher features (OUT/cache)")
    ] = None,
    options_from: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="a run.json to begin from, not a profile"),
    ] = None,
    **values: Any,
) -> None:
    """Train PoseFace. A killed run goes on when the same command is given again."""
    from models.poseface.train import Trainer, TrainingError  # noqa: PLC0415

    try:
        changes = _chosen(values)
        if options_from is None:
            options = profile_options(profile, changes)
        else:
            old = read_options(options_from).model_dump()
            look = {**old.pop("augmentation"), **changes.pop("augmentation", {})}
            options = TrainOptions.model_validate({**old, **changes, "augmentation": look})
    except ValidationError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        Trainer(options, data, out, cache or out / "cache", sface).run()
    except TrainingError as error:
        typer.echo(f"poseface: {error}", err=True)
        raise typer.Exit(1) from error


_signature = inspect.signature(train, eval_str=True)
_fixed = [p for p in _signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
_free = [
    *_parameters(TrainOptions, "Options of the run"),
    *_parameters(Augmentation, "Augmentation", AUGMENT_PREFIX),
]
_all = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in _fixed] + _free
train.__signature__ = inspect.Signature(_all)  # type: ignore[attr-defined]
train.__annotations__ = {p.name: p.annotation for p in _all}
app.command()(train)
