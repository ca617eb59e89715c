"""A way to a service that can be cut as broken networks cut it: nothing comes, nobody hangs up."""

from __future__ import annotations

import asyncio
import contextlib

_CHUNK = 65_536


class HalfOpenProxy:
    """Hands on what comes on one port of this machine to another.

    Args:
        target: port that is handed on to.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._cut = False
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.port = 0
        self.taken = 0  # connections so far

    async def start(self) -> None:
        """Listens on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Swallows every byte from now on; new connections are taken, and say nothing."""
        self._cut = True

    def mend(self) -> None:
        """Hands on again what comes over new connections; those that lost bytes stay mute."""
        self._cut = False

    async def close(self) -> None:
        """Hangs up on everybody."""
        if self._server is not None:
            self._server.close()
        for writer in self._open.values():
            writer.close()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        task = asyncio.current_task()
        if task is not None:
            self._open[task] = writer
            task.add_done_callback(self._open.pop)
        try:
            with contextlib.suppress(OSError):
                await _Connection(self, reader, writer).live(self._target)
        finally:
            writer.close()

    @property
    def is_cut(self) -> bool:
        """Whether bytes are swallowed."""
        return self._cut


class _Connection:
    """Both directions of one connection; once it has lost a byte it is mute for good."""

    def __init__(
        self, proxy: HalfOpenProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy, self._reader, self._writer = proxy, reader, writer
        self._mute = proxy.is_cut

    async def live(self, target: int) -> None:
        if self._mute:
            while await self._reader.read(_CHUNK):
                pass
            return
        back, out = await asyncio.open_connection("127.0.0.1", target)
        both = [
            asyncio.create_task(self._hand_on(self._reader, out)),
            asyncio.create_task(self._hand_on(back, self._writer)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            out.close()

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            self._mute = self._mute or self._proxy.is_cut
            if not self._mute:
                writer.write(data)
                await writer.drain()
