"""The settings of a process: from arguments, the environment and a TOML file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from services.settings.base import Group, SettingsError
from services.settings.cameras import CameraSettings, WatchSettings
from services.settings.connections import ConnectionSettings
from services.settings.faces import (
    DecisionSettings,
    DetectionSettings,
    EmbeddingSettings,
    EngineSettings,
    EnhancementSettings,
    ImageSettings,
    MappingSettings,
)
from services.settings.gallery import (
    AuditSettings,
    EnrolmentSettings,
    GallerySettings,
    IdentificationSettings,
    MigrationSettings,
    RetentionSettings,
)
from services.settings.gateway import (
    AccessSettings,
    CacheSettings,
    GatewaySettings,
    RedisSettings,
    TlsSettings,
    TracingSettings,
)

PREFIX = "MIEN_"
NESTED = "__"
FILE_VARIABLE = "MIEN_CONFIG"
_NOT_SETTINGS = "MIEN_TEST_"


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
    audit: AuditSettings = AuditSettings()
    retention: RetentionSettings = RetentionSettings()
    redis: RedisSettings = RedisSettings()
    cache: CacheSettings = CacheSettings()
    cameras: CameraSettings = CameraSettings()
    watch: WatchSettings = WatchSettings()
    engine: EngineSettings = EngineSettings()
    tracing: TracingSettings = TracingSettings()
    access: AccessSettings = AccessSettings()
    connections: ConnectionSettings = ConnectionSettings()
    tls: TlsSettings = TlsSettings()

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


def check_home(home: Path) -> None:
    """Refuses a home that cannot be one; a folder that is not there yet can.

    Raises:
        SettingsError: it is a file, lies below one, or cannot be read.
    """
    try:
        there = next(one for one in (home.absolute(), *home.absolute().parents) if one.exists())
        if there.is_dir():
            if there == home.absolute():
                os.scandir(there).close()
            return
        reason = "is a file"
    except OSError as error:
        there, reason = home, f"cannot be read ({error.strerror})"
    raise SettingsError(f"MIEN_HOME: {there} {reason}; set it to a folder of your own")


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
        is_group = isinstance(kind, type) and issubclass(kind, Group)
        if kind is None or (nested and not is_group):
            raise SettingsError(f"{name}: there is no such setting; `mien config` lists them all")
