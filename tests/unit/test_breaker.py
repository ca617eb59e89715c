"""The circuit breaker: when it opens, when it lets calls pass again, and no clock misleads it."""

from __future__ import annotations

import asyncio
import types

import pytest

from services.breaker import Breaker, BreakerOpenError

_SECONDS = 0.2
_DAY = 86_400.0


class _Clock:
    """The time of day, as somebody sets it."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    set_by = _Clock()
    monkeypatch.setattr(
        "purgatory.domain.model.time", types.SimpleNamespace(time=lambda: set_by.now)
    )
    return set_by


async def _fails(breaker: Breaker) -> None:
    with pytest.raises(OSError, match="gone"):
        async with breaker.guard():
            raise OSError("gone")


async def _passes(breaker: Breaker) -> bool:
    try:
        async with breaker.guard():
            return True
    except BreakerOpenError:
        return False


async def test_what_has_just_failed_is_not_asked_until_its_time_is_over(clock: _Clock) -> None:
    breaker = Breaker("it", _SECONDS, [])
    assert await _passes(breaker)
    await _fails(breaker)
    assert not await _passes(breaker)
    await asyncio.sleep(_SECONDS + 0.05)
    assert await _passes(breaker)
    assert await _passes(breaker)


async def test_a_failure_on_trial_opens_it_again(clock: _Clock) -> None:
    breaker = Breaker("it", _SECONDS, [])
    await _fails(breaker)
    await asyncio.sleep(_SECONDS + 0.05)
    await _fails(breaker)
    assert not await _passes(breaker)
    await asyncio.sleep(_SECONDS + 0.05)
    assert await _passes(breaker)


async def test_a_clock_that_is_set_back_does_not_keep_it_open(clock: _Clock) -> None:
    breaker = Breaker("it", _SECONDS, [])
    await _fails(breaker)
    clock.now -= _DAY
    await asyncio.sleep(_SECONDS + 0.05)
    assert await _passes(breaker)


async def test_what_is_excluded_is_no_failure(clock: _Clock) -> None:
    breaker = Breaker("it", _SECONDS, [ValueError])
    with pytest.raises(ValueError, match="refused"):
        async with breaker.guard():
            raise ValueError("refused")
    assert await _passes(breaker)
