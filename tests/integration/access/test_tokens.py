"""Callers by tokens, signed with real keys that a real server publishes."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from services.access import tokens
from services.access.policy import Action
from services.access.principal import Principal
from services.access.tokens import TokenReader
from services.errors import Errors, MienError
from services.settings import AccessSettings, SettingsError, load_settings

ISSUER, AUDIENCE = "https://id.example", "mien"


class Issuer:
    """Signs tokens, and publishes the keys for it."""

    def __init__(self) -> None:
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.published: list[dict[str, Any]] = []
        self.fetched = 0
        self.down = False
        self.publish(first=RSAAlgorithm.to_jwk(self.rsa.public_key(), as_dict=True))
        outer = self

        class _Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.fetched += 1
                self.send_response(503 if outer.down else 200)
                self.end_headers()
                self.wfile.write(json.dumps({"keys": outer.published}).encode())

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/jwks"

    def publish(self, **keys: dict[str, Any]) -> None:
        self.published = [{**key, "kid": kid, "use": "sig"} for kid, key in keys.items()]

    def token(
        self, key: Any = None, algorithm: str = "RS256", kid: str = "first", **claims: Any
    ) -> str:
        whole = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "app-7",
            "exp": time.time() + 60,
            "tenant": "a",
            "scope": "openid mien:verify identify",
            **claims,
        }
        given = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(given, key or self.rsa, algorithm, headers={"kid": kid})


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.server.shutdown()
    made.server.server_close()


def settings(**changed: Any) -> AccessSettings:
    return AccessSettings(oidc_issuer=ISSUER, oidc_audience=AUDIENCE, **changed)


@pytest.fixture
def reader(issuer: Issuer) -> TokenReader:
    return TokenReader(settings(oidc_jwks_url=issuer.url))


async def test_a_token_says_who_asks_for_which_tenant_and_what(
    issuer: Issuer, reader: TokenReader
) -> None:
    expected = Principal("oidc:app-7", "a", frozenset({Action.VERIFY, Action.IDENTIFY}))
    assert await reader.caller(issuer.token()) == expected
    assert await reader.caller(issuer.token(scope=["mien:verify", "identify"])) == expected
    bare = await reader.caller(issuer.token(scope=None))
    assert bare is not None
    assert bare.actions == frozenset()


async def test_a_tenants_token_does_not_reach_beyond_the_tenant(
    issuer: Issuer, reader: TokenReader
) -> None:
    everything = " ".join(Action)
    own = await reader.caller(issuer.token(scope=everything))
    every = await reader.caller(issuer.token(scope=everything, tenant="*"))
    assert own is not None
    assert every is not None
    assert own.actions == set(Action) - {Action.MIGRATE, Action.ADMIN}
    assert every.actions == set(Action)


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://else.example"},
        {"aud": "another app"},
        {"exp": None},
        {"aud": None},
        {"sub": None},
        {"sub": "a\nb"},
        {"tenant": None},
        {"tenant": ["a", "b"]},
        {"tenant": "a b"},
    ],
    ids=str,
)
async def test_a_token_with_a_wrong_claim_is_not_taken(
    issuer: Issuer, reader: TokenReader, claims: dict[str, Any]
) -> None:
    assert await reader.caller(issuer.token(**claims)) is None


@pytest.mark.parametrize(("claim", "seconds"), [("exp", -300), ("nbf", 300)])
async def test_a_token_is_taken_within_its_time_alone(
    issuer: Issuer, reader: TokenReader, claim: str, seconds: float
) -> None:
    claims: dict[str, Any] = {claim: time.time() + seconds}
    assert await reader.caller(issuer.token(**claims)) is None


async def test_clocks_may_differ_a_little(issuer: Issuer, reader: TokenReader) -> None:
    assert await reader.caller(issuer.token(exp=time.time() - 10)) is not None


async def test_a_token_that_anybody_could_have_made_is_not_taken(
    issuer: Issuer, reader: TokenReader
) -> None:
    public = issuer.rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    unsigned = jwt.encode({"sub": "x"}, "", "none", headers={"kid": "first"})
    body = issuer.token().split(".")[1]
    head = jwt.utils.base64url_encode(b'{"alg":"HS256","kid":"first"}').decode()
    signing = f"{head}.{body}"
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        signing.encode(), public
    )
    forged = f"{signing}.{jwt.utils.base64url_encode(mac).decode()}"
    for token in (unsigned, forged, issuer.token(stranger), "", "a.b.c", issuer.token()[:-4]):
        assert await reader.caller(token) is None


async def test_an_algorithm_outside_the_list_is_not_taken(issuer: Issuer) -> None:
    strict = TokenReader(settings(oidc_jwks_url=issuer.url, oidc_algorithms=("ES256",)))
    assert await strict.caller(issuer.token()) is None


async def test_keys_are_fetched_once_and_again_for_a_new_one(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_COOLDOWN", 2.0)
    reader = TokenReader(settings(oidc_jwks_url=issuer.url))
    for _ in range(3):
        assert await reader.caller(issuer.token()) is not None
    assert issuer.fetched == 1
    issuer.publish(second=ECAlgorithm.to_jwk(issuer.ec.public_key(), as_dict=True))
    fresh = issuer.token(issuer.ec, "ES256", "second")
    assert await reader.caller(fresh) is None  # a stranger's token must not cause a fetch each
    assert issuer.fetched == 1
    await asyncio.sleep(2.1)
    assert await reader.caller(fresh) is not None
    assert await reader.caller(issuer.token()) is None
    assert issuer.fetched == 2


async def test_an_issuer_that_is_down_shuts_nobody_out_for_good(
    issuer: Issuer, reader: TokenReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_DOWN", 2.0)
    issuer.down = True
    for _ in range(3):
        with pytest.raises(MienError) as caught:
            await reader.caller(issuer.token())
        assert caught.value.error is Errors.ACCESS_UNAVAILABLE
    assert issuer.fetched == 1
    issuer.down = False
    await asyncio.sleep(2.1)
    assert await reader.caller(issuer.token()) is not None


@pytest.mark.parametrize("form", ["pem", "jwks"])
async def test_public_keys_may_be_in_a_file(issuer: Issuer, tmp_path: Path, form: str) -> None:
    file = tmp_path / "keys"
    public = issuer.rsa.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    file.write_bytes(pem if form == "pem" else json.dumps({"keys": issuer.published}).encode())
    reader = TokenReader(settings(oidc_keys_file=file))
    assert await reader.caller(issuer.token()) is not None
    assert issuer.fetched == 0


def test_a_file_without_keys_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    for text in ("", "{}", "no key"):
        file.write_text(text)
        with pytest.raises(SettingsError, match="OIDC_KEYS_FILE"):
            TokenReader(settings(oidc_keys_file=file))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ALGORITHMS": "HS256"}, "OIDC_ALGORITHMS"),
        ({"ALGORITHMS": "none"}, "OIDC_ALGORITHMS"),
        ({"AUDIENCE": ""}, "oidc_audience"),
        ({"JWKS_URL": ""}, "oidc_jwks_url"),
        ({"JWKS_URL": "http://id.example/keys"}, "https"),
    ],
)
def test_settings_that_would_trust_anybody_are_refused(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], said: str
) -> None:
    whole = {"ISSUER": ISSUER, "AUDIENCE": AUDIENCE, "JWKS_URL": "https://id.example/keys"}
    for name, value in (whole | changed).items():
        monkeypatch.setenv(f"MIEN_ACCESS__OIDC_{name}", value)
    with pytest.raises(SettingsError, match=said):
        load_settings()
