"""A training command's options, taken from its options model so that none can be missing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from models.training.augment import Augmentation
from models.training.checkpoint import read_options
from models.training.errors import TrainingError

DataOption = Annotated[Path, typer.Option(exists=True, file_okay=False, help="index.tsv and tars")]
RunOption = Annotated[Path, typer.Option(help="folder of the run; a run that is there goes on")]
StartOption = Annotated[
    Path, typer.Option(exists=True, dir_okay=False, help="SFace's or PoseFace's ONNX file: teacher")
]
CacheOption = Annotated[Path | None, typer.Option(help="decoded faces, teacher features")]
BeginOption = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="exported file to begin with, not with chance"),
]
OptionsFromOption = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="a run.json to begin from, not a profile"),
]
"""What all training commands ask for, in the same words."""

AUGMENT_PREFIX = "augment_"
AUGMENT_FIELD = "augmentation"

Options = TypeVar("Options", bound=BaseModel)


def chosen_options(
    base: Callable[[dict[str, Any]], Options],
    kind: type[Options],
    options_from: Path | None,
    values: Mapping[str, Any],
) -> Options:
    """The options of a run from the command line's values; those not given are None.

    Args:
        base: makes options from changes to a profile.
        kind: the options model.
        options_from: a `run.json` to begin from, not the profile.
        values: by field name; the augmentation's carry a prefix.

    Raises:
        typer.BadParameter: names each value at fault.
    """
    changes = _changes(values)
    try:
        if options_from is None:
            return base(changes)
        old = read_options(options_from, kind).model_dump()
        look = {**old.pop(AUGMENT_FIELD), **changes.pop(AUGMENT_FIELD, {})}
        return kind.model_validate({**old, **changes, AUGMENT_FIELD: look})
    except ValueError as error:  # pydantic's
        raise typer.BadParameter(str(error)) from error


@contextmanager
def told_errors(method: str) -> Iterator[None]:
    """Ends the command with a line and exit code 1 where a run cannot go on."""
    try:
        yield
    except TrainingError as error:
        typer.echo(f"{method}: {error}", err=True)
        raise typer.Exit(1) from error


def with_options(
    command: Callable[..., None], kind: type[BaseModel], gpu_changes: Mapping[str, Any]
) -> Callable[..., None]:
    """Gives a command that takes ``**values`` one option for each field of the model.

    Args:
        command: its other parameters stay as they are.
        kind: the options model; a field "augmentation" holds an `Augmentation`.
        gpu_changes: what the GPU profile changes, for the help.
    """
    signature = inspect.signature(command, eval_str=True)
    fixed = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    free = [
        *_parameters(kind, "Options of the run", gpu_changes),
        *_parameters(Augmentation, "Augmentation", {}, AUGMENT_PREFIX),
    ]
    every = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in fixed] + free
    command.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in every}
    return command


def _changes(values: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in values.items() if value is not None}
    augmentation = {
        name.removeprefix(AUGMENT_PREFIX): given.pop(name)
        for name in list(given)
        if name.startswith(AUGMENT_PREFIX)
    }
    return {**given, AUGMENT_FIELD: augmentation} if augmentation else given


def _parameters(
    model: type[BaseModel], group: str, gpu_changes: Mapping[str, Any], prefix: str = ""
) -> list[inspect.Parameter]:
    return [
        _parameter(prefix + name, field, group, _shown(field, gpu_changes.get(name)))
        for name, field in model.model_fields.items()
        if name != AUGMENT_FIELD
    ]


def _shown(field: FieldInfo, on_gpu: Any) -> str:
    default = field.get_default()
    return f"{default}" if on_gpu in (None, default) else f"cpu {default}, gpu {on_gpu}"


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
