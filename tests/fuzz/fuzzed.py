"""A real Mien process to be fuzzed, and what must be true of it afterwards."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from services.access import Action
from services.access.admin import KeyAdmin
from services.access.opening import open_keys
from services.settings import Settings
from tests.e2e.floods import resident
from tests.integration.harness import MienProcess

SECONDS = float(os.environ.get("MIEN_FUZZ_SECONDS", "12"))
_MEMORY = 700 * 1024 * 1024  # that a process may have gained; it starts with some hundred MB


@dataclass(frozen=True)
class Fuzzed:
    """A process that asks for keys, and the secret of one that may do everything.

    Attributes:
        process: Mien with all its services.
        log: what it wrote.
        key_id: of the key, which must not be revoked.
        secret: of the key.
    """

    process: MienProcess
    log: Path
    key_id: str
    secret: str = field(repr=False)


def home_beside(mien_home: Path, folder: Path) -> Path:
    """A home of its own, with the pulled weights and photographs."""
    folder.mkdir(parents=True)
    for name in ("weights", "demo"):
        (folder / name).symlink_to(mien_home / name)
    return folder


@contextlib.contextmanager
def fuzzed_mien(mien_home: Path, folder: Path, **settings: object) -> Iterator[Fuzzed]:
    """Starts it; afterwards it lives, answers, has kept little memory and logged no failure."""
    home = home_beside(mien_home, folder / "home")
    key_id, secret = _key(home)
    given: dict[str, Any] = {
        "ACCESS__REQUIRED": "always",
        "ACCESS__RATE": "",
        "EMBEDDING__MODELS": "sface",
        "ENGINE__PREFERENCE": "openvino",
        **settings,
    }
    log = folder / "log"
    with log.open("wb") as out, MienProcess(home, out, "all", **given) as process:
        process.wait_until_ready()
        before = resident(process)
        yield Fuzzed(process, log, key_id, secret)
        assert process.process.poll() is None, f"the process has ended: {_end_of(log)}"
        with process.mien.client() as client:
            assert client.get("/healthz/ready").status_code == httpx.codes.OK
        grown = resident(process) - before
        assert grown < _MEMORY, f"{grown >> 20} MB were kept"
    assert "Traceback" not in log.read_text(errors="replace"), _end_of(log)


def _key(home: Path) -> tuple[str, str]:
    store, pepper = open_keys(Settings.model_validate({"home": home}))
    admin = KeyAdmin(store, pepper)
    key, secret = admin.made("*", list(Action))
    admin.add(key)
    store.close()
    return key.id, secret.text


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-6000:]
