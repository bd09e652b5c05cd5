"""The store contract on beanstalkd, put together; see the modules for how each part works."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from kombu_beanstalk.brake import Brake
from kombu_beanstalk.claims import Claims, Source
from kombu_beanstalk.documents import FRESH, Documents
from kombu_beanstalk.layout import Layout, late
from kombu_beanstalk.lock import LOCK_TTR, Locks
from kombu_beanstalk.queues import Queues
from kombu_beanstalk.sessions import Sessions
from kombu_beanstalk.table import Root, Row
from kombu_beanstalk.waiting import Waiter
from kombu_beanstalk.wires import Wires
from kombu_core.capabilities import StoreCapabilities
from kombu_core.exceptions import KombuError, SessionLostError, UnsupportedError
from kombu_core.virtual.broker import QUARANTINE
from kombu_core.virtual.store import (
    Batch,
    Claimed,
    CommitResult,
    Conflict,
    Counts,
    Document,
    Drop,
    NotEmpty,
    Put,
    Want,
    WriteResult,
)
from kombu_core.virtual.topology import queue_key

#: What a beanstalkd with a binlog does, and its default for the largest job.
CAPABILITIES: Final = StoreCapabilities(
    name="beanstalk",
    shared=True,
    persistent=True,
    atomic_commit=False,
    max_length_bytes=False,
    max_message_bytes=65535,
    max_message_hint="beanstalkd's option -z sets it",
    releases_on_close=True,
    time_step=1.0,
)

_STORED: Final = CommitResult()
#: Answers about the same queues and versions that are remembered: how many, and of how many puts.
_MOST_GUARDED: Final = 1000
_LARGEST_GUARDED: Final = 100

_Expect = tuple[tuple[str, int], ...]
_Guard = tuple[tuple[str, ...], _Expect]


class BeanstalkStore:
    """One virtual host of one beanstalkd; see `kombu_core.virtual.store.Store` for the contract.

    There are no transactions on beanstalkd. A commit puts before it acknowledges: a crash in
    between duplicates, and loses nothing. What a commit was routed by held when it began.

    Args:
        wires: Connections to the server; closed with the store.
        layout: The names of the tubes.
        capabilities: What this server does.
        max_job_size: Largest job in bytes.
        lease: Seconds that a claim lasts without being renewed.
    """

    def __init__(
        self,
        wires: Wires,
        layout: Layout,
        capabilities: StoreCapabilities,
        *,
        max_job_size: int,
        lease: float,
    ) -> None:
        self.capabilities = capabilities
        self._wires = wires
        self._layout = layout
        # A second more than a session, which the server counts in whole ones, too: whoever finds
        # that it is over has that long to see to it that the server notices the end of its claims.
        ttr = math.ceil(lease) + 1
        self._brake = Brake(wires, layout, seconds=max(ttr, LOCK_TTR) + 1)
        locks = Locks(wires, hangs=self._brake.pull)
        self._documents = Documents(wires, layout, locks, max_job_size)
        self._queues = Queues(wires, layout, locks, max_job_size=max_job_size, ttr=ttr)
        self._sessions = Sessions(wires, layout, hangs=self._brake.pull)
        self._waiter = Waiter(wires, ttr=ttr)
        self._claims = Claims(wires, self._waiter, lost=self._sessions.lose)
        #: For what commits asked: the table that it was true of, and the tubes.
        self._guarded: dict[_Guard, tuple[Root, Mapping[str, str]]] = {}

    # -- documents -------------------------------------------------------------------------

    def read(self, keys: Sequence[str]) -> list[Document]:
        return self._documents.read(keys) if keys else []

    def write(
        self,
        changes: Mapping[str, bytes | None],
        expect: Sequence[tuple[str, int]],
        drops: Sequence[Drop] = (),
    ) -> WriteResult:
        dropped: list[int] = []
        tubes: list[tuple[str, str]] = []

        def prepare(rows: Mapping[str, Row]) -> None:
            tubes[:] = [(drop.queue, self._tube(drop.queue, rows)) for drop in drops]
            counts = self._queues.counts([tube for _, tube in tubes])
            for drop, count in zip(drops, counts, strict=True):
                if drop.if_empty and count.ready:
                    raise NotEmpty(drop.queue)
            dropped[:] = [count.ready for count in counts]
            # Before the documents change, so that a crash after it leaves no orphan.
            self._sessions.clean_later(tubes)

        keys = [queue_key(drop.queue) for drop in drops]
        versions = self._documents.write(changes, expect, prepare, keys)
        for _, tube in tubes:
            self._claims.end_tube(tube)
            self._queues.clear(tube)
        return WriteResult(versions, dropped)

    def scan(self, prefix: str) -> list[str]:
        return self._documents.scan(prefix)

    def _clean(self, queue: str, tube: str, until: float) -> bool:
        """Delete what is in the tube of a queue that was dropped, unless it was not."""
        rows = self._documents.rows([queue_key(queue)])
        if self._tube(queue, rows) == tube:
            return True
        if not rows[queue_key(queue)].version:
            self._queues.clear(self._layout.limit(queue))
        return self._queues.clear(tube, until=until)

    # -- where a queue is ------------------------------------------------------------------

    def _tube(self, queue: str, rows: Mapping[str, Row]) -> str:
        """Return the tube of a queue: another one each time that it is declared anew.

        What somebody still has of a deleted queue goes back to the old tube, and to nobody.
        """
        return self._layout.queue(queue, 0 if queue == QUARANTINE else rows[queue_key(queue)].born)

    def _tubes(self, queues: Iterable[str]) -> dict[str, str]:
        """Return the tubes of queues by name."""
        names = list(queues)
        rows = self._documents.rows(map(queue_key, names), age=FRESH)
        return {name: self._tube(name, rows) for name in names}

    def _guard(
        self, queues: tuple[str, ...], expect: _Expect, age: float
    ) -> tuple[Root, Mapping[str, str]]:
        """Return the table at most `age` seconds ago, and the tubes of queues in it.

        Raises:
            Conflict: One did.
        """
        root = self._documents.root(age)
        seen, tubes = self._guarded.get((queues, expect), (None, {}))
        if seen is root:
            return root, tubes
        keys = {*map(queue_key, queues), *(key for key, _ in expect)}
        rows = self._documents.rows(keys, root=root)
        moved = [key for key, version in expect if rows[key].version != version]
        if moved:
            raise Conflict(moved)
        tubes = {queue: self._tube(queue, rows) for queue in queues}
        if len(queues) <= _LARGEST_GUARDED:
            if len(self._guarded) >= _MOST_GUARDED:
                self._guarded.clear()
            self._guarded[queues, expect] = (root, tubes)
        return root, tubes

    def _put(
        self, puts: Sequence[Put], commands: Sequence[bytes], expect: _Expect
    ) -> Mapping[str, str]:
        """Put by what is true when it is put; returns the tubes of the queues.

        Raises:
            Conflict: An expected version moved. What was put is taken back, but for what somebody
                claimed at once: that is there twice, when it is put again.
        """
        queues = tuple([put.queue for put in puts])
        root, tubes = self._guard(queues, expect, FRESH)
        while jobs := self._queues.put(self._queues.places(puts, tubes), commands, root):
            try:
                root, moved = self._guard(queues, expect, 0.0)
            except Conflict:
                self._queues.take_back(jobs)
                raise
            if moved == tubes:
                break
            self._queues.take_back(jobs)
            tubes = moved
        return tubes

    # -- queues ----------------------------------------------------------------------------

    def commit(self, batch: Batch) -> CommitResult:
        puts, acks, releases, expect, session, limits = batch
        if not (acks or releases or limits):
            if puts:
                self._put(puts, self._queues.encode(puts), tuple(expect))
            else:
                self._guard((), tuple(expect), FRESH)
            return _STORED
        tubes: Mapping[str, str] = {}
        if puts or expect or limits:
            queues = (*[put.queue for put in puts], *limits)
            _, tubes = self._guard(queues, tuple(expect), FRESH)
        if any(limit.max_bytes is not None for limit in limits.values()):
            raise UnsupportedError("max_length_bytes", self.capabilities.name)
        commands = self._queues.encode(puts)
        settled = [*acks, *(release.claim for release in releases)]
        if settled:
            alive = self._sessions.is_alive(session)
            lost = self._claims.lost(settled, session, is_alive=alive, is_sure=bool(puts))
            if lost:
                return CommitResult(lost)
        rejected: list[int] = []
        dropped: list[Claimed] = []

        def put(positions: Sequence[int]) -> Mapping[str, str]:
            some = [puts[at] for at in positions]
            return self._put(some, [commands[at] for at in positions], tuple(expect))

        def take_head(queue: str, tube: str, count: int) -> list[Claimed]:
            self._sessions.hold(session)
            return self._claims.claim([Source(Want(queue, count), tube)], session, count)

        if puts and limits:
            rejected, dropped = self._queues.put_limited(puts, tubes, put, limits, take_head)
        elif puts:
            self._put(puts, commands, tuple(expect))
        lost = self._claims.settle(acks, releases, session) if settled else []
        if limits:
            for queue in {release.claim.queue for release in releases} & limits.keys():
                if limits[queue].overflow == "drop-head":
                    dropped += self._queues.shorten(queue, tubes[queue], limits[queue], take_head)
        if not (lost or rejected or dropped):
            return _STORED
        return CommitResult(lost, rejected, dropped)

    def claim(self, wants: Sequence[Want], session: str, limit: int) -> list[Claimed]:
        if not self._sessions.is_alive(session):
            raise SessionLostError(f"The lease of session {session!r} ran out")
        self._sessions.hold(session)
        tubes = self._tubes(want.queue for want in wants)
        sources = [Source(want, tubes[want.queue]) for want in wants]
        return self._claims.claim(sources, session, limit)

    def wait(self, queues: Collection[str], timeout: float) -> bool:
        if not queues:
            self._wires.wait_closed(timeout)
            return False
        tubes = self._tubes(queues).values()
        return self._waiter.wait({*tubes, *map(late, tubes)}, timeout)

    def count(self, queue: str) -> Counts:
        tube = self._tubes([queue])[queue]
        counts, has_due = self._queues.look(tube)
        if has_due:
            self._claims.promote(tube)
        # What somebody here got by waiting is still nobody's.
        in_hand = self._waiter.count((tube, late(tube)))
        return Counts(counts.ready + in_hand, counts.claimed - in_hand, counts.delayed)

    def purge(self, queue: str) -> int:
        return self._queues.purge(self._tubes([queue])[queue])

    # -- sessions --------------------------------------------------------------------------

    def begin(self, session: str, ttl: float) -> None:
        self._sessions.begin(session, ttl)

    def renew(self, session: str, ttl: float) -> bool:
        if not self._sessions.is_alive(session):
            return False
        self._claims.touch(session)
        self._sessions.begin(session, ttl)
        self._waiter.tidy()
        return True

    def end(self, session: str) -> None:
        self._claims.release(session)
        self._sessions.end(session)

    def reap(self) -> list[str]:
        # Of those that were begun here, and of those that were not: a limit may keep for them.
        for session in self._claims.sessions:
            if not self._sessions.is_alive(session):
                self._claims.release(session)
                self._sessions.lose({session})
        over = self._sessions.reap(self._clean)
        self._brake.tidy()
        self._queues.unbury(self._claims.tubes)
        return over

    def close(self) -> None:
        if not self._wires.is_foreign and not self._wires.is_closed:
            try:
                self._waiter.tidy(is_end=True)
            except KombuError:
                pass  # The server gives it back when the connection ends.
        self._wires.close()
        self._brake.close()
        self._claims.close()
