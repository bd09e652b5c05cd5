"""The store: each operation looks at the state, and changes it or not."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import ClassVar, Final

from kombu_core.capabilities import StoreCapabilities
from kombu_core.exceptions import ConnectionLostError, SessionLostError
from kombu_core.virtual import store as contract
from kombu_core.virtual.envelope import decode, encode
from kombu_core.virtual.store import Batch, Claim, Claimed, Drop, Limit
from kombu_files.state import Message, State

Versions = Sequence[tuple[str, int]]
#: Longest time between two looks at the state (seconds); while something comes it is shorter.
LONGEST_PAUSE: Final = 0.02


class FilesStore:
    """See `kombu_core.virtual.store.Store` for the contract."""

    capabilities: ClassVar = StoreCapabilities(name="files", shared=True, persistent=True)

    def __init__(self, directory: Path) -> None:
        self._state = State(directory)

    # -- documents -------------------------------------------------------------------------

    def read(self, keys: Sequence[str]) -> list[contract.Document]:
        with self._state.locked() as state:
            rows = [(key, *state.documents.get(key, (0, ""))) for key in keys]
        return [contract.Document(key, version, bytes.fromhex(text)) for key, version, text in rows]

    def write(
        self, changes: Mapping[str, bytes | None], expect: Versions, drops: Sequence[Drop] = ()
    ) -> contract.WriteResult:
        versions = dict.fromkeys(changes, 0)
        with self._state.locked(durable=True) as state:
            self._check(expect)
            dropped = [len(self._ready(drop.queue)) for drop in drops]
            for drop, ready in zip(drops, dropped, strict=True):
                if drop.if_empty and ready:
                    raise contract.NotEmpty(drop.queue)
            self._delete(self._messages(*(drop.queue for drop in drops)))
            for key, value in changes.items():
                state.documents.pop(key, None)
                if value is not None:
                    state.number += 1
                    versions[key] = state.number
                    state.documents[key] = (state.number, value.hex())
        return contract.WriteResult(versions, dropped)

    def scan(self, prefix: str) -> list[str]:
        with self._state.locked() as state:
            return sorted(key for key in state.documents if key.startswith(prefix))

    # -- queues ----------------------------------------------------------------------------

    def commit(self, batch: Batch) -> contract.CommitResult:
        contents = [encode(put.envelope) for put in batch.puts]
        rejected, dropped = list[int](), list[Claimed]()
        with self._state.locked(durable=bool(batch.puts)) as state:
            self._check(batch.expect)
            lives, owned = state.sessions.get(batch.session), self._owned(batch.session)
            claims = [*batch.acks, *(release.claim for release in batch.releases)]
            lost = [claim for claim in claims if claim.id not in owned]
            if lost and not lives:
                return contract.CommitResult(lost)
            for position, put in enumerate(batch.puts):
                limit, size = batch.limits.get(put.queue, Limit()), len(put.envelope.body)
                if limit.overflow == "reject" and self._is_over(limit, put.queue, size):
                    rejected.append(position)
                    continue
                state.number += 1
                state.write_content(state.number, contents[position])
                due = state.now + put.delay
                expires = inf if put.ttl is None else due + put.ttl
                self._save(Message(put.queue, -put.priority, due, state.number, expires, size))
                dropped += self._shorten(put.queue, batch)
            self._delete([owned.pop(claim.id) for claim in batch.acks if claim.id in owned])
            for claim, is_delivered in batch.releases:
                if claim.id in owned:
                    self._release(owned[claim.id], is_delivered)
            for claim, _ in batch.releases:
                dropped += self._shorten(claim.queue, batch)
            if dropped and not lives:
                state.sessions[batch.session] = 0  # Who ends it gives them back.
        return contract.CommitResult((), rejected, dropped)

    def claim(self, wants: Sequence[contract.Want], session: str, limit: int) -> list[Claimed]:
        claimed = list[Claimed]()
        with self._state.locked() as state:
            if state.sessions.get(session, 0) <= state.now:
                raise SessionLostError("The lease of this session ran out")
            for want in wants:
                for message in self._ready(want.queue)[: min(want.limit, limit - len(claimed))]:
                    if want.expired_only and message.expires > state.now:
                        break
                    claimed.append(self._claim(message, session))
        return claimed

    def wait(self, queues: Collection[str], timeout: float) -> bool:
        deadline, due = time.monotonic() + timeout, inf
        seen, pause = "", 0.0
        while not self._state.closed.wait(pause):
            found = self._state.look()  # Before the messages, so nothing comes in between.
            if found != seen:
                with self._state.locked() as state:
                    moments = [m.due for m in self._messages(*queues) if m.owner is None]
                seen, due = found, time.monotonic() + min(moments, default=inf) - state.now
            left = min(due, deadline) - time.monotonic()
            if left <= 0:
                return due <= deadline
            pause = min(left, LONGEST_PAUSE, max(0.001, 1.25 * pause))
        raise ConnectionLostError("It was closed while it waited")

    def count(self, queue: str) -> contract.Counts:
        with self._state.locked():
            ready, messages = len(self._ready(queue)), self._messages(queue)
            claimed = sum(message.owner is not None for message in messages)
            return contract.Counts(ready, claimed, len(messages) - claimed - ready)

    def purge(self, queue: str) -> int:
        with self._state.locked():
            return self._delete(self._ready(queue))

    # -- sessions --------------------------------------------------------------------------

    def begin(self, session: str, ttl: float) -> None:
        with self._state.locked() as state:
            state.sessions[session] = state.now + ttl

    def renew(self, session: str, ttl: float) -> bool:
        with self._state.locked() as state:
            if state.sessions.get(session):
                state.sessions[session] = state.now + ttl
            return bool(state.sessions.get(session))

    def end(self, session: str) -> None:
        with self._state.locked() as state:
            self._release_all(session)
            state.sessions.pop(session, None)

    def reap(self) -> list[str]:
        with self._state.locked() as state:
            for session, end in state.sessions.items():
                if 0 < end <= state.now:
                    self._release_all(session)
                    state.sessions[session] = 0
            return [session for session, end in state.sessions.items() if end == 0]

    def close(self) -> None:
        self._state.closed.set()

    # -- steps of these, under the lock ----------------------------------------------------

    def _check(self, expect: Versions) -> None:
        documents = self._state.documents
        moved = [key for key, version in expect if version != documents.get(key, (0,))[0]]
        if moved:
            raise contract.Conflict(moved)

    def _messages(self, *queues: str) -> list[Message]:
        return [message for message in self._state.messages.values() if message.queue in queues]

    def _ready(self, queue: str) -> list[Message]:
        found, now = self._messages(queue), self._state.now
        return sorted(message for message in found if message.owner is None and message.due <= now)

    def _owned(self, session: str) -> dict[str, Message]:
        return {key: m for key, m in self._state.messages.items() if m.owner == session}

    def _save(self, message: Message) -> None:
        self._state.messages[str(message.number)] = message

    def _delete(self, messages: Sequence[Message]) -> int:
        for message in messages:
            del self._state.messages[str(message.number)]
        return len(messages)

    def _claim(self, message: Message, session: str) -> Claimed:
        self._save(message._replace(owner=session))
        claim = Claim(message.queue, str(message.number))
        content = decode(self._state.read_content(message.number))
        is_expired = message.expires <= self._state.now
        return Claimed(claim, content, message.deliveries, is_expired, -message.negative_priority)

    def _release(self, message: Message, is_delivered: bool = True) -> None:
        self._save(message._replace(owner=None, deliveries=message.deliveries + is_delivered))

    def _release_all(self, session: str) -> None:
        for message in self._owned(session).values():
            self._release(message)

    def _is_over(self, limit: Limit, queue: str, *coming: int) -> bool:
        """Whether a queue, with bodies of so many bytes that come to it, is over its limit."""
        sizes = [*coming, *(message.size for message in self._ready(queue))]
        return (limit.max_length is not None and len(sizes) > limit.max_length) or (
            limit.max_bytes is not None and sum(sizes) > limit.max_bytes
        )

    def _shorten(self, queue: str, batch: Batch) -> Iterator[Claimed]:
        """Push out what would be delivered next until the limit holds; yield what is kept."""
        limit = batch.limits.get(queue, Limit(overflow="reject"))
        while limit.overflow == "drop-head" and self._is_over(limit, queue):
            head = self._ready(queue)[0]
            if limit.keep_dropped:
                yield self._claim(head, batch.session)
            else:
                self._delete([head])
