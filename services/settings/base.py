"""What all groups of settings are made of."""

from __future__ import annotations

import ipaddress
import json
from typing import Annotated, Literal

from limits import parse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def listed(value: object) -> object:
    """Splits a variable at its commas; JSON is taken too."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()]


def _rate(value: str) -> str:
    """A rate that can be read and lets somebody in; empty for no limit."""
    if value and parse(value).amount < 1:
        raise ValueError("a rate is like 600/minute")
    return value


Port = Annotated[int, Field(ge=0, le=65535)]
Rate = Annotated[str, AfterValidator(_rate)]
# Of public keys alone: a token that is "signed" with a secret or not at all is never taken.
SignatureAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


class SettingsError(Exception):
    """The settings are not valid; the message names each one at fault."""


class Group(BaseModel):
    """Some settings that belong together."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host that is listened on or called."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
