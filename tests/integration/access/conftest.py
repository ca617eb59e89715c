"""A Mien that must know its callers, and keys for it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.access import Action
from services.access.admin import KeyAdmin
from services.access.key_ring import FRESH_SECONDS
from services.access.opening import open_keys
from services.settings import Settings
from tests.integration.harness import (
    Mien,
    mien_in_thread,
    settings_on_free_ports,
    weightless_loader,
)
from tests.integration.subjects.people import Identity

OF_TENANT = (Action.VERIFY, Action.IDENTIFY, Action.ENROL, Action.DELETE)
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Guarded:
    """A Mien that must know its callers."""

    mien: Mien
    settings: Settings
    made: dict[Any, str] = field(default_factory=dict, repr=False)

    def key(self, tenant: str = "a", *actions: Action) -> str:
        """The secret of a key that the gateway knows; all actions of a tenant, if none is named."""
        if (tenant, actions) not in self.made:
            self.made[tenant, actions] = self.new_key(tenant, *actions)
        return self.made[tenant, actions]

    def new_key(
        self, tenant: str = "a", *actions: Action, rate: str | None = None, **changed: Any
    ) -> str:
        """The secret of a key that nobody else has."""
        store, pepper = open_keys(self.settings)
        key, secret = KeyAdmin(store, pepper).made(tenant, actions or OF_TENANT, rate=rate)
        store.add(replace(key, **changed))
        store.close()
        time.sleep(FRESH_SECONDS)
        return secret.text

    @contextlib.contextmanager
    def client(self, secret: str | None = None) -> Iterator[httpx.Client]:
        with self.mien.client() as made:
            if secret is not None:
                made.headers["authorization"] = f"Bearer {secret}"
            yield made


def with_key(secret: str) -> Metadata:
    """What a gRPC call of a key's holder carries."""
    return (("authorization", f"Bearer {secret}"),)


@contextlib.contextmanager
def guarded_mien(
    home: Path, folder: Path, gateway: Mapping[str, Any] | None = None, **access: Any
) -> Iterator[Guarded]:
    """Starts one with an embedder that needs no weights, and its keys in a folder of its own."""
    whole = settings_on_free_ports(home, **(gateway or {}))
    given = {"required": "always", "database": folder / "access.sqlite3", **access}
    settings = Settings.model_validate(whole.model_dump() | {"access": given})
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("services.serve.load_configured", weightless_loader())
            mien = stack.enter_context(mien_in_thread(settings))
        yield Guarded(mien, settings)


@pytest.fixture(scope="session")
def guarded(mien_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded_mien(mien_home, tmp_path_factory.mktemp("access"), {"console": "on"}) as made:
        yield made


@pytest.fixture(scope="session")
def guarded_identity(guarded: Guarded) -> Identity:
    """Identity of the vectors that its model makes."""
    with guarded.client(guarded.key()) as client:
        told: Identity = client.get("/v1/models").json()["models"][0]["identity"]
    return told
