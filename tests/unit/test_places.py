"""Places for requests at work, in bunches and under overload."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack

import pytest

from services.gateway.places import Places


class _Crowd:
    """Requests that come and go, on a clock of their own."""

    def __init__(self, most: int, sustained: int = 3) -> None:
        self.now = 100.0
        self.places = Places(most, sustained, lambda: self.now)
        self._at_work: deque[ExitStack] = deque()

    def come(self, count: int) -> int:
        """How many of them find a place."""
        return sum(self._comes() for _ in range(count))

    def go(self, count: int | None = None) -> None:
        """So many are answered, or all."""
        for _ in range(len(self._at_work) if count is None else count):
            self._at_work.popleft().close()

    def _comes(self) -> bool:
        if self.places.are_full():
            return False
        place = ExitStack()
        place.enter_context(self.places.request())
        self._at_work.append(place)
        return True


def _overloaded(most: int, sustained: int = 3) -> _Crowd:
    crowd = _Crowd(most, sustained)
    crowd.come(most + 4)
    crowd.go()
    return crowd


def test_a_sudden_bunch_takes_a_share_of_the_places() -> None:
    assert _Crowd(21).come(21) == 7


def test_a_few_refusals_are_no_overload() -> None:
    crowd = _Crowd(30)
    for _ in range(20):
        assert crowd.come(13) == 10
        crowd.go()
        crowd.now += 0.2


def test_a_bunch_that_is_worked_off_may_grow() -> None:
    crowd = _Crowd(40)
    assert crowd.come(5) == 5
    for _ in range(30):  # four come while three are answered
        crowd.go(3)
        assert crowd.come(4) == 4


def test_a_bunch_never_takes_more_than_all_places() -> None:
    crowd = _Crowd(40)
    came = crowd.come(5)
    for _ in range(100):
        crowd.go(3)
        if crowd.come(4) < 4:
            break
        came += 1
    assert 35 <= came <= 40


def test_two_for_each_answer_are_overload() -> None:
    crowd = _Crowd(100)
    crowd.come(5)
    for _ in range(60):
        crowd.go(1)
        if crowd.come(2) < 2:
            break
    assert crowd.come(1) == 0


def test_a_bunch_that_is_over_counts_for_nothing() -> None:
    crowd = _Crowd(40)
    for _ in range(50):
        crowd.come(8)
        crowd.go()
    assert crowd.come(40) == 13


def test_under_overload_few_are_at_work() -> None:
    crowd = _overloaded(10)
    for _ in range(20):  # two seconds in which they come too fast
        crowd.now += 0.1
        assert crowd.come(5) == 3
        crowd.go()


def test_calm_ends_overload() -> None:
    crowd = _overloaded(21)
    crowd.now += 0.3
    assert crowd.come(7) == 7


@pytest.mark.parametrize(
    ("come", "over"),
    [
        ((1, 1, 1, 4), True),  # 35 in a second, of 40 that could be answered
        ((1, 3, 1, 4), False),  # 45
        ((4, 4, 4, 4), False),  # 80
    ],
)
def test_overload_ends_when_fewer_come_than_could_be_answered(
    come: tuple[int, ...], over: bool
) -> None:
    crowd = _overloaded(48, sustained=2)
    for _ in range(25):  # five seconds; somebody is refused in each fifth of one
        for count in come:
            crowd.come(count)
            crowd.now += 0.05
            crowd.go()
    assert (crowd.come(16) > 2) is over


@pytest.mark.parametrize("pace", [5, 20, 60, 200])
def test_overload_is_seen_and_ends_at_any_pace(pace: int) -> None:
    crowd = _Crowd(48, sustained=2)
    crowd.come(2)
    found = 0
    for _ in range(10 * pace):  # two come for each that is answered
        crowd.now += 1 / pace
        crowd.go(1)
        found = crowd.come(2)
    assert found == 1
    assert crowd.come(1) == 0
    crowd.go()
    crowd.now += 20 / pace  # nobody comes in the time of twenty answers
    assert crowd.come(10) == 10


@pytest.mark.parametrize(("pace", "found"), [(8, 10), (56, 14), (200, 16)])
def test_a_bunch_is_as_large_as_can_soon_be_answered(pace: int, found: int) -> None:
    crowd = _Crowd(48, sustained=2)
    for _ in range(200):  # one after the other, without overload
        crowd.come(2)
        crowd.now += 2 / pace
        crowd.go()
    assert crowd.come(48) == found


def test_streams_take_places_but_are_no_overload() -> None:
    crowd = _Crowd(10)
    with ExitStack() as streams:
        for _ in range(8):
            streams.enter_context(crowd.places.stream())
        assert crowd.come(3) == 2
    crowd.go()
    with ExitStack() as streams:
        for _ in range(5):
            streams.enter_context(crowd.places.stream())
        assert crowd.come(4) == 3  # five streams are more than three, and still three come in


def test_a_plain_limit() -> None:
    for most, sustained in ((1, 3), (8, 8)):
        crowd = _Crowd(most, sustained)
        for _ in range(2):
            assert crowd.come(most + 1) == most
            crowd.go()
