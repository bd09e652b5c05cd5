"""A store on a database: each method is one statement, or one transaction of a few."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Generic, TypeVar

from kombu_core.capabilities import StoreCapabilities
from kombu_core.exceptions import SessionLostError
from kombu_core.virtual.envelope import decode
from kombu_core.virtual.polling import Waiter
from kombu_core.virtual.store import (
    Batch,
    Claim,
    Claimed,
    CommitResult,
    Counts,
    Document,
    Drop,
    Limit,
    NotEmpty,
    Want,
    WriteResult,
)
from kombu_core.virtual.tables import (
    CLAIMED,
    DELAYED,
    MAX_PRIORITY,
    PROMOTED,
    READY,
    Database,
    Message,
    Queries,
    Taken,
    micros,
)

C = TypeVar("C")
T = TypeVar("T")

_STORED: Final = CommitResult()


class TableStore(Generic[C]):
    """See `kombu_core.virtual.store.Store` for the contract.

    A transaction that another one got in the way of runs again by itself. An error in the middle
    of a call (`ConnectionLostError`) means that the outcome is unknown; nothing is sent again.

    Args:
        database: The way there; closed with the store.
        queries: The statements.
        waiter: How to wait.
        capabilities: What it can do.
    """

    def __init__(
        self,
        database: Database[C],
        queries: Queries[C],
        waiter: Waiter,
        capabilities: StoreCapabilities,
    ) -> None:
        self.database = database
        self.queries = queries
        self.capabilities = capabilities
        self._waiter = waiter

    # -- documents -------------------------------------------------------------------------

    def read(self, keys: Sequence[str]) -> list[Document]:
        if not keys:
            return []
        found = self.database.run(lambda connection: self.queries.read(connection, keys))
        return [Document(key, *found.get(key, (0, b""))) for key in keys]

    def write(
        self,
        changes: Mapping[str, bytes | None],
        expect: Sequence[tuple[str, int]],
        drops: Sequence[Drop] = (),
    ) -> WriteResult:
        written = {key: value for key, value in changes.items() if value is not None}
        deleted = [key for key, value in changes.items() if value is None]
        queries = self.queries

        def apply(connection: C) -> WriteResult:
            # First the documents, for which those who publish may have to be waited for; then all
            # other writers are kept out, also those of documents that are not there.
            queries.lock(connection, [*changes, *(key for key, _ in expect)])
            first = queries.count_up(connection, len(written))
            queries.check(connection, expect, exclusive=True)
            dropped = [queries.count(connection, drop.queue).get(READY, 0) for drop in drops]
            for drop, ready in zip(drops, dropped, strict=True):
                if drop.if_empty and ready:
                    raise NotEmpty(drop.queue)
            if drops:
                queries.drop(connection, [drop.queue for drop in drops])
                queries.notify(connection, [drop.queue for drop in drops])
            versions = {key: first + number for number, key in enumerate(written)}
            queries.save(connection, {key: (versions[key], written[key]) for key in written})
            queries.delete(connection, deleted)
            return WriteResult(versions | dict.fromkeys(deleted, 0), dropped)

        return self.database.transact(apply)

    def scan(self, prefix: str) -> list[str]:
        return self.database.run(lambda connection: self.queries.scan(connection, prefix))

    # -- queues ----------------------------------------------------------------------------

    def commit(self, batch: Batch) -> CommitResult:
        puts, acks, releases, expect, session, limits = batch
        queries = self.queries
        if puts and not (acks or releases or limits):
            messages = [Message.of(put) for put in puts]
            run = self.database.transact
            if queries.publishes_alone(messages, expect):
                run = self._run_alone
            run(lambda connection: queries.publish(connection, messages, expect))
            result = _STORED
        elif acks and not (puts or releases or expect):
            result = self._acknowledge(acks, session)
        else:
            result = self.database.transact(lambda connection: self.apply(connection, batch))
        if puts or releases:
            self._waiter.announce()
        return result

    def _run_alone(self, work: Callable[[C], T]) -> T:
        return self.database.run(work, writes=True)

    def _acknowledge(self, acks: Sequence[Claim], session: str) -> CommitResult:
        """Delete at once: a session that is over has no claims, so it is all or nothing."""
        ids = {int(claim.id) for claim in acks}

        def apply(connection: C) -> bool:
            deleted = self.queries.acknowledge(connection, ids, session)
            return deleted == len(ids) or self.queries.is_alive(connection, session)

        return _STORED if self.database.run(apply, writes=True) else CommitResult(lost=acks)

    def apply(self, connection: C, batch: Batch) -> CommitResult:
        """Apply a batch in a transaction; nothing is done before all is known to be right."""
        queries, session = self.queries, batch.session
        # With limits it has to wait for others who publish to the same queues, as it counts.
        queries.check(connection, batch.expect, exclusive=bool(batch.limits))
        claims = [*batch.acks, *(release.claim for release in batch.releases)]
        if claims:
            held = queries.held(connection, {int(claim.id) for claim in claims}, session)
            lost = [claim for claim in claims if int(claim.id) not in held]
            if lost and not queries.is_alive(connection, session):
                return CommitResult(lost=lost)
        messages = [Message.of(put) for put in batch.puts]
        rejected = self._rejected(connection, messages, batch.limits)
        stored = messages
        if rejected:
            refused = set(rejected)
            stored = [one for number, one in enumerate(messages) if number not in refused]
        dropped: list[Claimed] = []
        for number, run in enumerate(_runs(stored, batch.limits)):
            if number:
                dropped += self._shorten_all(connection, batch)
            queries.insert(connection, run)
        acked = {int(claim.id) for claim in batch.acks}
        if acked:
            queries.acknowledge(connection, acked, session)
        for is_delivered in (True, False):
            ids = {int(one.claim.id) for one in batch.releases if one.is_delivered is is_delivered}
            if ids - acked:
                queries.release(connection, ids - acked, session, is_delivered=is_delivered)
        if batch.releases:
            queries.notify(connection, {release.claim.queue for release in batch.releases})
        dropped += self._shorten_all(connection, batch)
        return CommitResult((), rejected, dropped)

    def _rejected(
        self, connection: C, messages: Sequence[Message], limits: Mapping[str, Limit]
    ) -> list[int]:
        """Return the positions of the messages that full queues refuse."""
        rejected: list[int] = []
        lengths: dict[str, tuple[int, int]] = {}
        for position, message in enumerate(messages):
            limit = limits.get(message.queue)
            if limit is None or limit.overflow != "reject":
                continue
            if message.queue not in lengths:
                lengths[message.queue] = self._length(connection, message.queue, limit)
            count, size = lengths[message.queue]
            if (limit.max_length is not None and count + 1 > limit.max_length) or (
                limit.max_bytes is not None and size + message.size > limit.max_bytes
            ):
                rejected.append(position)
            elif message.delay is None:
                lengths[message.queue] = count + 1, size + message.size
        return rejected

    def _length(self, connection: C, queue: str, limit: Limit) -> tuple[int, int]:
        most = None if limit.max_bytes is not None else (limit.max_length or 0) + 1
        return self.queries.length(connection, queue, most)

    def _shorten_all(self, connection: C, batch: Batch) -> list[Claimed]:
        dropped: list[Claimed] = []
        for queue, limit in batch.limits.items():
            if limit.overflow == "drop-head":
                dropped += self._shorten(connection, queue, limit, batch.session)
        return dropped

    def _shorten(self, connection: C, queue: str, limit: Limit, session: str) -> list[Claimed]:
        """Push out what would be delivered next until a limit holds."""
        queries = self.queries
        dropped: list[Claimed] = []
        while True:
            count, size = queries.length(connection, queue, None)
            excess = 0
            if limit.max_length is not None:
                excess = max(0, count - limit.max_length)
            if not excess and limit.max_bytes is not None and size > limit.max_bytes:
                excess = 1
            if not excess:
                break
            found = queries.lease(connection, queue, session, excess, keep=limit.keep_dropped)
            if limit.keep_dropped:
                dropped += _claimed(queue, found)
            if not found:
                break
        if dropped and not queries.is_alive(connection, session):
            # Whoever reaps gives these back.
            queries.begin_lapsed(connection, session)
        return dropped

    def claim(self, wants: Sequence[Want], session: str, limit: int) -> list[Claimed]:
        if len(wants) == 1 and not wants[0].expired_only:
            ((queue, wanted, _),) = wants
            found = self._take(queue, session, min(wanted, limit), is_guarded=True)
            if found:
                return _claimed(queue, found)
            return self._nothing(wants, session, limit)
        return self._claim_some(wants, session, limit)

    def _nothing(self, wants: Sequence[Want], session: str, limit: int) -> list[Claimed]:
        """Find out why nothing was claimed."""

        def look(connection: C) -> tuple[bool, bool]:
            states = self.queries.peek(connection, [want.queue for want in wants])
            return (
                self.queries.is_alive(connection, session, leased=True),
                any(state.due is not None and state.due <= 0 for state in states),
            )

        is_alive, is_due = self.database.run(look)
        if not is_alive:
            raise SessionLostError(f"The lease of session {session!r} ran out")
        return self._claim_some(wants, session, limit) if is_due else []

    def _claim_some(self, wants: Sequence[Want], session: str, limit: int) -> list[Claimed]:
        """Claim from those queues in which there is something."""
        queries = self.queries

        def look(connection: C) -> tuple[bool, set[str], set[str]]:
            plain = [want.queue for want in wants if not want.expired_only]
            states = queries.peek(connection, plain) if plain else []
            due = {one.queue for one in states if one.due is not None and one.due <= 0}
            useful = due | {one.queue for one in states if one.is_ready}
            heads = [want.queue for want in wants if want.expired_only]
            if heads:
                found = set(queries.heads(connection, heads))
                useful |= found
                due |= found
            return queries.is_alive(connection, session, leased=True), useful, due

        is_alive, useful, due = self.database.run(look)
        if not is_alive:
            raise SessionLostError(f"The lease of session {session!r} ran out")
        claimed: list[Claimed] = []
        for queue, wanted, expired_only in wants:
            most = min(wanted, limit - len(claimed))
            if queue not in useful or most <= 0:
                continue
            if queue in due:
                while self._promote(queue) >= PROMOTED:
                    pass
            # What became due meanwhile is for the next time, or a stream of it would hold up all.
            found = self._take(queue, session, most, expired_only=expired_only)
            claimed += _claimed(queue, found)
        return claimed

    def _promote(self, queue: str) -> int:
        return self.database.transact(lambda connection: self.queries.promote(connection, queue))

    def _take(
        self,
        queue: str,
        session: str,
        limit: int,
        *,
        expired_only: bool = False,
        is_guarded: bool = False,
    ) -> list[Taken]:
        queries = self.queries

        def apply(connection: C) -> list[Taken]:
            before = queries.first_fresh(connection, queue) if expired_only else None
            return queries.claim(
                connection, queue, session, limit, before=before, is_guarded=is_guarded
            )

        if queries.claims_alone:
            return self.database.run(apply, writes=True)
        return self.database.transact(apply)

    def wait(self, queues: Collection[str], timeout: float) -> bool:
        return self._waiter.wait(queues, timeout)

    def count(self, queue: str) -> Counts:
        found = self.database.run(lambda connection: self.queries.count(connection, queue))
        return Counts(found.get(READY, 0), found.get(CLAIMED, 0), found.get(DELAYED, 0))

    def purge(self, queue: str) -> int:
        return self.database.transact(lambda connection: self.queries.purge(connection, queue))

    # -- sessions --------------------------------------------------------------------------

    def begin(self, session: str, ttl: float) -> None:
        self._run_alone(lambda connection: self.queries.begin(connection, session, micros(ttl)))

    def renew(self, session: str, ttl: float) -> bool:
        self._waiter.tidy()
        return self._run_alone(
            lambda connection: self.queries.renew(connection, session, micros(ttl))
        )

    def end(self, session: str) -> None:
        def apply(connection: C) -> list[str]:
            self.queries.forget(connection, session)
            return self._release_all(connection, [session])

        if self.database.transact(apply):
            self._waiter.announce()

    def reap(self) -> list[str]:
        over, overdue = self.database.run(self.queries.overdue)
        if not overdue:
            return over

        def apply(connection: C) -> tuple[list[str], list[str]]:
            lapsed = self.queries.lapse(connection, overdue)
            return lapsed, self._release_all(connection, lapsed) if lapsed else []

        lapsed, queues = self.database.transact(apply)
        if queues:
            self._waiter.announce()
        return sorted({*over, *lapsed})

    def _release_all(self, connection: C, sessions: list[str]) -> list[str]:
        queues = self.queries.release_all(connection, sessions)
        if queues:
            self.queries.notify(connection, queues)
        return queues

    def close(self) -> None:
        self._waiter.close()
        self.database.close()


def _claimed(queue: str, found: Sequence[Taken]) -> list[Claimed]:
    return [
        Claimed(
            Claim(queue, str(row.id)),
            decode(row.body),
            row.deliveries,
            row.is_expired,
            MAX_PRIORITY - row.level,
        )
        for row in found
    ]


def _runs(messages: Sequence[Message], limits: Mapping[str, Limit]) -> list[list[Message]]:
    """Cut where it matters that one message comes before another; mostly nowhere.

    That is where the priority changes, in a queue that keeps what it pushes out, or counts bytes:
    what is pushed out is what it would be if each message came by itself, and in that order.
    """
    cutting = {
        queue
        for queue, limit in limits.items()
        if limit.keep_dropped or limit.max_bytes is not None
    }
    last: dict[str, int] = {}
    runs: list[list[Message]] = []
    for message in messages:
        is_cut = message.queue in cutting and (
            last.setdefault(message.queue, message.level) != message.level
        )
        last[message.queue] = message.level
        if is_cut or not runs:
            runs.append([])
        runs[-1].append(message)
    return runs
