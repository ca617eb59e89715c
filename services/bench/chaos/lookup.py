"""Whether what was acknowledged is there: each template by its id, and each found by a search."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import httpx

from services.bench.chaos.callers import Callers
from services.bench.chaos.journal import GOOD, Enrolled

_AT_ONCE = 64  # vectors in one search
_TRIES = 40
_PAUSE = 0.5


async def lost(callers: Callers, enrolled: Sequence[Enrolled]) -> int:
    """How many acknowledged enrolments are not found; the others are marked.

    Args:
        callers: whose they are.
        enrolled: acknowledged.
    """
    missing = 0
    vectors = [(one, one.vector) for one in enrolled if one.vector is not None]
    pictured: dict[str, list[Enrolled]] = {}
    for one in enrolled:
        if one.vector is None:
            pictured.setdefault(one.subject, []).append(one)
    for subject, given in pictured.items():
        held = await _held(callers, subject)
        missing += sum(one.template not in held for one in given)
        vectors += [(one, held[one.template]) for one in given if one.template in held]
    for start in range(0, len(vectors), _AT_ONCE):
        some = vectors[start : start + _AT_ONCE]
        body = {"vectors": [vector for _, vector in some], "limit": 1}
        answer = await _asked(callers, "POST", "/v1/identify", body)
        for (one, _), found in zip(some, answer["vectors"], strict=True):
            best = found["candidates"][:1]
            one.found = bool(best) and _is_it(one, best[0])
            missing += not one.found
    return missing


async def doubled(callers: Callers, enrolled: Iterable[Enrolled]) -> int:
    """How many templates there are beside the one that each enrolment was acknowledged with."""
    known: dict[str, set[str]] = {}
    for one in enrolled:
        known.setdefault(one.subject, set()).add(one.template)
    more = 0
    for subject, templates in known.items():
        answer = await _asked(callers, "GET", f"/v1/subjects/{subject}")
        live = {one["id"] for one in answer["templates"] if one["live"]}
        more += len(live - templates)
    return more


def _is_it(one: Enrolled, best: dict[str, Any]) -> bool:
    """Whether a search found an enrolment: a picture that was enrolled twice gives equal ones."""
    own_template = one.vector is None or best["template_id"] == one.template
    return bool(best["subject_id"] == one.subject and own_template)


async def _held(callers: Callers, subject: str) -> dict[str, dict[str, Any]]:
    """The live templates of a subject by id, as vectors to search with."""
    answer = await _asked(callers, "GET", f"/v1/subjects/{subject}/export?vectors=true")
    return {
        one["id"]: {
            "model": {name: value for name, value in one["model"].items() if name != "map"},
            "values": one["vector"],
        }
        for one in answer["templates"]
        if one["live"]
    }


async def _asked(
    callers: Callers, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    """An answer; a Mien that is busy is asked again.

    Raises:
        RuntimeError: there is none.
    """
    for _ in range(_TRIES):
        try:
            answer = await callers.client.request(method, path, json=body)
        except httpx.TransportError:
            await asyncio.sleep(_PAUSE)
            continue
        if answer.status_code in GOOD:
            told: dict[str, Any] = answer.json()
            return told
        if answer.status_code == httpx.codes.NOT_FOUND:
            return {"templates": [], "vectors": []}
        await asyncio.sleep(_PAUSE)
    raise RuntimeError(f"{method} {path} is not answered")
