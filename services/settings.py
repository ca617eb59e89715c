"""All settings: environment variables ``MIEN_...``, an optional TOML file, typed and checked."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

PREFIX = "MIEN_"
NESTED = "__"
FILE_VARIABLE = "MIEN_CONFIG"
_NOT_SETTINGS = "MIEN_TEST_"


def _listed(value: object) -> object:
    """Splits a variable at its commas; JSON is taken too."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()]


Port = Annotated[int, Field(ge=0, le=65535)]


class SettingsError(Exception):
    """The settings are not valid; the message names each one at fault."""


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageSettings(_Group):
    """What a picture may be."""

    max_bytes: int = Field(10 * 1024 * 1024, ge=1024, description="largest picture file, bytes")
    max_pixels: int = Field(40_000_000, ge=256, description="largest picture, pixels")
    max_references: int = Field(32, ge=1, le=1000, description="reference pictures in one call")


class DecisionSettings(_Group):
    """When a decision is made, and when it is withheld."""

    default_fmr: float = Field(1e-3, gt=0, lt=1, description="false-match rate if none is named")
    min_quality: float = Field(
        10.0, ge=0, le=100, description="below this unified quality: inconclusive"
    )
    max_yaw: float = Field(70.0, gt=0, le=180, description="beyond this many degrees: inconclusive")
    max_pitch: float = Field(60.0, gt=0, le=180, description="likewise, up or down")


class DetectionSettings(_Group):
    """How faces are looked for."""

    model: str = Field("yunet", description="detector, as name or name@version")
    min_score: float = Field(0.6, gt=0, lt=1, description="least detector score of a face")
    max_faces: int = Field(500, ge=1, description="most faces that are reported in one picture")
    second_look_yaw: float = Field(
        20.0, ge=0, le=180, description="compared faces turned further are looked at again"
    )
    second_look_side: float = Field(
        64.0, ge=0, description="so are those with at most so many pixels across their crop"
    )


class GatewaySettings(_Group):
    """The gateway: REST and gRPC."""

    http_host: str = "127.0.0.1"
    http_port: Port = 8000
    grpc_host: str = "127.0.0.1"
    grpc_port: Port = 50051
    embedding_address: str | None = Field(
        None, description="host:port of the embedding service; none: run it in this process"
    )
    enhancement_address: str | None = Field(
        None,
        description="host:port of the enhancement service; none: run it in this process, or do "
        "without it where the gateway runs alone",
    )
    mapping_address: str | None = Field(
        None,
        description="host:port of the mapping service; none: run it in this process, or do without "
        "it where the gateway runs alone",
    )
    enhance: bool = Field(
        True, description="enhance faces where the enhancer's card shows that it helps"
    )
    workers: int = Field(
        0, ge=0, le=256, description="threads that decode and detect; 0: one more than CPUs"
    )
    max_in_flight: int = Field(
        0, ge=0, description="requests at work at once, more get 429; 0: four for each CPU"
    )
    timeout_seconds: float = Field(30.0, gt=0, description="longest time for one request")
    drain_seconds: float = Field(10.0, ge=0, description="time to finish requests at shutdown")


class QueueSettings(_Group):
    """The queue before a network."""

    max_batch: int = Field(256, ge=1, description="most crops in one call")
    batch_rows: int = Field(8, ge=1, description="most crops in one inference")
    batch_wait_ms: float = Field(
        0.0, ge=0, description="how long a batch may wait to fill while the engine is busy"
    )
    queue_rows: int = Field(512, ge=1, description="most crops that wait; more are refused")


class EmbeddingSettings(QueueSettings):
    """The embedding service."""

    host: str = "127.0.0.1"
    port: Port = 50052
    http_port: Port = Field(
        8001, description="inference protocol over REST, and metrics, when it runs by itself"
    )
    models: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = Field(
        ("poseface",), min_length=1, description="embedders to load; the first is the default"
    )
    frontalize: bool = Field(
        False, description="draw synthetic faces for human review, where a model can"
    )


class EnhancementSettings(QueueSettings):
    """The enhancement service."""

    host: str = "127.0.0.1"
    port: Port = 50053
    http_port: Port = Field(
        8002, description="inference protocol over REST, and metrics, when it runs by itself"
    )
    models: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = Field(
        ("ddat", "nir2vis", "vis2nir"),
        description="enhancers to load; none: faces are compared as they are",
    )


class MappingSettings(QueueSettings):
    """The mapping service. A vector is little work, so its batches and its queue are longer."""

    host: str = "127.0.0.1"
    port: Port = 50054
    http_port: Port = Field(
        8003, description="inference protocol over REST, and metrics, when it runs by itself"
    )
    models: Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(_listed)] = Field(
        None, description="maps to load; unset: the newest of each that is known here; empty: none"
    )
    max_batch: int = Field(1024, ge=1, description="most vectors in one batch of a call")
    batch_rows: int = Field(16, ge=1, description="most vectors in one inference")
    queue_rows: int = Field(8192, ge=1, description="most vectors that wait; more are refused")


class GallerySettings(_Group):
    """Where subjects and templates are kept, and how they are searched."""

    uri: str = Field(
        "",
        description="sqlite:PATH, http(s)://HOST:PORT of Milvus, or milvus-lite:PATH; "
        "none: gallery.sqlite3 in `home`",
    )
    token: SecretStr = Field(SecretStr(""), description="of the Milvus server, if it asks for one")
    master_key: SecretStr = Field(
        SecretStr(""),
        description="32 bytes as base64, which the keys of the embedded gallery are wrapped with; "
        "none: master_key_file",
    )
    master_key_file: Path | None = Field(
        None, description="file of the master key; none: made beside the database, with its name"
    )
    exact_templates: int = Field(
        200_000,
        ge=0,
        description="tenants with more templates are searched by 8-bit codes, and the best "
        "compared exactly",
    )
    fpir: float = Field(
        0.01, gt=0, lt=1, description="false-positive identification rate if none is named"
    )
    margin_decades: float = Field(
        1.0,
        ge=0,
        le=6,
        description="ambiguous: the second is nearer to the first than thresholds of false-match "
        "rates so many powers of ten apart",
    )


class MigrationSettings(_Group):
    """Moving a gallery from one model to the next."""

    batch: int = Field(1000, ge=1, le=4000, description="templates that are moved at once")
    rate: float = Field(0.0, ge=0, description="most templates per second; 0: no limit")
    lease_seconds: float = Field(
        15.0, gt=0, description="after this, the work of a process that is gone is free to others"
    )
    patience_seconds: float = Field(
        600.0, gt=0, description="how long a run waits for a gallery or a map that is away"
    )
    follow_seconds: float = Field(
        2.0, gt=0, description="how often a run that has caught up looks for new templates"
    )
    shadow: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of identifications that the target's model is asked too, for a report",
    )
    renew: bool = Field(
        False,
        description="subjects that are recognised by a mapped template and well seen get a native "
        "one in its place",
    )
    renew_min_quality: float = Field(
        60.0, ge=0, le=100, description="least unified quality of such a picture"
    )
    renew_fpir: float = Field(
        1e-3,
        gt=0,
        lt=1,
        description="false-positive identification rate whose threshold such a match must reach",
    )


class EnrolmentSettings(_Group):
    """How subjects are enrolled."""

    model: str = Field(
        "",
        description="embedder of the first enrolment, as name or name@version; later ones use "
        "the gallery's live model; none: the default embedder",
    )
    max_pictures: int = Field(16, ge=1, le=1000, description="pictures or vectors in one enrolment")
    bulk_rows: int = Field(
        2, ge=1, le=64, description="rows of one bulk enrolment that are worked on at once"
    )
    max_rows: int = Field(
        10_000, ge=1, description="rows in one bulk enrolment over REST; gRPC has no limit"
    )


class IdentificationSettings(_Group):
    """How people are identified."""

    max_pictures: int = Field(8, ge=1, le=1000, description="pictures in one call")
    max_vectors: int = Field(256, ge=1, le=10_000, description="vectors in one call")
    max_faces: int = Field(
        32, ge=1, le=256, description="faces of one picture that are identified, largest first"
    )


class EngineSettings(_Group):
    """What runs the networks."""

    preference: Literal["auto", "tensorrt", "cuda", "openvino", "onnxruntime", "triton"] = Field(
        "auto", description="auto: the best that works here; triton: a server elsewhere"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field(
        "auto", description="auto: the fastest that agrees with fp32 within the parity limits"
    )
    threads: int = Field(0, ge=0, le=1024, description="CPU threads; 0: one for each CPU")
    triton_address: str = Field("127.0.0.1:8001", description="gRPC address of a Triton server")


class Settings(BaseSettings):
    """The settings of one process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=NESTED, extra="forbid", frozen=True
    )

    home: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("mien")),
        description="folder of pulled weights and added models",
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "json"
    image: ImageSettings = ImageSettings()
    decision: DecisionSettings = DecisionSettings()
    detection: DetectionSettings = DetectionSettings()
    gateway: GatewaySettings = GatewaySettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    enhancement: EnhancementSettings = EnhancementSettings()
    mapping: MappingSettings = MappingSettings()
    gallery: GallerySettings = GallerySettings()
    migration: MigrationSettings = MigrationSettings()
    enrolment: EnrolmentSettings = EnrolmentSettings()
    identification: IdentificationSettings = IdentificationSettings()
    engine: EngineSettings = EngineSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, the environment over the file."""
        file = os.environ.get(FILE_VARIABLE)
        toml = [TomlConfigSettingsSource(settings_cls, Path(file))] if file else []
        return (init_settings, env_settings, *toml)


def load_settings(**overrides: object) -> Settings:
    """Reads the settings and checks them.

    Raises:
        SettingsError: names every setting that is unknown or has a wrong value, and the file if it
            cannot be read.
    """
    _refuse_unknown_variables(os.environ)
    file = os.environ.get(FILE_VARIABLE)
    if file and not Path(file).is_file():
        raise SettingsError(f"{FILE_VARIABLE}: there is no file {file}")
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # checked by pydantic itself
    except ValidationError as error:
        lines = [
            f"{variable(fault['loc'])}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError("\n".join(lines)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not a TOML file: {error}") from error
    except ValueError as error:  # a variable that holds a whole group and is not JSON
        raise SettingsError(f"{PREFIX}...: {error}") from error


def variable(location: Iterable[str | int]) -> str:
    """The environment variable of a setting, from its path in the settings."""
    return PREFIX + NESTED.join(str(part) for part in location).upper()


def _refuse_unknown_variables(environment: Iterable[str]) -> None:
    fields = {variable([name]): field.annotation for name, field in Settings.model_fields.items()}
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name == FILE_VARIABLE or name.startswith(_NOT_SETTINGS):
            continue
        first, nested, _ = name.partition(NESTED)
        kind = fields.get(first)
        is_group = isinstance(kind, type) and issubclass(kind, _Group)
        if kind is None or (nested and not is_group):
            raise SettingsError(f"{name}: there is no such setting; `mien config` lists them all")
