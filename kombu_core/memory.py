"""The in-memory store and transport: `memory://name`, a virtual host inside this process.

It is the reference for what a store has to do, and goes through the same entry points and hooks as
every plugin. A virtual host lives as long as somebody is connected to it.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from time import monotonic
from typing import ClassVar, Final

from kombu_core.capabilities import StoreCapabilities
from kombu_core.exceptions import SessionLostError
from kombu_core.hookspecs import hookimpl
from kombu_core.message import Envelope
from kombu_core.options import parse_options
from kombu_core.transport import TransportClass, TransportParameters
from kombu_core.virtual.store import (
    Batch,
    Claim,
    Claimed,
    CommitResult,
    Conflict,
    Counts,
    Document,
    Drop,
    Limit,
    NotEmpty,
    Want,
    WriteResult,
)
from kombu_core.virtual.transport import DEFAULT_LEASE, VirtualTransport

KOMBU_CONTRACT: Final = 1

Clock = Callable[[], float]


class _Item:
    """A stored message. `sequence` is its place among those of its priority; it keeps it."""

    __slots__ = (
        "deliveries", "envelope", "expires_at", "id", "priority", "sequence", "ttl"
    )  # fmt: skip

    def __init__(self, sequence: int, envelope: Envelope, priority: int, ttl: float | None) -> None:
        self.id = str(sequence)
        self.sequence = sequence
        self.envelope = envelope
        self.priority = priority
        self.ttl = ttl
        self.deliveries = 0
        self.expires_at: float | None = None

    def __lt__(self, other: _Item) -> bool:
        return self.sequence < other.sequence


class _Queue:
    """The messages of one queue, by state."""

    def __init__(self) -> None:
        #: By priority, none of them empty.
        self.lines: dict[int, deque[_Item]] = {}
        self.delayed: list[tuple[float, _Item]] = []
        #: By id: the message and the session that has it.
        self.claimed: dict[str, tuple[_Item, str]] = {}
        self.ready = 0
        self.bytes_ready = 0

    def push(self, item: _Item) -> None:
        """Put a message to its place: at the end if it is new, near the head if it was there."""
        line = self.lines.get(item.priority)
        if line is None:
            self.lines[item.priority] = deque((item,))
        elif line[-1].sequence < item.sequence:
            line.append(item)
        else:
            # Whatever is older than a returning message was returned too, so there is little.
            older = next(at for at, other in enumerate(line) if other.sequence > item.sequence)
            line.insert(older, item)
        self.ready += 1
        self.bytes_ready += len(item.envelope.body)

    def take(
        self, limit: int, clock: Clock = monotonic, expired_only: bool = False
    ) -> Iterator[tuple[_Item, bool]]:
        """Take out what is delivered next, and tell of each whether it is out of time."""
        while limit > 0 and self.lines:
            priority = max(self.lines)
            line = self.lines[priority]
            while line and limit > 0:
                item = line[0]
                is_expired = item.expires_at is not None and item.expires_at <= clock()
                if expired_only and not is_expired:
                    return
                line.popleft()
                limit -= 1
                self.ready -= 1
                self.bytes_ready -= len(item.envelope.body)
                if not line:
                    del self.lines[priority]
                yield item, is_expired


class VirtualHost:
    """Everything that one `memory://name` holds, shared by its connections."""

    def __init__(self, name: str) -> None:
        self.name = name
        # One lock: each operation is short, and nothing is done while it is held but that.
        self.changed = threading.Condition(threading.Lock())
        self.documents: dict[str, Document] = {}
        self.keys: list[str] = []
        self.queues: dict[str, _Queue] = {}
        self.sessions: dict[str, float] = {}
        self.lapsed: dict[str, None] = {}
        self.sequence = 0
        self.waiting = 0
        #: Stores that are open on it.
        self.handles = 0


class MemoryStore:
    """See `kombu_core.virtual.store.Store` for the contract."""

    capabilities = StoreCapabilities(name="memory", shared=False, persistent=False)

    def __init__(self, host: VirtualHost, *, clock: Clock = monotonic) -> None:
        self._host = host
        self._clock = clock
        self._is_closed = False
        with host.changed:
            host.handles += 1

    # -- documents -------------------------------------------------------------------------

    def read(self, keys: Sequence[str]) -> list[Document]:
        documents = self._host.documents
        with self._host.changed:
            return [documents.get(key) or Document(key, 0, b"") for key in keys]

    def write(
        self,
        changes: Mapping[str, bytes | None],
        expect: Sequence[tuple[str, int]],
        drops: Sequence[Drop] = (),
    ) -> WriteResult:
        host = self._host
        with host.changed:
            self._check(expect)
            dropped = []
            for drop in drops:
                there = host.queues.get(drop.queue)
                ready = 0
                if there is not None:
                    self._promote(there)
                    ready = there.ready
                if drop.if_empty and ready:
                    raise NotEmpty(drop.queue)
                dropped.append(ready)
            for drop in drops:
                host.queues.pop(drop.queue, None)
            versions = {key: self._set(key, value) for key, value in changes.items()}
            if drops:
                host.changed.notify_all()
            return WriteResult(versions, dropped)

    def _set(self, key: str, value: bytes | None) -> int:
        host = self._host
        if value is None:
            if host.documents.pop(key, None) is not None:
                del host.keys[bisect_left(host.keys, key)]
            return 0
        host.sequence += 1
        if key not in host.documents:
            insort(host.keys, key)
        host.documents[key] = Document(key, host.sequence, value)
        return host.sequence

    def scan(self, prefix: str) -> list[str]:
        keys = self._host.keys
        with self._host.changed:
            start = bisect_left(keys, prefix)
            end = start
            while end < len(keys) and keys[end].startswith(prefix):
                end += 1
            return keys[start:end]

    def _check(self, expect: Iterable[tuple[str, int]]) -> None:
        documents = self._host.documents
        moved = [
            key
            for key, version in expect
            if version != (documents[key].version if key in documents else 0)
        ]
        if moved:
            raise Conflict(moved)

    # -- queues ----------------------------------------------------------------------------

    def commit(self, batch: Batch) -> CommitResult:
        host = self._host
        with host.changed:
            if batch.expect:
                self._check(batch.expect)
            lost = self._lost(batch)
            if lost:
                return CommitResult(lost=lost)
            rejected: list[int] = []
            dropped: list[Claimed] = []
            for position, (queue, envelope, priority, delay, ttl) in enumerate(batch.puts):
                there = host.queues.get(queue)
                if there is None:
                    there = host.queues[queue] = _Queue()
                elif there.delayed:
                    self._promote(there)  # Whose time has come was there before this message.
                limit = batch.limits.get(queue) if batch.limits else None
                if limit is not None and self._is_refused(there, limit, envelope):
                    rejected.append(position)
                    continue
                host.sequence = sequence = host.sequence + 1
                item = _Item(sequence, envelope, priority, ttl)
                if delay > 0:
                    heappush(there.delayed, (self._clock() + delay, item))
                else:
                    self._make_ready(there, item)
                if limit is not None and limit.overflow == "drop-head":
                    dropped += self._shorten(queue, there, limit, batch.session)
            for claim in batch.acks:
                if self._owns(claim, batch.session):
                    del host.queues[claim.queue].claimed[claim.id]
            for claim, is_delivered in batch.releases:
                if self._owns(claim, batch.session):
                    self._release(claim.queue, claim.id, is_delivered)
            for queue in {release.claim.queue for release in batch.releases} & batch.limits.keys():
                there = host.queues.get(queue)
                if there is not None and batch.limits[queue].overflow == "drop-head":
                    dropped += self._shorten(queue, there, batch.limits[queue], batch.session)
            if dropped and batch.session not in host.sessions:
                host.lapsed[batch.session] = None  # Who ends it gives these back.
            if host.waiting and (batch.puts or batch.releases):
                host.changed.notify_all()
        if rejected or dropped:
            return CommitResult((), rejected, dropped)
        return _STORED

    def _lost(self, batch: Batch) -> list[Claim]:
        """Return the claims that the session lost; one that lives has lost none."""
        if batch.session in self._host.sessions:
            return []
        claims = [*batch.acks, *(release.claim for release in batch.releases)]
        return [claim for claim in claims if not self._owns(claim, batch.session)]

    def _owns(self, claim: Claim, session: str) -> bool:
        there = self._host.queues.get(claim.queue)
        owned = there.claimed.get(claim.id) if there is not None else None
        return owned is not None and owned[1] == session

    def _make_ready(self, queue: _Queue, item: _Item) -> None:
        if item.ttl is not None and item.expires_at is None:
            item.expires_at = self._clock() + item.ttl
        queue.push(item)

    def _promote(self, queue: _Queue) -> None:
        """Let the delayed messages whose time has come take their places."""
        while queue.delayed and queue.delayed[0][0] <= self._clock():
            _, item = heappop(queue.delayed)
            self._host.sequence += 1
            item.sequence = self._host.sequence
            self._make_ready(queue, item)

    def _release(self, queue: str, message_id: str, is_delivered: bool) -> None:
        there = self._host.queues[queue]
        item, _ = there.claimed.pop(message_id)
        if is_delivered:
            item.deliveries += 1
        self._make_ready(there, item)

    @staticmethod
    def _is_refused(queue: _Queue, limit: Limit, envelope: Envelope) -> bool:
        if limit.overflow != "reject":
            return False
        if limit.max_length is not None and queue.ready + 1 > limit.max_length:
            return True
        size = queue.bytes_ready + len(envelope.body)
        return limit.max_bytes is not None and size > limit.max_bytes

    def _shorten(self, name: str, queue: _Queue, limit: Limit, session: str) -> list[Claimed]:
        """Push out what would be delivered next until the limit holds."""
        dropped = []
        while queue.ready and (
            (limit.max_length is not None and queue.ready > limit.max_length)
            or (limit.max_bytes is not None and queue.bytes_ready > limit.max_bytes)
        ):
            ((item, _),) = queue.take(1)
            if limit.keep_dropped:
                queue.claimed[item.id] = (item, session)
                claim, priority = Claim(name, item.id), item.priority
                dropped.append(Claimed(claim, item.envelope, item.deliveries, priority=priority))
        return dropped

    def claim(self, wants: Sequence[Want], session: str, limit: int) -> list[Claimed]:
        host = self._host
        claimed: list[Claimed] = []
        with host.changed:
            if host.sessions.get(session, 0.0) <= self._clock():
                raise SessionLostError("The lease of this session ran out")
            for queue, wanted, expired_only in wants:
                there = host.queues.get(queue)
                if there is None:
                    continue
                if there.delayed:
                    self._promote(there)
                owned = there.claimed
                for item, is_expired in there.take(
                    min(wanted, limit - len(claimed)), self._clock, expired_only
                ):
                    owned[item.id] = (item, session)
                    claimed.append(
                        Claimed(
                            Claim(queue, item.id),
                            item.envelope,
                            item.deliveries,
                            is_expired,
                            item.priority,
                        )
                    )
        return claimed

    def wait(self, queues: Collection[str], timeout: float) -> bool:
        host = self._host
        deadline = time.monotonic() + timeout
        with host.changed:
            host.waiting += 1
            try:
                while not self._is_closed:
                    if any(self._has_ready(queue) for queue in queues):
                        return True
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return False
                    host.changed.wait(min(left, self._next_due(queues)))
                return True
            finally:
                host.waiting -= 1

    def _has_ready(self, queue: str) -> bool:
        there = self._host.queues.get(queue)
        if there is None:
            return False
        self._promote(there)
        return there.ready > 0

    def _next_due(self, queues: Collection[str]) -> float:
        """Seconds until a delayed message of these queues becomes ready."""
        found = [self._host.queues[name] for name in queues if name in self._host.queues]
        due = [queue.delayed[0][0] for queue in found if queue.delayed]
        return max(0.0, min(due) - self._clock()) if due else threading.TIMEOUT_MAX

    def count(self, queue: str) -> Counts:
        with self._host.changed:
            there = self._host.queues.get(queue)
            if there is None:
                return Counts(0, 0, 0)
            self._promote(there)
            return Counts(there.ready, len(there.claimed), len(there.delayed))

    def purge(self, queue: str) -> int:
        with self._host.changed:
            there = self._host.queues.get(queue)
            if there is None:
                return 0
            self._promote(there)
            purged = there.ready
            there.lines.clear()
            there.ready = there.bytes_ready = 0
            return purged

    # -- sessions --------------------------------------------------------------------------

    def begin(self, session: str, ttl: float) -> None:
        with self._host.changed:
            self._host.sessions[session] = self._clock() + ttl
            self._host.lapsed.pop(session, None)

    def renew(self, session: str, ttl: float) -> bool:
        with self._host.changed:
            if session not in self._host.sessions:
                return False
            self._host.sessions[session] = self._clock() + ttl
            return True

    def end(self, session: str) -> None:
        with self._host.changed:
            self._host.sessions.pop(session, None)
            self._host.lapsed.pop(session, None)
            self._release_all(session)

    def reap(self) -> list[str]:
        host = self._host
        with host.changed:
            now = self._clock()
            for session in [name for name, end in host.sessions.items() if end <= now]:
                del host.sessions[session]
                host.lapsed[session] = None
                self._release_all(session)
            return list(host.lapsed)

    def _release_all(self, session: str) -> None:
        for name, queue in self._host.queues.items():
            for message_id in [
                key for key, (_, owner) in queue.claimed.items() if owner == session
            ]:
                self._release(name, message_id, is_delivered=True)
        self._host.changed.notify_all()

    def close(self) -> None:
        host = self._host
        with _hosts_lock, host.changed:
            host.handles -= not self._is_closed
            self._is_closed = True
            host.changed.notify_all()
            if not host.handles and _hosts.get(host.name) is host:
                del _hosts[host.name]  # Not when what is left of it happens to be collected.


_STORED: Final = CommitResult()


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryOptions:
    """Options of `memory://`, in the URL's query or in `transport_options`."""

    #: Seconds after which another connection has the messages of one that was not heard of.
    lease: float = DEFAULT_LEASE


class MemoryTransport(VirtualTransport):
    """`memory://name`; without a name it is one virtual host, called the empty string."""

    driver_type: ClassVar[str] = "memory"
    driver_name: ClassVar[str] = "memory"

    def __init__(self, parameters: TransportParameters) -> None:
        options = parse_options(
            MemoryOptions, {**parameters.url.query, **parameters.options}, source="memory://"
        )
        super().__init__(parameters, lease=options.lease)

    def open_store(self) -> MemoryStore:
        url = self.parameters.url
        name = url.hostname or url.virtual_host or ""
        with _hosts_lock:
            return MemoryStore(_hosts.get(name) or _hosts.setdefault(name, VirtualHost(name)))


#: The virtual hosts that somebody is connected to; a process has no other place to meet.
_hosts: Final[weakref.WeakValueDictionary[str, VirtualHost]] = weakref.WeakValueDictionary()
_hosts_lock: Final = threading.Lock()
_held: Final[list[VirtualHost]] = []


def _before_fork() -> None:
    """Hold all locks, so that no child inherits one that a thread holds."""
    _hosts_lock.acquire()
    _held.extend(_hosts.values())
    for host in _held:
        host.changed.acquire()


def _after_fork() -> None:
    for host in _held:
        host.changed.release()
    _held.clear()
    _hosts_lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


@hookimpl
def kombu_transport(scheme: str) -> TransportClass | None:
    """Serve `memory`."""
    return MemoryTransport if scheme == "memory" else None
