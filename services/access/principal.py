"""Who was let in: set by the guard, read wherever the tenant of a request matters."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from services.access.policy import Action

ALL_TENANTS = "*"
"""Tenant of a caller that may name any."""


@dataclass(frozen=True)
class Principal:
    """A caller that is known.

    Attributes:
        who: id of the key, or "oidc:" and the subject of the token; never a secret.
        tenant: whose people it may see; "*" for any that it names.
        actions: what it may do.
        rate: requests that it may send, like "600/minute"; None for the usual.
    """

    who: str
    tenant: str
    actions: frozenset[Action]
    rate: str | None = None


principal: ContextVar[Principal | None] = ContextVar("principal", default=None)
"""The caller of the request at work; None where access is not checked."""


def bound_tenant(named: str | None, usual: str) -> str:
    """The tenant that a request is for.

    The guard has refused a tenant that is not the caller's.

    Args:
        named: by the request; None if it names none.
        usual: where neither the request nor the caller says.
    """
    caller = principal.get()
    if named is None and caller is not None and caller.tenant != ALL_TENANTS:
        return caller.tenant
    return usual if named is None else named
