"""API keys: their form, what is kept of them, and when they are taken."""

from __future__ import annotations

import asyncio
import hmac
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.access import keys
from services.access.database import KeyDatabase
from services.access.key_ring import FRESH_SECONDS, KeyRing
from services.access.keys import Key, checked_actions, matches, new_key, span
from services.access.opening import open_keys
from services.access.policy import Action
from services.access.principal import Principal
from services.access.secret import Secret, digest, new_key_id, new_secret, parsed
from services.errors import MienError
from services.settings import Settings

PEPPER = b"pepper"
NOW = datetime.now(UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[KeyDatabase]:
    made = KeyDatabase(path)
    yield made
    made.close()


def made_key(**changed: Any) -> tuple[Key, Secret]:
    key = new_key(new_key_id(), "a", [Action.VERIFY])
    secret = new_secret(key.id)
    return replace(key, digest=digest(PEPPER, secret), **changed), secret


def test_a_secret_has_a_prefix_its_keys_id_and_43_characters() -> None:
    secret = new_secret(new_key_id())
    mien, key_id, rest = secret.text.split("_", 2)
    assert (mien, key_id, len(rest)) == ("mien", secret.key_id, 43)
    assert parsed(secret.text) == secret
    assert new_secret(secret.key_id).text != secret.text


@pytest.mark.parametrize("place", [5, 16, 18, 40])
def test_a_mistyped_secret_is_none(place: int) -> None:
    text = new_secret("0123456789ab").text
    wrong = "0" if text[place] != "0" else "1"
    assert parsed(f"{text[:place]}{wrong}{text[place + 1 :]}") is None


@pytest.mark.parametrize("text", ["", "mien_", "mien_0123456789ab_", "mien_x_" + "A" * 43])
def test_what_has_not_the_form_of_a_secret_is_none(text: str) -> None:
    assert parsed(text) is None


def test_neither_a_secret_nor_its_digest_is_printed() -> None:
    key, secret = made_key()
    assert secret.text not in repr(secret)
    assert str(key.digest) not in repr(key)


def test_a_digest_is_of_no_use_without_the_pepper() -> None:
    secret = new_secret(new_key_id())
    assert digest(PEPPER, secret) != digest(b"other", secret)


def test_a_key_is_taken_with_its_own_secret_alone() -> None:
    key, secret = made_key()
    assert matches(key, digest(PEPPER, secret), NOW)
    assert not matches(key, digest(PEPPER, new_secret(key.id)), NOW)
    assert not matches(None, digest(PEPPER, secret), NOW)


def test_a_key_that_has_ended_is_not_taken() -> None:
    key, secret = made_key(expires=NOW)
    given = digest(PEPPER, secret)
    assert not matches(key, given, NOW)
    assert matches(key, given, NOW - timedelta(seconds=1))
    assert not matches(replace(key, expires=None, revoked=NOW), given, NOW)


def test_an_unknown_key_is_compared_as_often_as_a_known_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[tuple[int, int]] = []

    def counting(left: bytes, right: bytes) -> bool:
        compared.append((len(left), len(right)))
        return hmac.compare_digest(left, right)

    class _Hmac:
        compare_digest = staticmethod(counting)

    monkeypatch.setattr(keys, "hmac", _Hmac)
    key, secret = made_key()
    seen = []
    for one in (key, None, replace(key, revoked=NOW), replace(key, old_digest=key.digest)):
        matches(one, digest(PEPPER, secret), NOW)
        seen.append(list(compared))
        compared.clear()
    assert seen == [[(32, 32), (32, 32)]] * 4


def test_a_rotated_key_takes_both_secrets_for_the_grace_time(store: KeyDatabase) -> None:
    key, old = made_key()
    store.add(key)
    new = new_secret(key.id)
    turned = store.rotate(key.id, digest(PEPPER, new), timedelta(hours=1))
    now = datetime.now(UTC)
    for secret in (old, new):
        assert matches(turned, digest(PEPPER, secret), now)
    later = now + timedelta(hours=2)
    assert not matches(turned, digest(PEPPER, old), later)
    assert matches(turned, digest(PEPPER, new), later)
    newest = new_secret(key.id)
    again = store.rotate(key.id, digest(PEPPER, newest), timedelta(hours=1))
    assert not matches(again, digest(PEPPER, old), now)


def test_a_key_that_has_ended_is_not_rotated(store: KeyDatabase) -> None:
    key, _ = made_key(expires=NOW - timedelta(days=1))
    store.add(key)
    with pytest.raises(MienError, match="has ended"):
        store.rotate(key.id, bytes(32), timedelta())
    with pytest.raises(MienError, match="no such key"):
        store.revoke("0" * 12)


@pytest.mark.parametrize("action", [Action.MIGRATE, Action.ADMIN])
def test_a_tenants_key_does_not_reach_beyond_the_tenant(action: Action) -> None:
    with pytest.raises(MienError, match="every tenant"):
        new_key("0123456789ab", "a", [Action.VERIFY, action])
    assert new_key("0123456789ab", "*", [action]).actions == {action}


def test_what_is_no_key_is_refused() -> None:
    wrong: list[dict[str, Any]] = [{"rate": "often"}, {"rate": "0/minute"}, {"name": "x" * 101}]
    for fields in (*wrong, {"name": "a\n"}):
        with pytest.raises(MienError):
            new_key("0123456789ab", "a", [Action.VERIFY], **fields)
    for tenant in ("", "a b", "**"):
        with pytest.raises(MienError):
            new_key("0123456789ab", tenant, [Action.VERIFY])
    with pytest.raises(MienError):
        new_key("0123456789ab", "a", [])
    with pytest.raises(MienError, match="verify, identify"):
        checked_actions(["verify", "everything"])
    for text in ("", "90", "d", "-1d", "1w"):
        with pytest.raises(MienError):
            span(text, "expires")
    assert span("90d", "expires") == timedelta(days=90)


def test_a_key_is_stored_without_its_secret(store: KeyDatabase, path: Path) -> None:
    key, secret = made_key()
    store.add(key)
    assert store.all() == [key]
    random = secret.text.split("_", 2)[2].encode()  # it may hold a "_" itself
    for file in path.parent.iterdir():
        assert random not in file.read_bytes(), file
    assert path.stat().st_mode & 0o077 == 0


def test_keys_are_read_again_only_when_they_have_changed(store: KeyDatabase, path: Path) -> None:
    assert store.keys() == {}
    assert store.keys() is None
    other = KeyDatabase(path)
    key, _ = made_key()
    other.add(key)
    assert store.keys() == {key.id: key}
    assert store.keys() is None
    store.touch(key.id, NOW)
    assert store.keys() == {key.id: replace(key, last_used=NOW)}
    other.close()


def test_a_file_that_is_no_database_is_an_error_and_not_an_open_door(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(MienError, match="API keys"):
        KeyDatabase(path)


async def test_a_revoked_key_is_refused_at_once_and_a_new_one_taken(path: Path) -> None:
    ring, writer = KeyRing(KeyDatabase(path), PEPPER), KeyDatabase(path)
    (key, secret), (second, other) = made_key(), made_key()
    writer.add(key)
    assert await ring.caller(secret.text) == Principal(key.id, "a", frozenset({Action.VERIFY}))
    assert await ring.caller(other.text) is None
    writer.revoke(key.id)
    writer.add(second)
    await asyncio.sleep(FRESH_SECONDS + 0.05)
    assert await ring.caller(secret.text) is None
    assert await ring.caller(other.text) is not None
    await ring.close()
    writer.close()


async def test_the_last_use_is_noted_once_a_minute(path: Path) -> None:
    store = KeyDatabase(path)
    key, secret = made_key()
    store.add(key)
    ring = KeyRing(KeyDatabase(path), PEPPER)
    for _ in range(3):
        await ring.caller(secret.text)
    await ring.close()
    (used,) = store.all()
    assert used.last_used is not None
    assert timedelta() <= datetime.now(UTC) - used.last_used < timedelta(minutes=1)
    ring = KeyRing(KeyDatabase(path), PEPPER)
    await ring.caller(secret.text)
    await ring.close()
    assert store.all() == [used]
    store.close()


def test_keys_without_their_pepper_are_an_error(path: Path) -> None:
    settings = Settings.model_validate({"access": {"database": path}})
    store, pepper = open_keys(settings)
    store.close()
    file = path.with_name("access.sqlite3.pepper")
    assert file.stat().st_mode & 0o077 == 0
    assert open_keys(settings)[1] == pepper
    file.unlink()
    with pytest.raises(MienError, match="pepper"):
        open_keys(settings)
    given = Settings.model_validate({"access": {"database": path, "pepper": "of mine"}})
    assert open_keys(given)[1] == b"of mine"


def test_a_newer_database_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(MienError, match="newer Mien"):
        KeyDatabase(path)
