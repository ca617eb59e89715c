"""What most commands begin with: settings and logging."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from services.settings import Settings, load_settings
from services.telemetry import configure_logging

_Result = TypeVar("_Result")


def command_settings() -> Settings:
    """Settings for a command that prints its own answer: logs are kept to warnings.

    Raises:
        SettingsError: a setting is not valid.
    """
    settings = load_settings()
    level = settings.log_level if settings.log_level in ("debug", "error") else "warning"
    configure_logging(level, "text")
    return settings


def run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Runs a coroutine to its end."""
    return asyncio.run(work)
