"""SQLite: one writer at a time, so nothing needs to be locked, and most is one statement."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

from sqlalchemy import Connection

from kombu_core.virtual.store import Conflict
from kombu_core.virtual.tables import CLAIMED, DELAYED, READY, Bound, Message, Taken
from kombu_sqlalchemy.messages import Queries, taken

#: Guards of a publish that is one statement.
_MOST_GUARDS: Final = 8


class SQLiteQueries(Queries):
    """What SQLite says in its own way. Lists are JSON."""

    def among(self, values: Iterable[Any]) -> str:
        return json.dumps(list(values), ensure_ascii=False)

    def fragment(self, kind: str, name: str) -> str:
        if kind == "among":
            return f"IN (SELECT value FROM json_each(:{name}))"
        return f"(SELECT value AS q FROM json_each(:{name})) AS j"

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

    def claim(
        self,
        connection: Connection,
        queue: str,
        session: str,
        limit: int,
        *,
        before: Bound | None = None,
    ) -> list[Taken]:
        level, id_ = before or (None, None)
        found = self.rows(
            connection,
            _CLAIM if before is None else _CLAIM_EXPIRED,
            queue=queue,
            session=session,
            limit=limit,
            **({} if before is None else {"before": level, "before_id": id_}),
        )
        return sorted(map(taken, found), key=lambda row: (row.level, row.id))

    insert_lapsed: ClassVar[str] = (
        "INSERT OR IGNORE INTO {sessions} (name, lease_end, lapsed) VALUES (:session, 0, true)"
    )


_PUBLISH: Final = tuple(
    "INSERT INTO {messages} (queue, state, level, deliveries, available_at, expires_at, size, "
    "body) SELECT :queue, :state, :level, 0, {now} + :delay, {now} + :life, :size, :body"
    + "".join(
        f"{' AND' if number else ' WHERE'} "
        f"coalesce((SELECT version FROM {{documents}} WHERE name = :k{number}), 0) = :v{number}"
        for number in range(count)
    )
    for count in range(_MOST_GUARDS + 1)
)

_CLAIM_PARTS: Final = (
    f"UPDATE {{messages}} SET state = {CLAIMED}, claimed_by = :session WHERE id IN "
    f"(SELECT id FROM {{messages}} WHERE queue = :queue AND state = {READY}",
    " ORDER BY level, id LIMIT :limit) "
    "AND EXISTS (SELECT 1 FROM {sessions} WHERE name = :session AND NOT lapsed "
    "AND lease_end > {now}) "
    f"AND NOT EXISTS (SELECT 1 FROM {{messages}} WHERE queue = :queue AND state = {DELAYED} "
    "AND available_at <= {now}) "
    "RETURNING id, level, deliveries, coalesce(expires_at <= {now}, 0), body",
)
_CLAIM: Final = "".join(_CLAIM_PARTS)
_CLAIM_EXPIRED: Final = " AND expires_at <= {now} AND (level, id) < (:before, :before_id)".join(
    _CLAIM_PARTS
)
