"""The whole examination, in the order in which one would look oneself."""

from __future__ import annotations

from collections.abc import Iterator

from services.doctor import machine, setup, stores
from services.doctor.finding import Finding, ok, wrong
from services.runtime import available_engines
from services.settings import SettingsError, load_settings


def examine() -> Iterator[Finding]:
    """Looks at machine, settings and surroundings; changes nothing.

    With settings that cannot be read, only the machine is looked at.
    """
    found = available_engines()
    yield machine.cpu()
    yield machine.cores()
    yield machine.memory()
    yield machine.gpu(found.get("tensorrt") and found.get("cuda"))
    yield machine.clock()
    yield machine.libraries()
    try:
        settings = load_settings()
    except SettingsError as error:
        yield wrong("settings", str(error), "`mien config` lists every setting.")
        return
    yield ok("settings", "all are valid")
    yield setup.home(settings)
    yield from setup.weights(settings)
    yield setup.engines(settings, found)
    yield from setup.ports(settings)
    yield from setup.others(settings)
    yield stores.gallery(settings)
    yield stores.redis(settings.redis.url.get_secret_value())
