"""SQLite: one writer at a time, so nothing needs to be locked, and most is one statement."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

from sqlalchemy import Connection

from kombu_core.virtual.store import Conflict
from kombu_core.virtual.tables import CLAIMED, READY, Bound, Message, Taken
from kombu_sqlalchemy.messages import DUE, IN_ORDER, Queries, in_order
from kombu_sqlalchemy.schema import Tables

#: Guards of a publish that is one statement.
_MOST_GUARDS: Final = 8


class SQLiteQueries(Queries):
    """What SQLite says in its own way. Lists are JSON."""

    def __init__(self, tables: Tables, dialect: str) -> None:
        super().__init__(tables, dialect)
        self._names["last"] = f"sqlite_sequence WHERE name = '{tables.messages.name}'"

    def among(self, values: Iterable[Any]) -> str:
        return json.dumps(list(values), ensure_ascii=False)

    def fragment(self, kind: str, name: str) -> str:
        if kind == "among":
            return f"IN (SELECT value FROM json_each(:{name}))"
        return f"(SELECT value AS q FROM json_each(:{name})) AS j"

    def rows(self, connection: Connection, template: str, **parameters: Any) -> Sequence[Any]:
        # The driver knows `:name` itself; so SQLAlchemy need not look at the text.
        return connection.exec_driver_sql(self.sql(template).text, parameters).fetchall()

    def change(self, connection: Connection, template: str, **parameters: Any) -> int:
        return connection.exec_driver_sql(self.sql(template).text, parameters).rowcount

    def is_writing(self, connection: Connection) -> bool:
        # The driver begins a transaction before the first statement that writes.
        return bool(getattr(connection.connection.driver_connection, "in_transaction", False))

    def write_first(self, connection: Connection) -> None:
        self.change(connection, "UPDATE {meta} SET value = value WHERE name = 'counter'")

    def publishes_alone(
        self, messages: Sequence[Message], expect: Sequence[tuple[str, int]]
    ) -> bool:
        return len(messages) == 1 and len(expect) <= _MOST_GUARDS

    def publish(
        self,
        connection: Connection,
        messages: Sequence[Message],
        expect: Sequence[tuple[str, int]],
    ) -> None:
        if not self.publishes_alone(messages, expect):
            super().publish(connection, messages, expect)
            return
        (message,) = messages
        parameters: dict[str, Any] = {
            "queue": message.queue,
            "state": message.state,
            "level": message.level,
            "delay": message.delay,
            "life": message.life,
            "size": message.size,
            "body": message.body,
        }
        for number, (key, version) in enumerate(expect):
            parameters[f"k{number}"], parameters[f"v{number}"] = key, version
        # The lock for writing is taken before anything is read, so no document moves meanwhile.
        if not self.change(connection, _PUBLISH[len(expect)], **parameters):
            self.check(connection, expect)
            raise Conflict(key for key, _ in expect)

    def insert(self, connection: Connection, messages: Sequence[Message]) -> None:
        if not messages:
            return
        ((now, first),) = self.rows(connection, f"SELECT {{now}}, ({_NEXT})")
        rows = []
        for id_, message in enumerate(messages, first):
            queue, level, delay, life, size, body = message
            due = None if delay is None else now + delay
            end = None if life is None else now + life
            rows.append((id_, due or id_, queue, message.state, level, due, end, size, body))
        connection.exec_driver_sql(self.sql(_INSERT).text, rows)

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
        found = self.rows(
            connection,
            _CLAIM[before is not None, is_guarded],
            queue=queue,
            session=session,
            limit=limit,
            **({} if before is None else before._asdict()),
        )
        return in_order(found)

    insert_lapsed: ClassVar[str] = (
        "INSERT OR IGNORE INTO {sessions} (name, lease_end, lapsed) VALUES (:session, 0, true)"
    )


#: A number that no message had yet, and not before the present: so it is a place as well. It is
#: counted from the last one that there ever was, which SQLite keeps for the table.
_NEXT: Final = "SELECT max({now}, coalesce((SELECT seq FROM {last}), 0) + 1) AS id"

_COLUMNS: Final = "id, place, queue, state, level, deliveries, available_at, expires_at, size, body"

_INSERT: Final = f"INSERT INTO {{messages}} ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, ?)"

_PUBLISH: Final = tuple(
    f"INSERT INTO {{messages}} ({_COLUMNS}) "
    "SELECT next.id, coalesce({now} + :delay, next.id), :queue, :state, :level, 0, "
    f"{{now}} + :delay, {{now}} + :life, :size, :body FROM ({_NEXT}) AS next"
    + "".join(
        f"{' AND' if number else ' WHERE'} "
        f"coalesce((SELECT version FROM {{documents}} WHERE name = :k{number}), 0) = :v{number}"
        for number in range(count)
    )
    for count in range(_MOST_GUARDS + 1)
)

#: By whether it is of those that expired, and whether it is guarded.
_CLAIM: Final = {
    (is_bounded, is_guarded): (
        f"UPDATE {{messages}} SET state = {CLAIMED}, claimed_by = :session WHERE id IN "
        f"(SELECT id FROM {{messages}} WHERE queue = :queue AND state = {READY}"
        + is_bounded
        * " AND expires_at <= {now} AND (level, place, id) < (:level, :place, :id)"
        + f" ORDER BY {IN_ORDER} LIMIT :limit) "
        "AND EXISTS (SELECT 1 FROM {sessions} WHERE name = :session AND NOT lapsed "
        "AND lease_end > {now})"
        + is_guarded * f" AND NOT EXISTS ({DUE})"
        + " RETURNING id, level, deliveries, coalesce(expires_at <= {now}, 0), body, place"
    )
    for is_bounded in (False, True)
    for is_guarded in (False, True)
}
