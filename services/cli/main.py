"""Puts the commands together, and turns every failure into a sentence and an exit code."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from models.training.errors import TrainingError
from models.zoo import FetchError, ZooError
from services.cli import (
    audit,
    augment,
    bench,
    crops,
    engines,
    evaluate,
    export,
    faces,
    gallery,
    keys,
    mapping,
    migrate,
    models,
    subjects,
    system,
    watch,
)
from services.cli.output import err
from services.cli.train import training_app
from services.errors import MienError
from services.evaluation import PairsError
from services.gallery.vector_files import VectorFileError
from services.runtime import EngineError
from services.settings import SettingsError
from services.telemetry.metrics import version
from services.telemetry.tracing import TracingError
from services.triton_export import TritonExportError
from services.watch.sources import SourceError

ERROR = 3
_INTERRUPTED = 130

app = typer.Typer(
    name="mien",
    help="Face verification at a stated false-match rate. Settings: environment MIEN_..., see "
    "`mien config`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
faces.add_commands(app)
evaluate.add_commands(app)
system.add_commands(app)
app.command()(crops.crops)
app.command()(subjects.identify)
app.add_typer(subjects.app, name="subjects")
app.add_typer(models.app, name="models")
app.add_typer(audit.app, name="audit")
app.add_typer(augment.app, name="augment")
app.add_typer(bench.app, name="bench")
app.add_typer(engines.app, name="engines")
app.add_typer(export.app, name="export")
app.add_typer(gallery.app, name="gallery")
app.add_typer(keys.app, name="keys")
app.add_typer(mapping.app, name="mapping")
app.add_typer(migrate.app, name="migrate")
app.add_typer(watch.app, name="watch")


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True)
    ] = False,
) -> None:
    if show_version:
        typer.echo(f"mien {version()}")
        raise typer.Exit


# Typer carries its own copy of click, whose base class of usage errors it does not export.
_UsageError: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
_FAILURES = (
    MienError,
    ZooError,
    FetchError,
    EngineError,
    SettingsError,
    PairsError,
    TritonExportError,
    VectorFileError,
    TracingError,
    SourceError,
    TrainingError,
)


def main() -> None:
    """Runs the command line; exits with 3 on every error, usage included."""
    try:
        app.add_typer(training_app(), name="train")
        code = app(standalone_mode=False)
    except _UsageError as error:
        error.show()
        sys.exit(ERROR)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(_INTERRUPTED)
    except _FAILURES as error:
        field = error.field if isinstance(error, MienError) else None
        err.print(f"mien: {f'{field}: ' if field else ''}{error}", style="red", markup=False)
        sys.exit(ERROR)
    except OSError as error:
        about = f"{error.filename}: " if error.filename else ""
        err.print(f"mien: {about}{error.strerror or error}.", style="red", markup=False)
        sys.exit(ERROR)
    sys.exit(code if isinstance(code, int) else 0)
