"""The store: each operation looks at the tables, and adds at most one line to the journal.

The tables are `documents`, `sessions`, `contents` (the messages' bytes) and one for each queue.
"""

from __future__ import annotations

import os
import secrets
import select
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import ClassVar, Final, NamedTuple

from kombu_core.capabilities import StoreCapabilities
from kombu_core.exceptions import OperationalError, SessionLostError, map_errors
from kombu_core.virtual import store as contract
from kombu_core.virtual.envelope import decode, encode
from kombu_core.virtual.store import Batch, Claim, Claimed, Drop
from kombu_files.journal import Journal, Tables

Versions = Sequence[tuple[str, int]]
#: In front of the name of a queue in that of its table.
QUEUE: Final = "queue "
#: One who was killed between storing and ringing woke nobody, so who waits looks himself (seconds).
LOOK_AROUND: Final = 1.0


class Message(NamedTuple):
    """What a queue's table holds, by the message's number as text; sorts by who comes first."""

    negative_priority: int
    due: float
    number: int
    expires: float
    deliveries: int
    owner: str
    #: Bytes of its body.
    size: int


class FilesStore:
    """See `kombu_core.virtual.store.Store` for the contract."""

    capabilities: ClassVar = StoreCapabilities(name="files", shared=True, persistent=True)

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    # -- documents -------------------------------------------------------------------------

    def read(self, keys: Sequence[str]) -> list[contract.Document]:
        with self._journal.locked() as tables:
            rows = [(key, *tables["documents"].get(key, (0, ""))) for key in keys]
        return [contract.Document(key, version, bytes.fromhex(text)) for key, version, text in rows]

    def write(
        self, changes: Mapping[str, bytes | None], expect: Versions, drops: Sequence[Drop] = ()
    ) -> contract.WriteResult:
        with self._journal.locked() as tables:
            _check(tables, expect)
            dropped = [len(self._ready(drop.queue)) for drop in drops]
            for drop, ready in zip(drops, dropped, strict=True):
                if drop.if_empty and ready:
                    raise contract.NotEmpty(drop.queue)
            for drop in drops:
                self._delete(drop.queue, list(tables[QUEUE + drop.queue]))
            versions = {k: 0 if v is None else self._journal.number() for k, v in changes.items()}
            for key, value in changes.items():
                row = None if value is None else (versions[key], value.hex())
                self._journal.put("documents", key, row)
        return contract.WriteResult(versions, dropped)

    def scan(self, prefix: str) -> list[str]:
        with self._journal.locked() as tables:
            return sorted(key for key in tables["documents"] if key.startswith(prefix))

    # -- queues ----------------------------------------------------------------------------

    def commit(self, batch: Batch) -> contract.CommitResult:
        contents = [encode(put.envelope).hex() for put in batch.puts]
        rejected, dropped = list[int](), list[Claimed]()
        with self._journal.locked(rings=bool(batch.puts or batch.releases)) as tables:
            _check(tables, batch.expect)
            claims = [*batch.acks, *(release.claim for release in batch.releases)]
            lost = [claim for claim in claims if not _owned(tables, claim, batch.session)]
            if lost and not tables["sessions"].get(batch.session):
                return contract.CommitResult(lost)
            for position, put in enumerate(batch.puts):
                size = len(put.envelope.body)
                if self._is_full(put.queue, batch, "reject", 1, size):
                    rejected.append(position)
                    continue
                number, due = self._journal.number(), self._journal.now + put.delay
                expires = float("inf") if put.ttl is None else due + put.ttl
                message = Message(-put.priority, due, number, expires, 0, "", size)
                self._journal.put(QUEUE + put.queue, str(number), message)
                self._journal.put("contents", str(number), contents[position])
                dropped += self._shorten(put.queue, batch)
            for claim in batch.acks:
                if _owned(tables, claim, batch.session):
                    self._delete(claim.queue, [claim.id])
            for release in batch.releases:
                self._release(release.claim, batch.session, release.is_delivered)
            for release in batch.releases:
                dropped += self._shorten(release.claim.queue, batch)
            if dropped and not tables["sessions"].get(batch.session):
                # Who ends it gives these back.
                self._journal.put("sessions", batch.session, 0.0)
        return contract.CommitResult((), rejected, dropped)

    def claim(self, wants: Sequence[contract.Want], session: str, limit: int) -> list[Claimed]:
        claimed: list[Claimed] = []
        with self._journal.locked() as tables:
            if tables["sessions"].get(session, 0.0) <= self._journal.now:
                raise SessionLostError("The lease of this session ran out")
            for want in wants:
                for message in self._ready(want.queue)[: min(want.limit, limit - len(claimed))]:
                    if want.expired_only and message.expires > self._journal.now:
                        break
                    claimed.append(self._claim(want.queue, message, session))
        return claimed

    def wait(self, queues: Collection[str], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        path = self._journal.bells / secrets.token_hex(8)
        # Under the lock, or somebody would find it before it is open.
        with self._journal.locked(), map_errors({OSError: OperationalError}):
            os.mkfifo(path)
            bell = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        try:
            while not self._journal.is_closed:
                due, left = self._due(queues), deadline - time.monotonic()
                if due <= 0 or left <= 0:
                    return due <= 0
                if select.select([bell], [], [], min(left, due, LOOK_AROUND))[0]:
                    os.read(bell, 4096)
            return True
        finally:
            os.close(bell)
            path.unlink(missing_ok=True)

    def count(self, queue: str) -> contract.Counts:
        with self._journal.locked():
            ready, messages = len(self._ready(queue)), self._messages(queue)
            claimed = sum(1 for message in messages if message.owner)
            return contract.Counts(ready, claimed, len(messages) - claimed - ready)

    def purge(self, queue: str) -> int:
        with self._journal.locked():
            ready = [str(message.number) for message in self._ready(queue)]
            self._delete(queue, ready)
        return len(ready)

    # -- sessions: by name the end of the lease, 0 if it ran out and is not forgotten yet ------

    def begin(self, session: str, ttl: float) -> None:
        with self._journal.locked():
            self._journal.put("sessions", session, self._journal.now + ttl)

    def renew(self, session: str, ttl: float) -> bool:
        with self._journal.locked() as tables:
            if lives := bool(tables["sessions"].get(session)):
                self._journal.put("sessions", session, self._journal.now + ttl)
        return lives

    def end(self, session: str) -> None:
        with self._journal.locked(rings=True):
            self._end(session, None)

    def reap(self) -> list[str]:
        with self._journal.locked(rings=True) as tables:
            for session, end in list(tables["sessions"].items()):
                if 0 < end <= self._journal.now:
                    self._end(session, 0.0)
            return [session for session, end in tables["sessions"].items() if not end]

    def close(self) -> None:
        self._journal.close()

    # -- steps of these, under the lock ----------------------------------------------------

    def _messages(self, queue: str) -> list[Message]:
        return [Message(*row) for row in self._journal.tables[QUEUE + queue].values()]

    def _ready(self, queue: str) -> list[Message]:
        found, now = self._messages(queue), self._journal.now
        return sorted(message for message in found if not message.owner and message.due <= now)

    def _due(self, queues: Collection[str]) -> float:
        """Return the seconds until something is ready. Takes the lock."""
        with self._journal.locked():
            due = [m.due for queue in queues for m in self._messages(queue) if not m.owner]
            return min(due, default=float("inf")) - self._journal.now

    def _claim(self, queue: str, message: Message, session: str) -> Claimed:
        claim, is_expired = Claim(queue, str(message.number)), message.expires <= self._journal.now
        self._journal.put(QUEUE + queue, claim.id, message._replace(owner=session))
        content = decode(bytes.fromhex(self._journal.tables["contents"][claim.id]))
        return Claimed(claim, content, message.deliveries, is_expired, -message.negative_priority)

    def _release(self, claim: Claim, session: str, is_delivered: bool = True) -> None:
        message = _owned(self._journal.tables, claim, session)
        if message:
            message = message._replace(owner="", deliveries=message.deliveries + is_delivered)
            self._journal.put(QUEUE + claim.queue, claim.id, message)

    def _delete(self, queue: str, ids: Iterable[str]) -> None:
        for key in ids:
            self._journal.put(QUEUE + queue, key, None)
            self._journal.put("contents", key, None)

    def _end(self, session: str, state: float | None) -> None:
        for table in [name for name in self._journal.tables if name.startswith(QUEUE)]:
            for key in list(self._journal.tables[table]):
                self._release(Claim(table.removeprefix(QUEUE), key), session)
        self._journal.put("sessions", session, state)

    def _is_full(
        self, queue: str, batch: Batch, overflow: str, more: int = 0, size: int = 0
    ) -> bool:
        """Whether a queue of that overflow, with what comes to it, would pass its limit."""
        limit = batch.limits.get(queue)
        if limit is None or limit.overflow != overflow:
            return False
        sizes = [message.size for message in self._ready(queue)]
        return (limit.max_length is not None and len(sizes) + more > limit.max_length) or (
            limit.max_bytes is not None and sum(sizes) + size > limit.max_bytes
        )

    def _shorten(self, queue: str, batch: Batch) -> list[Claimed]:
        """Push out what would be delivered next until the limit holds."""
        dropped = list[Claimed]()
        while self._is_full(queue, batch, "drop-head"):
            head = self._ready(queue)[0]
            if batch.limits[queue].keep_dropped:
                if not self._journal.tables["sessions"].get(batch.session):
                    # Its lease is over: `reap` will give the message back.
                    self._journal.put("sessions", batch.session, self._journal.now)
                dropped.append(self._claim(queue, head, batch.session))
            else:
                self._delete(queue, [str(head.number)])
        return dropped


def _check(tables: Tables, expect: Versions) -> None:
    moved = [key for key, version in expect if version != tables["documents"].get(key, (0,))[0]]
    if moved:
        raise contract.Conflict(moved)


def _owned(tables: Tables, claim: Claim, session: str) -> Message | None:
    row = tables[QUEUE + claim.queue].get(claim.id)
    return Message(*row) if row and Message(*row).owner == session else None
