"""The store contract on Redis: each method is one script, and each script is one atomic step."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from kombu_core.capabilities import StoreCapabilities
from kombu_core.exceptions import ConnectionLostError, SessionLostError
from kombu_core.virtual.envelope import decode
from kombu_core.virtual.store import (
    Batch,
    Claim,
    Claimed,
    CommitResult,
    Conflict,
    Counts,
    Document,
    Drop,
    NotEmpty,
    Want,
    WriteResult,
)
from kombu_redis.connections import RedisConnections, Script, Word
from kombu_redis.layout import Layout, priority_of
from kombu_redis.request import CommitRequest, milliseconds

#: Longest single block of `wait`, in seconds: then it looks for itself, in case that whoever took
#: the token died before he claimed.
_SLICE: Final = 1.0
#: Keys that `scan` fetches at a time.
_SCAN: Final = 1000
#: Redis' own limit of one value (proto-max-bulk-len).
_MAX_BYTES: Final = 512 * 1024 * 1024

_READ: Final = Script.load("read")
_WRITE: Final = Script.load("write")
_COMMIT: Final = Script.load("commit")
_CLAIM: Final = Script.load("claim")
_PEEK: Final = Script.load("peek")
_COUNT: Final = Script.load("count")
_PURGE: Final = Script.load("purge")
_RENEW: Final = Script.load("renew")
_LAPSE: Final = Script.load("lapse")
_RELEASE: Final = Script.load("release")

_DONE: Final = CommitResult()
#: Positions in `Layout.queue`.
_READY, _BODY, _WAKE, _DELAYED, _OWNERS = 0, 1, 2, 3, 7


class RedisStore:
    """One virtual host of one Redis; see `kombu_core.virtual.store.Store` for the contract.

    An error in the middle of a call (`ConnectionLostError`) means that the outcome is unknown:
    the script ran as a whole, or not at all. Nothing is sent again by itself. After `commit` the
    caller repeats the batch, for at least once; after `claim` it ends its session, because that
    may hold messages which it never heard of.

    Args:
        connections: The way to the server; closed with the store.
        layout: The names of the keys.
        slice_seconds: Longest single block of `wait`; below the timeout of the socket.
    """

    capabilities = StoreCapabilities(
        name="redis", shared=True, persistent=True, max_message_bytes=_MAX_BYTES
    )

    def __init__(
        self, connections: RedisConnections, layout: Layout, *, slice_seconds: float = _SLICE
    ) -> None:
        self._connections = connections
        self._run = connections.run
        self._layout = layout
        self._slice = slice_seconds
        self._closed = threading.Event()

    # -- documents -------------------------------------------------------------------------

    def read(self, keys: Sequence[str]) -> list[Document]:
        if not keys:
            return []
        layout = self._layout
        versions, values = self._run(_READ, (layout.versions, layout.docs), keys)
        return [
            Document(key, int(version or 0), value or b"")
            for key, version, value in zip(keys, versions, values, strict=True)
        ]

    def write(
        self,
        changes: Mapping[str, bytes | None],
        expect: Sequence[tuple[str, int]],
        drops: Sequence[Drop] = (),
    ) -> WriteResult:
        layout = self._layout
        args: list[Word] = [len(expect)]
        for key, version in expect:
            args += (key, version)
        written = {key: value for key, value in changes.items() if value is not None}
        deleted = [key for key, value in changes.items() if value is None]
        args.append(len(written))
        for key, value in written.items():
            args += (key, value)
        args += (len(deleted), *deleted, len(drops))
        while True:
            keys = [layout.versions, layout.docs, layout.index, layout.seq]
            drop_args: list[Word] = []
            for drop in drops:
                owners = self._members(layout.queue(drop.queue)[_OWNERS])
                keys += layout.queue(drop.queue)
                keys += [layout.claims(owner, drop.queue)[-1] for owner in owners]
                drop_args += (1 if drop.if_empty else 0, len(owners), *owners)
            outcome, *rest = self._run(_WRITE, keys, args + drop_args)
            if outcome == b"done":
                first, dropped = rest
                versions = {key: first + i for i, key in enumerate(written)}
                return WriteResult(versions | dict.fromkeys(deleted, 0), dropped)
            if outcome == b"conflict":
                raise Conflict(key.decode() for key in rest)
            if outcome == b"not empty":
                raise NotEmpty
            # Otherwise a session claimed from a queue after its owners were asked for.

    def scan(self, prefix: str) -> list[str]:
        found: list[str] = []
        start: Word = f"[{prefix}" if prefix else "-"
        # No byte of UTF-8 is 0xFF, so this is behind every key that begins with the prefix.
        end: Word = b"(" + prefix.encode() + b"\xff" if prefix else "+"
        while True:
            page = self._connections.call(
                b"ZRANGEBYLEX", self._layout.index, start, end, b"LIMIT", 0, _SCAN
            )
            found += [key.decode() for key in page]
            if len(page) < _SCAN:
                return found
            start = b"(" + page[-1]

    # -- queues ----------------------------------------------------------------------------

    def commit(self, batch: Batch) -> CommitResult:
        request = CommitRequest(self._layout, batch)
        reply = self._run(_COMMIT, request.keys, request.args)
        return _DONE if reply == 0 else request.result(reply)

    def claim(self, wants: Sequence[Want], session: str, limit: int) -> list[Claimed]:
        layout = self._layout
        keys = [layout.sessions, layout.seq, layout.held(session)]
        args: list[Word] = [session, limit]
        for queue, count, expired_only in wants:
            keys += layout.claims(session, queue)
            args += (queue, count, 1 if expired_only else 0)
        reply = self._run(_CLAIM, keys, args)
        if reply == -1:
            raise SessionLostError(f"The lease of session {session!r} ran out")
        claimed: list[Claimed] = []
        for want, found in zip(wants, reply, strict=True):
            if found:
                claimed += _claimed(want.queue, *found)
        return claimed

    def wait(self, queues: Collection[str], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        own = [self._layout.queue(queue) for queue in queues]
        if not own:
            self._closed.wait(timeout)
            return False
        peeked = [key for keys in own for key in (keys[_READY], keys[_DELAYED])]
        wakes = [keys[_WAKE] for keys in own]
        try:
            while True:
                due = self._run(_PEEK, peeked)
                left = deadline - time.monotonic()
                if due == 0 or left <= 0:
                    return bool(due == 0)
                # A negative number: nothing is delayed. A pause of zero would block for ever.
                pause = max(0.001, min(left, self._slice, due / 1000 if due > 0 else left))
                if self._connections.block(b"BLPOP", *wakes, f"{pause:.3f}") is not None:
                    return True
        except ConnectionLostError:
            if not self._closed.is_set():
                raise
            return False

    def count(self, queue: str) -> Counts:
        keys = self._layout.queue(queue)
        return Counts(*self._run(_COUNT, (keys[_READY], keys[_BODY], keys[_DELAYED])))

    def purge(self, queue: str) -> int:
        keys = (self._layout.seq, *self._layout.queue(queue))
        deleted, total = self._run(_PURGE, keys, (-1,))
        # No more than there were at first, so that a busy publisher cannot keep this going.
        while deleted < total:
            more, _ = self._run(_PURGE, keys, (total - deleted,))
            if not more:
                break
            deleted += more
        return int(deleted)

    # -- sessions --------------------------------------------------------------------------

    def begin(self, session: str, ttl: float) -> None:
        self._renew(session, ttl, is_begin=True)

    def renew(self, session: str, ttl: float) -> bool:
        return self._renew(session, ttl, is_begin=False)

    def _renew(self, session: str, ttl: float, *, is_begin: bool) -> bool:
        args = (session, milliseconds(ttl), 1 if is_begin else 0)
        return bool(self._run(_RENEW, self._session_keys(), args))

    def end(self, session: str) -> None:
        self._run(_LAPSE, self._session_keys(), (session,))
        self._release(session, is_end=True)

    def reap(self) -> list[str]:
        over = sorted(name.decode() for name in self._run(_LAPSE, self._session_keys()))
        for session in over:
            self._release(session, is_end=False)
        return over

    def _session_keys(self) -> tuple[str, str]:
        return self._layout.sessions, self._layout.lapsed

    def _release(self, session: str, *, is_end: bool) -> None:
        """Release the claims of a session that is over, so it can get no more meanwhile."""
        layout = self._layout
        held = layout.held(session)
        is_done = 0
        while is_done != 1:
            if is_done <= 0:
                queues = self._members(held)
            keys = [layout.lapsed, held]
            for queue in queues:
                keys += layout.claims(session, queue)
            is_done = self._run(_RELEASE, keys, (session, 1 if is_end else 0))

    def _members(self, key: str) -> list[str]:
        return [name.decode() for name in self._connections.call(b"SMEMBERS", key)]

    def close(self) -> None:
        self._closed.set()
        self._connections.close()


def _claimed(
    queue: str,
    leased: list[bytes],
    bodies: list[bytes],
    returns: list[bytes | None] | int,
    expired: list[int] | int,
) -> list[Claimed]:
    """Read what the claim script tells of one queue."""
    count = len(bodies)
    deliveries = [int(n or 0) for n in returns] if isinstance(returns, list) else [0] * count
    is_expired = [n == 1 for n in expired] if isinstance(expired, list) else [False] * count
    return [
        Claimed(Claim(queue, id_.decode()), decode(body), seen, over, priority_of(place))
        for id_, place, body, seen, over in zip(
            leased[::2], leased[1::2], bodies, deliveries, is_expired, strict=True
        )
    ]
