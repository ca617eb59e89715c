"""gRPC under made-up calls: every method of every service, over its own wire."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import pkgutil
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc_status import rpc_status

import services.rpc.inference as inference_package
import services.rpc.mien.v1 as mien_package
from tests.fuzz.fuzzed import SECONDS, Fuzzed, fuzzed_mien
from tests.fuzz.messages import Messages
from tests.integration.harness import NO_PROXY, code_of

_MODEL_SERVICES = {"EmbeddingService": "embedding", "EnhancementService": "enhancement",
                   "MappingService": "mapping"}  # fmt: skip
_PATIENCE = 20.0  # seconds for one call
_FAIR = {
    grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.ABORTED,
    grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED,
}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A method where it is served."""

    server: str
    method: MethodDescriptor

    @property
    def path(self) -> str:
        return f"/{self.method.containing_service.full_name}/{self.method.name}"


def every_method() -> list[Target]:
    """All methods of all services; the inference protocol is asked of each model service."""
    found = []
    for package in (mien_package, inference_package):
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.endswith("_pb2"):
                continue
            described = importlib.import_module(f"{package.__name__}.{module.name}").DESCRIPTOR
            for service in described.services_by_name.values():
                of_models = package is inference_package
                server = _MODEL_SERVICES.get(service.name, "gateway")
                servers = set(_MODEL_SERVICES.values()) if of_models else {server}
                for where, method in itertools.product(sorted(servers), service.methods):
                    found.append(Target(where, method))
    return found


class Caller:
    """Calls methods in all the ways in which callers can be wrong.

    Args:
        mien: a process.
        channels: to its servers, by name.
        seed: of all choices.
    """

    def __init__(self, mien: Fuzzed, channels: dict[str, grpc.Channel], seed: int) -> None:
        self._channels, self._messages = channels, Messages(seed)
        self._random = self._messages.random
        self._secret = mien.secret
        self.codes: Counter[str] = Counter()
        self.faults: list[str] = []

    def call(self, target: Target) -> None:
        method = target.method
        channel = self._channels[target.server]
        try:
            if method.client_streaming or self._random.random() < 0.05:
                self._stream(channel, target)
            else:
                data = self._messages.bytes_of(method.input_type)
                unary: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(target.path)
                if self._random.random() < 0.1:  # gone before the answer
                    waiting = unary.future(data, timeout=_PATIENCE, metadata=self._metadata())
                    time.sleep(self._random.random() * 0.01)
                    waiting.cancel()
                    self.codes["gone"] += 1
                else:
                    unary(data, timeout=_PATIENCE, metadata=self._metadata())
                    self.codes["OK"] += 1
        except grpc.RpcError as error:
            self._judge(target, error)

    def _stream(self, channel: grpc.Channel, target: Target) -> None:
        """Messages in any number and order; read, not read, half-closed at once or cancelled."""
        # The library itself leaves a unary call without any message unanswered until its deadline.
        counts = (0, 1, 2, 8) if target.method.client_streaming else (1, 2, 8)
        messages = [
            self._messages.bytes_of(target.method.input_type)
            for _ in range(self._random.choice(counts))
        ]
        stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(target.path)
        answers: Any = stream(iter(messages), timeout=_PATIENCE, metadata=self._metadata())
        way = self._random.randrange(3)
        if way == 0:
            time.sleep(self._random.random() * 0.02)
            answers.cancel()
            self.codes["gone"] += 1
        elif way == 1:
            with contextlib.suppress(StopIteration):
                next(answers)
            answers.cancel()
            self.codes["gone"] += 1
        else:
            self.codes["OK"] += bool(sum(1 for _ in answers) >= 0)

    def _metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        given: list[tuple[str, str | bytes]] = [("x-api-key", self._secret)]
        roll = self._random.random()
        if roll < 0.1:
            tenant = self._random.choice(("b", "", "../x", "T" * 65, "*"))
            given.append(("x-mien-tenant", tenant))
        elif roll < 0.15:
            given.append(("x-odd-bin", self._random.randbytes(200)))
        elif roll < 0.2:
            given.append(("x-request-id", self._random.choice(("", " ", "i" * 3000, "{}\\n"))))
        elif roll < 0.25:
            given.append(("traceparent", "00-" + "g" * 32))
        elif roll < 0.28:
            given[0] = ("x-api-key", self._random.choice(("", "mien_x", "k" * 4000)))
        return tuple(given)

    def _judge(self, target: Target, error: grpc.RpcError) -> None:
        code = code_of(error)
        self.codes[code.name] += 1
        if code in _FAIR:
            return
        told: Any = error
        rich = rpc_status.from_call(told)
        if code is grpc.StatusCode.UNAVAILABLE and rich is not None:
            return  # Mien itself says that something is not served here
        self.faults.append(f"{target.server}{target.path}: {code.name} {told.details()[:300]}")


@contextlib.contextmanager
def channels_to(mien: Fuzzed, folder: Path) -> Iterator[dict[str, grpc.Channel]]:
    """Channels to the gateway and, by their socket files, to the services beside it."""
    addresses = {file.stem: f"unix:{file}" for file in folder.glob("mien-*/*.sock")}
    addresses["gateway"] = mien.process.mien.grpc_address
    options = [*NO_PROXY, ("grpc.max_send_message_length", -1)]
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(grpc.insecure_channel(address, options=options))
            for name, address in addresses.items()
        }


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 2 + 180)
def test_made_up_calls_are_answered_or_refused(
    mien_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = int(os.environ.get("MIEN_FUZZ_SEED", random.randrange(2**32)))  # noqa: S311
    sockets = tmp_path / "s"
    sockets.mkdir()
    monkeypatch.setenv("TMPDIR", str(sockets))
    methods = every_method()
    with fuzzed_mien(mien_home, tmp_path / "f") as mien, channels_to(mien, sockets) as channels:
        served = [one for one in methods if one.server in channels]
        assert {one.server for one in served} == {one.server for one in methods}
        caller = Caller(mien, channels, seed)
        end = time.monotonic() + SECONDS
        turns = itertools.cycle(served)
        calls = 0
        while calls < len(served) or time.monotonic() < end:
            caller.call(next(turns))
            calls += 1
    print(f"seed {seed}: {calls} calls of {len(served)} methods, {dict(caller.codes)}")  # noqa: T201
    assert not caller.faults, "\n".join([f"MIEN_FUZZ_SEED={seed}", *caller.faults[:40]])
    assert caller.codes["OK"]
    assert caller.codes["INVALID_ARGUMENT"]
