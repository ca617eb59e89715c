"""Lets callers in, or not: one way for REST and gRPC."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from services.access.admin import KeyAdmin
from services.access.key_ring import KeyRing
from services.access.policy import EVERYWHERE, METRICS, Action, Rule, rest_rule
from services.access.principal import ALL_TENANTS, Principal, principal
from services.access.rates import Rates
from services.access.secret import PREFIX
from services.access.tokens import TokenReader
from services.audit.caller import caller
from services.errors import Errors, MienError

_SCHEME = "bearer"

OnDenial = Callable[[str, str], Awaitable[None]]


class Guard:
    """Knows callers, and what they may do.

    Args:
        keys: callers by API key.
        rates: how many requests they may send.
        tokens: callers by token; None where no issuer is trusted.
        admin: manages the keys.
        open_metrics: the metrics are for everybody.

    Attributes:
        admin: see above.
        on_denial: told the error's code and the caller's tenant when a known caller asks for what
            is not allowed. Unknown callers, of whom there may be any number, are not told.
    """

    def __init__(
        self,
        keys: KeyRing,
        rates: Rates,
        tokens: TokenReader | None = None,
        *,
        admin: KeyAdmin,
        open_metrics: bool = True,
    ) -> None:
        self.admin = admin
        self.on_denial: OnDenial | None = None
        self._keys, self._rates, self._tokens = keys, rates, tokens
        self._open_metrics = open_metrics

    def rest_rule(self, method: str, path: str) -> Rule:
        """The rule of a REST route, as `policy.rest_rule` has it and the settings want it."""
        if (method, path) == METRICS and not self._open_metrics:
            return Rule(Action.ADMIN)
        return rest_rule(method, path)

    async def admit(
        self, rule: Rule, authorization: str | None, api_key: str | None, tenant: str | None
    ) -> None:
        """Lets a request in, and says for the rest of its task whose it is.

        Args:
            rule: of what is asked for.
            authorization: header of that name.
            api_key: header ``x-api-key``, which counts where the first is missing.
            tenant: that the request names; None if it names none.

        Raises:
            MienError: the caller is not known, may not do that, or sends too many requests.
        """
        if rule.is_open:
            return
        found = await self._known(_credential(authorization, api_key))
        # Before all that can refuse it: the audit log is to say who was refused.
        caller.set(found.who)
        await self._rates.count(found)
        try:
            _check(found, rule, tenant)
        except MienError as error:
            if self.on_denial is not None:
                own = "" if found.tenant == ALL_TENANTS else found.tenant
                await self.on_denial(error.kind.code, own)
            raise
        principal.set(found)

    async def close(self) -> None:
        """Lets keys and threads go."""
        await self._keys.close()
        if self._tokens is not None:
            await self._tokens.close()

    async def _known(self, credential: str) -> Principal:
        found = None
        if credential.startswith(PREFIX):
            found = await self._keys.caller(credential)
        elif self._tokens is not None:
            found = await self._tokens.caller(credential)
        if found is None:
            raise MienError(Errors.UNAUTHENTICATED, "The API key or token is not valid.")
        return found


def _credential(authorization: str | None, api_key: str | None) -> str:
    if authorization is not None:
        scheme, _, credential = authorization.partition(" ")
        if scheme.lower() == _SCHEME and credential.strip():
            return credential.strip()
    elif api_key:
        return api_key.strip()
    raise MienError(Errors.UNAUTHENTICATED, "An API key or a token is needed.")


def _check(found: Principal, rule: Rule, tenant: str | None) -> None:
    action = rule.action
    if action is not None and action not in found.actions:
        raise MienError(Errors.PERMISSION_DENIED, f"The caller is not allowed to {action}.")
    if action in EVERYWHERE and found.tenant != ALL_TENANTS:
        raise MienError(
            Errors.PERMISSION_DENIED, f"To {action}, the caller must be one of all tenants."
        )
    if tenant is not None and found.tenant not in (ALL_TENANTS, tenant):
        raise MienError(
            Errors.PERMISSION_DENIED, "The caller may not act for that tenant.", field="tenant"
        )
