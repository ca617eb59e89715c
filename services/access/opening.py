"""Opens what access needs: the keys, their pepper, and at the first start a first key."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from limits.aio.storage import Storage

from services.access.admin import KeyAdmin
from services.access.database import KeyDatabase
from services.access.guard import Guard
from services.access.key_ring import KeyRing
from services.access.keys import Key
from services.access.policy import Action
from services.access.principal import ALL_TENANTS
from services.access.rates import Rates
from services.access.tokens import TokenReader
from services.errors import Errors, MienError
from services.settings import Settings, is_loopback
from services.telemetry import get_logger

_log = get_logger(__name__)
_PRIVATE = 0o600
_OTHERS = 0o077
_PEPPER_BYTES = 32


def access_is_required(settings: Settings) -> bool:
    """Whether callers of the gateway must be known."""
    gateway, required = settings.gateway, settings.access.required
    is_local = is_loopback(gateway.http_host) and is_loopback(gateway.grpc_host)
    if required == "never" and not is_local:
        _log.warning(
            "everybody who reaches the gateway may use it", setting="MIEN_ACCESS__REQUIRED=never"
        )
    return required == "always" or (required == "auto" and not is_local)


def database_file(settings: Settings) -> Path:
    """Where the keys are."""
    return settings.access.database or settings.home / "access.sqlite3"


def open_guard(settings: Settings, storage: Storage) -> Guard | None:
    """The guard of a gateway; None where callers need not be known. It blocks for a moment.

    If there is no key at all, one of an administrator is made and laid beside the database.

    Args:
        settings: of the gateway.
        storage: of the counts of requests.

    Raises:
        MienError: the keys cannot be read, or their pepper is not here.
        SettingsError: the public keys of the issuer cannot be used.
    """
    if not access_is_required(settings):
        return None
    tokens = TokenReader(settings.access) if settings.access.oidc_issuer else None
    store, pepper = open_keys(settings)
    try:
        _first_key(store, pepper, database_file(settings).with_name("admin.key"))
    except BaseException:
        store.close()
        raise
    keys, rates = KeyRing(store, pepper), Rates(storage, settings.access.rate)
    return Guard(
        keys,
        rates,
        tokens,
        admin=KeyAdmin(store, pepper),
        open_metrics=settings.access.open_metrics,
    )


def open_keys(settings: Settings) -> tuple[KeyDatabase, bytes]:
    """The keys, to be read and changed, and the pepper of their secrets. It blocks for a moment.

    Raises:
        MienError: the keys cannot be read, or their pepper is not here.
    """
    file = database_file(settings)
    pepper = _pepper(settings, file)
    return KeyDatabase(file), pepper


def open_admin(settings: Settings) -> KeyAdmin:
    """What manages the keys of these settings. It blocks for a moment.

    Raises:
        MienError: the keys cannot be read, or their pepper is not here.
    """
    return KeyAdmin(*open_keys(settings))


def _first_key(store: KeyDatabase, pepper: bytes, file: Path) -> None:
    def make() -> Key:
        label = "made at the first start"
        key, secret = KeyAdmin(store, pepper).made(ALL_TENANTS, Action, name=label)
        _write_private(file, secret.text).replace(file)
        return key

    if store.add_first(make):
        _log.warning(
            "callers must be known and there was no API key: one of an administrator was made; "
            "take it from the file and delete that",
            file=file,
        )


def _pepper(settings: Settings, database: Path) -> bytes:
    if given := settings.access.pepper.get_secret_value():
        return given.encode()
    file = database.with_name(database.name + ".pepper")
    if not file.exists() and not database.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        made = _write_private(file, secrets.token_urlsafe(_PEPPER_BYTES))
        with suppress(FileExistsError):  # another gateway was faster
            os.link(made, file)
        made.unlink()
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    if not text:
        raise MienError(Errors.ACCESS_UNAVAILABLE, f"The pepper of the API keys is not at {file}.")
    if file.stat().st_mode & _OTHERS:
        _log.warning("the pepper of the API keys can be read by others", file=file)
    return text.encode()


def _write_private(file: Path, text: str) -> Path:
    """Writes what only its owner can read to a new file beside the one that it is for."""
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
    with os.fdopen(handle, "w", encoding="ascii") as opened:
        opened.write(f"{text}\n")
        opened.flush()
        os.fsync(opened.fileno())
    return beside
