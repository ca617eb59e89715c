"""API keys: what is known of each, and what a store of them does."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from limits import parse

from services.access.policy import EVERYWHERE, Action
from services.access.principal import ALL_TENANTS, Principal
from services.errors import Errors, MienError
from services.gallery.checks import checked_tenant

_MAX_NAME = 100
_NOBODY = bytes(32)  # of no secret: what is compared in place of a digest that is not there
_SPAN = re.compile(r"(\d{1,6})([smhd])")
_LONGEST = timedelta(days=999_999)
USUAL_GRACE = "24h"
"""How long the secret before a rotation is taken, where nobody says."""
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class Key:
    """An API key, without its secret. Times are in UTC.

    Attributes:
        id: part of the secret, and of what logs say.
        tenant: that it is bound to; "*" for all.
        actions: that it allows.
        name: what its owner calls it.
        rate: requests that it may send, like "600/minute"; None for the usual.
        created: when.
        expires: when it ends; None for never.
        revoked: when it was ended; None if it was not.
        last_used: when, to the minute; None for never.
        digest: of its secret.
        old_digest: of the secret before the last rotation.
        old_until: until when that one is taken.
    """

    id: str
    tenant: str
    actions: frozenset[Action]
    name: str
    rate: str | None
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None
    last_used: datetime | None = None
    digest: bytes = field(default=_NOBODY, repr=False)
    old_digest: bytes | None = field(default=None, repr=False)
    old_until: datetime | None = None

    def is_active(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    def principal(self) -> Principal:
        """The caller that holds it."""
        return Principal(self.id, self.tenant, self.actions, self.rate)


class KeyStore(Protocol):
    """Where keys are read from, by any number of gateways. Its methods block."""

    def keys(self) -> Mapping[str, Key] | None:
        """All keys by id; None if nothing has changed since the last call.

        Raises:
            MienError: the store cannot be read.
        """
        ...

    def touch(self, key_id: str, when: datetime) -> None:
        """Notes that a key was used.

        Raises:
            MienError: the store cannot be written.
        """
        ...

    def close(self) -> None:
        """Lets the store go."""
        ...


def matches(key: Key | None, given: bytes, now: datetime) -> bool:
    """Whether a digest is of a key's secret, in the same time whether or not there is such a key.

    Args:
        key: that the secret names; None if there is none.
        given: digest of the secret that was sent.
        now: for what ends by itself.
    """
    held = _NOBODY if key is None else key.digest
    old = _NOBODY if key is None or key.old_digest is None else key.old_digest
    is_new = hmac.compare_digest(held, given)
    is_old = hmac.compare_digest(old, given)
    if key is None or not key.is_active(now):
        return False
    return is_new or (is_old and key.old_until is not None and now < key.old_until)


def new_key(
    key_id: str,
    tenant: str,
    actions: Iterable[Action],
    *,
    name: str = "",
    rate: str | None = None,
    lasting: timedelta | None = None,
) -> Key:
    """A key that may be stored.

    Raises:
        MienError: a field is not valid, or a tenant's key is to reach beyond the tenant.
    """
    allowed = frozenset(actions)
    if not allowed:
        raise _invalid("allow", "Name at least one action.")
    if tenant != ALL_TENANTS:
        checked_tenant(tenant)
        if beyond := sorted(allowed & EVERYWHERE):
            raise _invalid("allow", f"{beyond[0]} reaches into every tenant: give it to '*' alone.")
    if len(name) > _MAX_NAME or not name.isprintable():
        raise _invalid("name", f"A label is at most {_MAX_NAME} printable characters.")
    if rate is not None:
        checked_rate(rate)
    now = datetime.now(UTC)
    expires = None if lasting is None else now + lasting
    return Key(key_id, tenant, allowed, name, rate, now, expires)


def state(key: Key) -> str:
    """Whether a key is "active", "expired" or "revoked" now."""
    if key.revoked is not None:
        return "revoked"
    return "active" if key.is_active(datetime.now(UTC)) else "expired"


def key_facts(key: Key) -> dict[str, Any]:
    """What may be shown of a key, for JSON: all but its digests."""
    times = {"created": key.created, "expires": key.expires, "revoked": key.revoked}
    times |= {"last_used": key.last_used, "old_secret_until": key.old_until}
    return {
        "id": key.id,
        "tenant": key.tenant,
        "allow": sorted(key.actions),
        "name": key.name,
        "rate": key.rate,
        "state": state(key),
        **{name: None if when is None else when.isoformat() for name, when in times.items()},
    }


def checked_actions(words: Iterable[str]) -> frozenset[Action]:
    """Actions by their names.

    Raises:
        MienError: one is not known.
    """
    known = {one.value: one for one in Action}
    given = [word.strip() for word in words if word.strip()]
    for word in given:
        if word not in known:
            raise _invalid("allow", f"The actions are {', '.join(known)}.")
    return frozenset(known[word] for word in given)


def checked_rate(rate: str) -> str:
    """A rate like "600/minute" or "10/second".

    Raises:
        MienError: it is none.
    """
    try:
        amount = parse(rate).amount
    except ValueError:
        amount = 0
    if amount < 1:
        raise _invalid("rate", "A rate is like 600/minute.")
    return rate


def span(text: str, field_name: str) -> timedelta:
    """A length of time: "90d", "24h", "15m" or "30s".

    Raises:
        MienError: it is none.
    """
    form = _SPAN.fullmatch(text)
    if form is None:
        raise _invalid(field_name, "A length of time is like 90d, 24h, 15m or 30s.")
    number, unit = form.groups()
    return timedelta(**{_UNITS[unit]: int(number)})


def seconds_span(seconds: float, field_name: str) -> timedelta:
    """A length of time in seconds.

    Raises:
        MienError: it is negative, or longer than `span` can say.
    """
    if not 0 <= seconds <= _LONGEST.total_seconds():
        raise _invalid(field_name, f"A length of time is 0 to {_LONGEST.days} days, in seconds.")
    return timedelta(seconds=seconds)


def _invalid(field_name: str, detail: str) -> MienError:
    return MienError(Errors.INVALID_REQUEST, detail, field=field_name)
