"""Callers who go on whatever happens: verify, identify and enrol, each at a steady pace."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np

from services.bench.chaos.journal import CUT, GOOD, REFUSED, TIMED_OUT, Call, Enrolled, Journal
from services.bench.chaos.questions import Person, Question, questions

CALLER_SECONDS = 15.0
"""After this a caller hangs up; longer than the gateway takes to give up."""

_SEARCHES = {"verify": 3.0, "verify small": 1.0, "identify": 2.0}  # calls a second
_ENROLMENTS = {"enrol": 1.5, "enrol vector": 1.5}
_MOST_AT_ONCE = 6  # of each kind: callers who hear nothing ask nothing more
_AGAIN_SECONDS = (0.2, 0.6)  # before an enrolment that was not acknowledged is sent again
_CONNECTIONS = 64
_PREPARE_SECONDS = 60.0
_SETTLE_SECONDS = 60.0


class Callers:
    """A client of the gateway with much to ask.

    Args:
        url: of the gateway's REST.
        people: at least two.
        prefix: of all ids and keys; one that this gallery has not seen.
        journal: is told everything.
        pace: multiplies how much is asked.
    """

    def __init__(
        self, url: str, people: list[Person], prefix: str, journal: Journal, pace: float = 1.0
    ) -> None:
        self.journal = journal
        self._pace = pace
        self._people, self._prefix = people, prefix
        self._questions = questions(people)
        self._numbers = itertools.count()
        self._rng = np.random.default_rng(7)
        self._model: dict[str, Any] = {}
        self._dimension = 0
        self.client = httpx.AsyncClient(
            base_url=url,
            timeout=CALLER_SECONDS,
            limits=httpx.Limits(max_connections=_CONNECTIONS),
            trust_env=False,
        )

    async def prepare(self) -> None:
        """Enrols the people, and learns what is answered while nothing is wrong.

        Raises:
            RuntimeError: something is wrong already.
            TimeoutError: nobody can be enrolled.
        """
        async with asyncio.timeout(_PREPARE_SECONDS):
            for person in self._people:
                await self._until_acknowledged("enrol", self._picture(person))
        collection = (await self.client.get("/v1/gallery")).json()["collections"][0]
        self._dimension = collection["dimension"]
        self._model = {key: value for key, value in collection["model"].items() if key != "map"}
        for question in itertools.chain.from_iterable(self._questions.values()):
            answer = await self.client.post(question.path, json=question.body)
            if answer.status_code not in GOOD:
                raise RuntimeError(f"{question.path} is answered by {answer.status_code}")
            question.learn(answer.json())

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """Asks for as long as the block lasts, then a while until enrolments are acknowledged."""
        stopped = asyncio.Event()
        paces = {**_SEARCHES, **_ENROLMENTS}
        loops = [asyncio.create_task(self._go_on(*one, stopped)) for one in paces.items()]
        try:
            yield
        finally:
            stopped.set()
            _, left = await asyncio.wait(loops, timeout=_SETTLE_SECONDS)
            for one in left:
                one.cancel()
            await asyncio.gather(*loops, return_exceptions=True)

    async def close(self) -> None:
        """Hangs up."""
        await self.client.aclose()

    async def _go_on(self, kind: str, pace: float, stopped: asyncio.Event) -> None:
        places = asyncio.Semaphore(_MOST_AT_ONCE)

        async def one() -> None:
            async with places:
                if kind == "enrol":
                    person = self._people[next(self._numbers) % len(self._people)]
                    await self._until_acknowledged(kind, self._picture(person))
                elif kind in _ENROLMENTS:
                    await self._until_acknowledged(kind, self._vector())
                else:
                    known = self._questions[kind]
                    await self._search(kind, known[next(self._numbers) % len(known)])

        async with asyncio.TaskGroup() as group:
            while not stopped.is_set():
                if not places.locked():
                    group.create_task(one())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopped.wait(), 1.0 / (pace * self._pace))

    async def _search(self, kind: str, question: Question) -> None:
        sent = time.monotonic()
        status, answer = await self._told(kind, question.path, question.body, {})
        wrong = status in GOOD and not question.is_right(answer)
        self._note(kind, sent, status, answer, is_wrong=wrong)

    async def _until_acknowledged(self, kind: str, given: Enrolled) -> None:
        """Sends an enrolment under its key until it is acknowledged, as callers should."""
        self.journal.enrolled[given.key] = given
        path = f"/v1/subjects/{given.subject}/templates"
        while True:
            sent = time.monotonic()
            headers = {"idempotency-key": given.key}
            status, answer = await self._told(kind, path, given.body, headers)
            stored = status in GOOD and answer.get("outcome") in ("enrolled", "repeated")
            self._note(kind, sent, status, answer, is_wrong=status in GOOD and not stored)
            if stored:
                given.template = answer["template_ids"][0]
                given.acknowledged = time.monotonic()
                return
            await asyncio.sleep(random.uniform(*_AGAIN_SECONDS))  # noqa: S311 - no secret

    async def _told(
        self, kind: str, path: str, body: dict[str, Any], headers: dict[str, str]
    ) -> tuple[int, dict[str, Any]]:
        """Makes one call; its status, and the answer where there is one."""
        self.journal.in_flight[kind] += 1
        try:
            answer = await self.client.post(path, json=body, headers=headers)
            return answer.status_code, answer.json()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            return REFUSED, {}
        except httpx.TimeoutException:
            return TIMED_OUT, {}
        except (httpx.TransportError, ValueError):
            return CUT, {}
        finally:
            self.journal.in_flight[kind] -= 1

    def _note(
        self, kind: str, sent: float, status: int, answer: dict[str, Any], *, is_wrong: bool
    ) -> None:
        code = str(answer.get("code", "")) if status not in GOOD else ""
        call = Call(kind, sent, time.monotonic(), status, code, is_wrong)
        self.journal.calls.append(call)

    def _picture(self, person: Person) -> Enrolled:
        body = {"pictures": [person.enrolled]}
        return Enrolled(self._name("p"), f"{self._prefix}-{person.id}", body)

    def _vector(self) -> Enrolled:
        row = self._rng.standard_normal(self._dimension)
        values = base64.b64encode((row / np.linalg.norm(row)).astype("<f4").tobytes()).decode()
        vector = {"model": self._model, "values": values}
        name = self._name("v")
        return Enrolled(name, name, {"vectors": [vector]}, vector)

    def _name(self, letter: str) -> str:
        return f"{self._prefix}-{letter}-{next(self._numbers)}"
