"""The statements about messages: in, out, settled, counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

from sqlalchemy import Connection

from kombu_core.virtual.tables import (
    CLAIMED,
    DELAYED,
    MAX_PRIORITY,
    PROMOTED,
    READY,
    Bound,
    Message,
    QueueState,
    Taken,
)
from kombu_sqlalchemy.documents import DocumentQueries
from kombu_sqlalchemy.sessions import SessionQueries

#: The order of the ready messages of a queue: their places are by the database's clock, and where
#: that tells no difference their ids do.
IN_ORDER: Final = "level, place, id"
#: A message that is due, and not ready yet.
DUE: Final = (
    f"SELECT 1 FROM {{messages}} WHERE queue = :queue AND state = {DELAYED} "
    "AND available_at <= {now} LIMIT 1"
)
#: When the first delayed message is due. MariaDB looks at all of them for their minimum.
_FIRST_DUE: Final = (
    f"(SELECT m.available_at FROM {{messages}} m WHERE m.queue = j.q AND m.state = {DELAYED} "
    "ORDER BY m.available_at LIMIT 1)"
)


class Queries(DocumentQueries, SessionQueries):
    """All statements of the store."""

    #: Whether `claim` needs no transaction around it.
    claims_alone: ClassVar[bool] = True

    def is_writing(self, connection: Connection) -> bool:
        """Whether nobody else may write while this connection's transaction lasts."""
        return False

    def write_first(self, connection: Connection) -> None:
        """Make sure, before the first look, that nothing moves until the transaction's end."""

    def publishes_alone(
        self, messages: Sequence[Message], expect: Sequence[tuple[str, int]]
    ) -> bool:
        """Whether `publish` needs no transaction around it for these."""
        return False

    def publish(
        self,
        connection: Connection,
        messages: Sequence[Message],
        expect: Sequence[tuple[str, int]],
    ) -> None:
        """Insert messages, guarded by documents; in a transaction, unless `publishes_alone`.

        Raises:
            Conflict: A document moved; nothing was done.
        """
        self.check(connection, expect)
        self.insert(connection, messages)

    def insert(self, connection: Connection, messages: Sequence[Message]) -> None:
        """Insert messages, in order."""
        ((now,),) = self.rows(connection, "SELECT {now}")
        connection.execute(
            self.sql(
                "INSERT INTO {messages} "
                "(queue, state, level, place, deliveries, available_at, expires_at, size, body) "
                "VALUES (:queue, :state, :level, :place, :deliveries, :available_at, :expires_at, "
                ":size, :body)"
            ),
            [
                {
                    "queue": message.queue,
                    "state": message.state,
                    "level": message.level,
                    "place": now + (message.delay or 0),
                    "deliveries": 0,
                    "available_at": None if message.delay is None else now + message.delay,
                    "expires_at": None if message.life is None else now + message.life,
                    "size": message.size,
                    "body": message.body,
                }
                for message in messages
            ],
        )

    def notify(self, connection: Connection, queues: Iterable[str]) -> None:
        """Wake who waits for these queues when the transaction is committed, where that goes."""

    def promote(self, connection: Connection, queue: str) -> int:
        """Make delayed messages ready whose time has come; they have their places already."""
        due = self.rows(
            connection,
            f"SELECT id FROM {{messages}} WHERE queue = :queue AND state = {DELAYED} AND "
            f"available_at <= {{now}} ORDER BY available_at, id LIMIT {PROMOTED}{{skip}}",
            queue=queue,
        )
        ids = self.among(id_ for (id_,) in due)
        if due:
            self.change(
                connection,
                f"UPDATE {{messages}} SET state = {READY}, available_at = NULL "
                "WHERE id {among:ids}",
                ids=ids,
            )
        return len(due)

    # -- messages out ----------------------------------------------------------------------

    def claim(
        self,
        connection: Connection,
        queue: str,
        session: str,
        limit: int,
        *,
        before: Bound | None = None,
        is_guarded: bool = True,
    ) -> list[Taken]:
        """Lease the next ready messages; none if the session is over.

        `before` takes only those that expired and whose place is before it; `is_guarded` takes
        none if delayed ones are due, which might come first.
        """
        raise NotImplementedError

    def peek(self, connection: Connection, queues: Iterable[str]) -> list[QueueState]:
        """Tell what there is to do in queues."""
        found = self.rows(
            connection,
            "SELECT j.q, EXISTS (SELECT 1 FROM {messages} m WHERE m.queue = j.q AND m.state = "
            f"{READY}), {_FIRST_DUE} - {{now}} FROM {{each:queues}}",
            queues=self.each(queues),
        )
        return [QueueState(self.name(queue), bool(ready), due) for queue, ready, due in found]

    def heads(self, connection: Connection, queues: Iterable[str]) -> list[str]:
        """Return the queues whose first message expired, or which have messages that are due."""
        found = self.rows(
            connection,
            "SELECT j.q FROM {each:queues} WHERE (SELECT m.expires_at FROM {messages} m "
            f"WHERE m.queue = j.q AND m.state = {READY} ORDER BY {IN_ORDER} LIMIT 1) <= {{now}} "
            f"OR {_FIRST_DUE} <= {{now}}",
            queues=self.each(queues),
        )
        return [self.name(queue) for (queue,) in found]

    def first_fresh(self, connection: Connection, queue: str) -> Bound:
        """Return the place of the first ready message that did not expire."""
        found = self.rows(
            connection,
            f"SELECT {IN_ORDER} FROM {{messages}} WHERE queue = :queue AND state = {READY} "
            f"AND (expires_at IS NULL OR expires_at > {{now}}) ORDER BY {IN_ORDER} LIMIT 1",
            queue=queue,
        )
        return Bound(*found[0]) if found else Bound(MAX_PRIORITY + 1, 0, 0)

    def lease(
        self, connection: Connection, queue: str, session: str, count: int, *, keep: bool
    ) -> list[Taken]:
        """Take what would be delivered next, for a session or (not `keep`) to delete it."""
        found = self.rows(
            connection,
            "SELECT id, level, deliveries, 0, body FROM {messages} "
            f"WHERE queue = :queue AND state = {READY} ORDER BY {IN_ORDER} "
            "LIMIT :count{update}",
            queue=queue,
            count=count,
        )
        ids = self.among(row[0] for row in found)
        if found and keep:
            self.change(
                connection,
                f"UPDATE {{messages}} SET state = {CLAIMED}, claimed_by = :session "
                "WHERE id {among:ids}",
                ids=ids,
                session=session,
            )
        elif found:
            self.change(connection, "DELETE FROM {messages} WHERE id {among:ids}", ids=ids)
        return [taken(row) for row in found]

    # -- settling --------------------------------------------------------------------------

    def acknowledge(self, connection: Connection, ids: Iterable[int], session: str) -> int:
        """Delete what a session claimed; returns how many there were."""
        return self.change(
            connection,
            "DELETE FROM {messages} WHERE id {among:ids} AND claimed_by = :session",
            ids=self.among(ids),
            session=session,
        )

    def release(
        self, connection: Connection, ids: Iterable[int], session: str, *, is_delivered: bool
    ) -> None:
        """Give back what a session claimed, at its old place."""
        self.change(
            connection,
            f"UPDATE {{messages}} SET state = {READY}, claimed_by = NULL, "
            "deliveries = deliveries + :more WHERE id {among:ids} AND claimed_by = :session",
            ids=self.among(ids),
            more=int(is_delivered),
            session=session,
        )

    def held(self, connection: Connection, ids: Iterable[int], session: str) -> set[int]:
        """Return and lock those messages that a session has."""
        found = self.rows(
            connection,
            "SELECT id FROM {messages} WHERE id {among:ids} AND claimed_by = :session "
            "ORDER BY id{update}",
            ids=self.among(ids),
            session=session,
        )
        return {id_ for (id_,) in found}

    # -- whole queues ----------------------------------------------------------------------

    def count(self, connection: Connection, queue: str) -> dict[int, int]:
        """Return the number of messages by state; what is due is ready."""
        # One by one, for there is an index for each state.
        ((ready, due, delayed, claimed),) = self.rows(connection, _COUNT, queue=queue)
        return {READY: ready + due, DELAYED: delayed - due, CLAIMED: claimed}

    def length(self, connection: Connection, queue: str, most: int | None) -> tuple[int, int]:
        """Return number and bytes of the ready messages; looks at no more than `most`."""
        end = "" if most is None else f" LIMIT {most:d}"
        ((number, size),) = self.rows(
            connection,
            "SELECT count(*), coalesce(sum(m.size), 0) FROM (SELECT size FROM {messages} "
            f"WHERE queue = :queue AND state = {READY} ORDER BY {IN_ORDER}{end}) AS m",
            queue=queue,
        )
        return int(number), int(size)

    def purge(self, connection: Connection, queue: str) -> int:
        """Delete what is ready or due; in a transaction."""
        return sum(
            self.change(
                connection,
                f"DELETE FROM {{messages}} WHERE queue = :queue AND state = {state}",
                queue=queue,
            )
            for state in (READY, f"{DELAYED} AND available_at <= {{now}}")
        )

    def drop(self, connection: Connection, queues: Iterable[str]) -> None:
        """Delete all there is of queues; in a transaction."""
        names = self.among(queues)
        for state in (READY, DELAYED, CLAIMED):
            self.change(
                connection,
                f"DELETE FROM {{messages}} WHERE queue {{among:queues}} AND state = {state}",
                queues=names,
            )


def taken(row: Sequence[Any]) -> Taken:
    """Make it from a row in this order of columns."""
    id_, level, deliveries, is_expired, body = row
    return Taken(id_, level, deliveries, bool(is_expired), bytes(body))


def in_order(rows: Iterable[Sequence[Any]]) -> list[Taken]:
    """Make them from rows that have the place at their end and came in any order."""
    found = sorted(rows, key=lambda row: (row[1], row[5], row[0]))
    return [taken(row[:5]) for row in found]


_COUNT: Final = "SELECT " + ", ".join(
    f"(SELECT count(*) FROM {{messages}} WHERE queue = :queue AND state = {state})"
    for state in (READY, f"{DELAYED} AND available_at <= {{now}}", DELAYED, CLAIMED)
)
