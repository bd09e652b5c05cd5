"""A faulty network: a TCP proxy between client and broker that cuts, freezes and counts.

    with TcpProxy(server.port) as proxy, Connection(proxy.rewrite(server.url)) as connection:
        proxy.cut()  # every connection is reset; the next attempt succeeds
        proxy.refuse()  # they are reset, and new ones are refused until `restore`
        proxy.pause("to_client")  # the broker hears everything, its answers are held back

A paused link is what a client meets behind a firewall that forgot it: no byte, and no end either.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from kombu_core.testing.process import LOOPBACK, free_port

Direction = Literal["both", "to_broker", "to_client"]

_T = TypeVar("_T")

_CHUNK: Final = 64 * 1024

#: On, and zero seconds: closing resets the connection instead of ending it in order.
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@dataclass(slots=True, eq=False)
class _Link:
    """One connection of a client and the one to the broker that carries it."""

    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def reset(self) -> None:
        for writer in self.writers:
            connection = writer.get_extra_info("socket")
            if connection.fileno() >= 0:  # That side may have ended already.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()


class TcpProxy:
    """Forwards a loopback port to a server, until it is told to misbehave.

    It runs in a daemon thread of its own; all methods may be called from any thread, and have
    taken effect when they return.
    """

    def __init__(self, target_port: int, target_host: str = LOOPBACK) -> None:
        self.port = free_port()
        self._target = (target_host, target_port)
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepted = 0
        self._forwarded = 0
        self._listener: asyncio.Server | None = None
        self._flowing = {"to_broker": asyncio.Event(), "to_client": asyncio.Event()}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"tcp-proxy-{self.port}", daemon=True
        )

    @property
    def accepted(self) -> int:
        """How many connections were accepted so far."""
        return self._accepted

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._links)

    @property
    def forwarded(self) -> int:
        """How many bytes went through so far, both ways together."""
        return self._forwarded

    def rewrite(self, url: str) -> str:
        """Return a broker's URL with host and port of this proxy."""
        parts = urlsplit(url)
        credentials, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}{at}{LOOPBACK}:{self.port}"))

    def start(self) -> None:
        """Listen, and forward what comes."""
        self._thread.start()
        self.restore()

    def close(self) -> None:
        """Cut everything and end. Idempotent."""
        if self._thread.is_alive():
            self._call(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        if not self._loop.is_closed():
            self._loop.close()

    def cut(self) -> None:
        """Reset every open connection; new ones are welcome."""
        self._call(self._cut())

    def refuse(self) -> None:
        """Reset every open connection and refuse new ones, until `restore`."""
        self._call(self._refuse())

    def pause(self, direction: Direction = "both") -> None:
        """Hold bytes back while connections stay open, as on a half-open link.

        New connections are accepted and stay silent. What was held back arrives after `restore`.
        """
        self._call(self._pause(direction))

    def restore(self) -> None:
        """Undo `pause` and `refuse`."""
        self._call(self._restore())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=10)

    # -- in the thread of the loop ----------------------------------------------------------

    async def _restore(self) -> None:
        for event in self._flowing.values():
            event.set()
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, LOOPBACK, self.port)

    async def _pause(self, direction: Direction) -> None:
        for name, event in self._flowing.items():
            if direction in ("both", name):
                event.clear()

    async def _cut(self) -> None:
        for link in list(self._links):
            link.reset()
        self._links.clear()

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._cut()

    async def _close(self) -> None:
        await self._refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        link = _Link([writer])
        self._links.add(link)
        try:
            broker_reader, broker_writer = await asyncio.open_connection(*self._target)
            link.writers.append(broker_writer)
            if link not in self._links:  # Cut while it was being made.
                link.reset()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump("to_broker", reader, broker_writer))
                group.create_task(self._pump("to_client", broker_reader, writer))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            # The broker is away, or one side reset the connection: the other one learns it.
            link.reset()
        finally:
            for each in link.writers:
                each.close()
            self._links.discard(link)
            self._tasks.discard(task)

    async def _pump(
        self, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry bytes one way until that way ends, in order or not."""
        while chunk := await reader.read(_CHUNK):
            await self._flowing[direction].wait()
            # Counted first: who has received the bytes may look at the count at once.
            self._forwarded += len(chunk)
            writer.write(chunk)
            await writer.drain()
        await self._flowing[direction].wait()
        if not writer.is_closing():
            writer.write_eof()
