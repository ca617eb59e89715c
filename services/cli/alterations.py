"""Options for pictures that are altered before they are measured."""

from __future__ import annotations

from typing import Annotated

import typer

from services.evaluation.alteration import Light

ProbeSideOption = Annotated[
    int, typer.Option(min=0, help="Scale first pictures to so many pixels; 0 leaves them.")
]
ProbeLightOption = Annotated[
    Light, typer.Option(help="Turn first pictures to simulated near infrared, or to grey.")
]
