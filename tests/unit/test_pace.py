"""How many requests can be answered in a second."""

from __future__ import annotations

import pytest

from services.gateway.pace import Pace


def test_idle_time_does_not_count() -> None:
    pace, now = Pace(hands=2, now=0.0), 0.0
    for _ in range(100):
        now += 5.0
        pace.passes(now, 0)
        for _ in range(2):
            now += 0.05
            pace.passes(now, 2)
            pace.answers()
    assert pace.per_second == pytest.approx(20, rel=0.01)


def test_a_lone_request_keeps_a_part_of_the_machine_busy() -> None:
    pace, now = Pace(hands=2, now=0.0), 0.0
    for _ in range(200):
        now += 0.06
        pace.passes(now, 1)
        pace.answers()
    assert pace.per_second == pytest.approx(1 / (0.06 * 2 / 3), rel=0.01)


def test_the_newest_answers_count_most() -> None:
    pace, now = Pace(hands=1, now=0.0), 0.0
    for seconds in (0.01, 0.1):
        for _ in range(150):
            now += seconds
            pace.passes(now, 1)
            pace.answers()
    assert pace.per_second == pytest.approx(10, rel=0.05)


def test_answers_in_no_time_are_no_fault() -> None:
    pace = Pace(hands=2, now=1.0)
    assert pace.per_second == pytest.approx(60)
    for _ in range(1000):
        pace.answers()
    assert pace.per_second == 2000
    pace.passes(1e6, 2)
    assert pace.per_second == 2
