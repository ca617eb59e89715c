"""Callers by the signed tokens (JWT) of one issuer, as OpenID Connect has them."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWK, PyJWKClient, PyJWKSet
from jwt.exceptions import PyJWKClientConnectionError, PyJWTError

from services.access.policy import EVERYWHERE, Action
from services.access.principal import ALL_TENANTS, Principal
from services.errors import Errors, MienError
from services.gallery.checks import checked_tenant
from services.settings import AccessSettings, SettingsError
from services.telemetry import get_logger

_log = get_logger(__name__)
_LIFESPAN = 300.0  # seconds that fetched keys are kept
_COOLDOWN = 10.0  # seconds between two fetches for a key that is not there
_DOWN = 2.0  # seconds before an issuer that did not answer is asked again
_SUBJECT = re.compile(r"[\x21-\x7e]{1,255}")
_ACTION_PREFIX = "mien:"
_WHO_PREFIX = "oidc:"  # no subject is taken for a key of the same name
_WORDS = {one.value: one for one in Action}


class KeySource(Protocol):
    """Where the issuer's public keys come from."""

    def key(self, token: str) -> Any:
        """The key that a token says it was signed with.

        Raises:
            PyJWTError: there is none.
        """
        ...


class TokenReader:
    """Checks tokens.

    Args:
        settings: issuer, audience, keys and claims.

    Raises:
        SettingsError: the file of public keys cannot be used.
    """

    def __init__(self, settings: AccessSettings) -> None:
        self._settings = settings
        self._source: KeySource
        if settings.oidc_keys_file is not None:
            self._source = _File(settings.oidc_keys_file)
        else:
            self._source = _Published(settings.oidc_jwks_url, settings.oidc_timeout_seconds)
        # Fetching blocks: an issuer that is slow must not hold other work up.
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="tokens")

    async def caller(self, token: str) -> Principal | None:
        """The caller that a token is of; None if it is not valid.

        Raises:
            MienError: the issuer's keys cannot be fetched.
        """
        loop = asyncio.get_running_loop()
        try:
            claims = await loop.run_in_executor(self._pool, self._claims, token)
        except PyJWKClientConnectionError as error:
            _log.warning("the issuer's keys cannot be fetched", setting="MIEN_ACCESS__OIDC_...")
            raise MienError(
                Errors.ACCESS_UNAVAILABLE, "The token cannot be checked now.", retry_after=_DOWN
            ) from error
        except (PyJWTError, ValueError):  # the second is what some keys make of broken signatures
            return None
        return self._principal(claims)

    async def close(self) -> None:
        """Frees the threads."""
        await asyncio.to_thread(self._pool.shutdown)

    def _claims(self, token: str) -> Mapping[str, Any]:
        claims: Mapping[str, Any] = jwt.decode(
            token,
            self._source.key(token),
            algorithms=list(self._settings.oidc_algorithms),
            audience=self._settings.oidc_audience,
            issuer=self._settings.oidc_issuer,
            leeway=self._settings.oidc_leeway_seconds,
            options={"require": ["exp", "sub"]},
        )
        return claims

    def _principal(self, claims: Mapping[str, Any]) -> Principal | None:
        subject, tenant = claims["sub"], claims.get(self._settings.oidc_tenant_claim)
        if not _SUBJECT.fullmatch(str(subject)) or not isinstance(tenant, str):
            return None
        if tenant != ALL_TENANTS:
            try:
                checked_tenant(tenant)
            except MienError:
                return None
        allowed = _actions(claims.get(self._settings.oidc_actions_claim))
        # A tenant's own issuer of roles cannot give what reaches into other tenants.
        if tenant != ALL_TENANTS:
            allowed -= EVERYWHERE
        return Principal(f"{_WHO_PREFIX}{subject}", tenant, allowed)


class _File:
    """Public keys in a file: a JWKS, or one key as PEM."""

    def __init__(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8")
            if text.lstrip().startswith("{"):
                self._keys: list[PyJWK] = PyJWKSet.from_dict(json.loads(text)).keys
                self._only: Any = self._keys[0].key if len(self._keys) == 1 else None
            else:
                self._keys, self._only = [], load_pem_public_key(text.encode())
        except (OSError, ValueError, PyJWTError) as error:
            raise SettingsError(
                f"MIEN_ACCESS__OIDC_KEYS_FILE: {path} holds no public keys, as JWKS or PEM"
            ) from error

    def key(self, token: str) -> Any:
        kid = jwt.get_unverified_header(token).get("kid")
        found = next((one.key for one in self._keys if one.key_id == kid), self._only)
        if found is None:
            raise jwt.InvalidKeyError
        return found


class _Published(PyJWKClient):
    """Public keys at a URL, fetched again when a token names one that is not among them."""

    def __init__(self, url: str, timeout: float) -> None:
        super().__init__(url, lifespan=_LIFESPAN, timeout=timeout, cooldown_duration=_COOLDOWN)
        self._down_until = 0.0

    def key(self, token: str) -> Any:
        return self.get_signing_key_from_jwt(token).key

    def fetch_data(self) -> Any:
        """As its base class does, but an issuer that is down is not asked for every token."""
        if time.monotonic() < self._down_until:
            raise PyJWKClientConnectionError("it did not answer a moment ago")
        try:
            return super().fetch_data()
        except PyJWKClientConnectionError:
            self._down_until = time.monotonic() + _DOWN
            raise


def _actions(claim: object) -> frozenset[Action]:
    """Actions of a claim: words with spaces between them, or a list; words of others are left."""
    words = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    named = (str(word).removeprefix(_ACTION_PREFIX) for word in words)
    return frozenset(_WORDS[word] for word in named if word in _WORDS)
