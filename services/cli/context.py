"""What most commands begin with: settings and logging."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

from services.audit.caller import use_caller
from services.settings import Settings, check_home, load_settings
from services.telemetry import configure_logging

_Result = TypeVar("_Result")


def command_settings() -> Settings:
    """Settings for a command that prints its own answer: logs are kept to warnings.

    Raises:
        SettingsError: a setting is not valid, or the home cannot be one.
    """
    settings = load_settings()
    check_home(settings.home)
    level = settings.log_level if settings.log_level in ("debug", "error") else "warning"
    configure_logging(level, "text")
    return settings


def run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Runs a coroutine to its end; the audit log knows whose command it is."""
    with use_caller(f"command:{os.getuid()}"):
        return asyncio.run(work)
