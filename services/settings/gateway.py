"""The gateway: addresses, callers, and what it shares with others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from services.settings.base import Group, Port, Rate, SignatureAlgorithm, is_loopback, listed


class GatewaySettings(Group):
    """The gateway: REST and gRPC."""

    http_host: str = "127.0.0.1"
    http_port: Port = 8000
    grpc_host: str = "127.0.0.1"
    grpc_port: Port = 50051
    embedding_address: str | None = Field(
        None, description="host:port of the embedding service; none: run it in this process"
    )
    enhancement_address: str | None = Field(
        None,
        description="host:port of the enhancement service; none: run it in this process, or do "
        "without it where the gateway runs alone",
    )
    mapping_address: str | None = Field(
        None,
        description="host:port of the mapping service; none: run it in this process, or do without "
        "it where the gateway runs alone",
    )
    enhance: bool = Field(
        True, description="enhance faces where the enhancer's card shows that it helps"
    )
    workers: int = Field(
        0, ge=0, le=256, description="threads that decode and detect; 0: one more than CPUs"
    )
    max_in_flight: int = Field(
        0,
        ge=0,
        description="requests at work at once, a third of them all of a sudden; more get 429; "
        "0: 24 for each CPU",
    )
    sustained_in_flight: int = Field(
        0,
        ge=0,
        description="requests at work at once where one 429 follows another, so that what overload "
        "lets in is answered quickly; 0: one for each CPU; the same as max_in_flight: no such "
        "difference",
    )
    timeout_seconds: float = Field(30.0, gt=0, description="longest time for one request")
    drain_seconds: float = Field(10.0, ge=0, description="time to finish requests at shutdown")
    console: Literal["auto", "on", "off"] = Field(
        "auto",
        description="a web page at /console; auto: only where the gateway listens on this machine "
        "alone and nobody needs a key",
    )


class AccessSettings(Group):
    """Who may call the gateway."""

    required: Literal["auto", "always", "never"] = Field(
        "auto", description="auto: as soon as the gateway listens beyond this machine"
    )
    database: Path | None = Field(
        None, description="SQLite file of the API keys; none: access.sqlite3 in `home`"
    )
    pepper: SecretStr = Field(
        SecretStr(""), description="secret that keys are hashed with; none: a file beside database"
    )
    rate: Rate = Field("600/minute", description="requests that one caller may send; empty: any")
    open_metrics: bool = Field(True, description="metrics are for everybody; false: for admin keys")
    oidc_issuer: str = Field("", description="whose tokens are taken; none: API keys alone")
    oidc_audience: str = Field("", description="that the tokens must be for")
    oidc_jwks_url: str = Field("", description="where the issuer publishes its keys")
    oidc_keys_file: Path | None = Field(
        None, description="its public keys, as JWKS or PEM, in place of the URL"
    )
    oidc_algorithms: Annotated[
        tuple[SignatureAlgorithm, ...], NoDecode, BeforeValidator(listed)
    ] = Field(("RS256", "ES256"), min_length=1, description="that tokens may be signed with")
    oidc_leeway_seconds: float = Field(30.0, ge=0, le=300, description="allowed error of clocks")
    oidc_timeout_seconds: float = Field(5.0, gt=0, description="time to fetch the issuer's keys")
    oidc_tenant_claim: str = Field("tenant", description="claim with the tenant, or '*' for all")
    oidc_actions_claim: str = Field("scope", description="claim with the actions, or mien:ACTION")

    @model_validator(mode="after")
    def _whole_issuer(self) -> AccessSettings:
        if self.oidc_issuer:
            if not self.oidc_audience:
                raise ValueError("oidc_audience: name whom the tokens are for")
            if bool(self.oidc_jwks_url) == bool(self.oidc_keys_file):
                raise ValueError("give either oidc_jwks_url or oidc_keys_file")
            url = urlsplit(self.oidc_jwks_url)
            if url.scheme != "https" and self.oidc_jwks_url and not is_loopback(url.hostname or ""):
                raise ValueError("oidc_jwks_url: keys are fetched over https alone")
        return self


class TlsSettings(Group):
    """Certificates, as PEM files; they are read again when they change.

    With `ca`, `cert` and `key` the services that Mien consists of prove themselves to each other.
    """

    ca: Path | None = Field(None, description="authority that all services' certificates are of")
    cert: Path | None = Field(None, description="certificate of this service, as server and client")
    key: Path | None = Field(None, description="its private key")
    server_name: str = Field(
        "", description="name in the other services' certificates; none: the host of their address"
    )
    peers: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        (),
        description="DNS names or URIs, as spiffe://..., in the certificates of those whom a model "
        "service answers; none: whoever has one of the authority",
    )
    gateway_cert: Path | None = Field(
        None, description="certificate that the gateway shows its callers, on REST and gRPC"
    )
    gateway_key: Path | None = Field(None, description="its private key")

    @model_validator(mode="after")
    def _whole(self) -> TlsSettings:
        if len({one is None for one in (self.ca, self.cert, self.key)}) > 1:
            raise ValueError("name all of ca, cert and key, or none of them")
        if self.peers and self.ca is None:
            raise ValueError("peers are known by certificates: name ca, cert and key too")
        if (self.gateway_cert is None) != (self.gateway_key is None):
            raise ValueError("name both of gateway_cert and gateway_key, or neither")
        return self


class RedisSettings(Group):
    """What several gateways share; see docs/redis.md."""

    url: SecretStr = Field(
        SecretStr(""),
        description="redis://, rediss:// (TLS) or unix://, with user and password if it asks for "
        "them; none: each gateway keeps its own",
    )
    timeout_seconds: float = Field(
        0.1, gt=0, le=10, description="longest wait for an answer; then Mien does without"
    )
    retry_seconds: float = Field(
        1.0, gt=0, description="how long Mien does without before it asks again"
    )

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: SecretStr) -> SecretStr:
        given = url.get_secret_value()
        if given and not given.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("it begins with redis://, rediss:// or unix://")
        return url


class CacheSettings(Group):
    """What was seen in pictures, kept for a while. A vector is a face: off by default."""

    seconds: float = Field(
        0.0, ge=0, le=7 * 24 * 3600, description="how long the faces of a picture are kept; 0: off"
    )
    entries: int = Field(
        10_000, ge=1, description="most pictures that a gateway keeps by itself, without Redis"
    )


class TracingSettings(Group):
    """OpenTelemetry traces."""

    endpoint: str | None = Field(
        None, description="OTLP over gRPC, e.g. http://collector:4317; none: no traces"
    )
    ratio: float = Field(
        1.0, ge=0, le=1, description="share of requests traced, where the caller decides nothing"
    )
