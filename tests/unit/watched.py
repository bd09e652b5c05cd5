"""A memory transport whose store a test looks into, and short forms for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kombu_core.exceptions import OperationTimeoutError
from kombu_core.memory import MemoryStore, MemoryTransport, VirtualHost
from kombu_core.message import Envelope, Malformed
from kombu_core.virtual.store import Batch, Claimed, CommitResult, Counts, Put


class Store(MemoryStore):
    """Lets a test look into each commit, and makes messages of some bodies unreadable."""

    on_commit: Callable[[Batch], object] | None = None

    def commit(self, batch: Batch) -> CommitResult:
        if self.on_commit is not None:
            self.on_commit(batch)
        return super().commit(batch)

    def claim(self, wants: Any, session: str, limit: int) -> list[Claimed]:
        return [
            item._replace(content=Malformed(b"raw", "it is broken"))
            if item.content[0] == b"broken"
            else item
            for item in super().claim(wants, session, limit)
        ]


class Transport(MemoryTransport):
    """The memory transport on such a store."""

    store: Store

    def open_store(self) -> Store:
        self.store = Store(VirtualHost("x"))
        return self.store


def put(transport: Transport, *bodies: bytes, queue: str = "q", ttl: float | None = None) -> None:
    puts = [Put(queue, Envelope(body, {}, {}, "", queue), ttl=ttl) for body in bodies]
    transport.store.commit(Batch(puts))


def count(transport: Transport, queue: str = "q") -> Counts:
    transport.parts.session.flush()
    return transport.store.count(queue)


def drain(transport: Transport) -> None:
    while True:
        try:
            transport.drain_events(timeout=0)
        except OperationTimeoutError:
            return
