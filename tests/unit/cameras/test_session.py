"""What a caller is told, and what is kept for how long."""

from __future__ import annotations

import asyncio
import time

import pytest

from services.cameras.keeping import Keeping
from services.cameras.messages import Message, Refusal, Report
from services.cameras.session import Session
from services.cameras.track import Track
from services.errors import Errors, MienError
from tests.unit.cameras.people import face, of


def report(number: int) -> Report:
    return Report(of(number), 0, 0, 0, {})


async def all_of(session: Session) -> list[Message]:
    return [one async for one in session.messages()]


async def test_a_stream_ends_when_all_that_was_sent_is_done() -> None:
    session = Session("t")
    session.begin_work()
    session.end()
    listening = asyncio.create_task(all_of(session))
    await asyncio.sleep(0.01)
    assert not listening.done()
    session.send(report(1))
    session.end_work()
    assert [one.of.frame_id for one in await listening] == ["1"]


async def test_a_failure_ends_a_stream_at_once() -> None:
    session = Session("t")
    session.begin_work()
    listening = asyncio.create_task(all_of(session))
    session.fail(MienError(Errors.CAMERA_TAKEN_OVER, "Gone."))
    session.fail(MienError(Errors.INTERNAL, "Later."))
    with pytest.raises(MienError) as caught:
        await listening
    assert caught.value.error is Errors.CAMERA_TAKEN_OVER


async def test_who_does_not_listen_loses_reports_first_and_then_the_stream() -> None:
    session = Session("t")
    for number in range(1000):
        session.send(report(number))
    failed_by_reports = session.failed
    assert not failed_by_reports
    refusal = Refusal(of(0), MienError(Errors.IMAGE_EMPTY, "Empty."))
    for _ in range(10_000):
        session.send(refusal)
    assert session.failed
    with pytest.raises(MienError) as caught:
        await all_of(session)
    assert caught.value.error is Errors.OVERLOADED


def departed(seconds: float) -> Track:
    track = Track("t", "c", of(0), 0.0, 0.0, 0.0, face(1).box, (0.5, 0.5), 0.1)
    track.kept_until = time.monotonic() + seconds
    return track


def test_a_track_that_has_left_is_kept_for_its_time_only() -> None:
    keeping = Keeping()
    soon, later, never = departed(0.05), departed(60.0), departed(0.0)
    for track in (soon, later, never):
        keeping.keep_track(track)
    assert keeping.departed() == [soon, later]
    time.sleep(0.06)
    assert keeping.departed() == [later]
    keeping.sweep()
    assert list(keeping._departed) == [later.id]
