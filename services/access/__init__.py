"""Access: who may do what, with API keys or tokens, on REST and gRPC alike."""

from services.access.guard import Guard
from services.access.opening import access_is_required, open_admin, open_guard
from services.access.policy import Action, Rule, rest_rule, rpc_rule
from services.access.principal import Principal, bound_tenant

__all__ = [
    "Action",
    "Guard",
    "Principal",
    "Rule",
    "access_is_required",
    "bound_tenant",
    "open_admin",
    "open_guard",
    "rest_rule",
    "rpc_rule",
]
