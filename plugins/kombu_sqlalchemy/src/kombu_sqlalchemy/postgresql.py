"""PostgreSQL: a publish and a claim are one statement each, and commits wake who waits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

from sqlalchemy import Connection

from kombu_core.virtual.listening import channel_of
from kombu_core.virtual.store import Conflict
from kombu_core.virtual.tables import CLAIMED, DELAYED, READY, Bound, Message, Taken
from kombu_sqlalchemy.messages import DUE, IN_ORDER, Queries, in_order


class PostgreSQLQueries(Queries):
    """What PostgreSQL says in its own way. Lists are arrays."""

    share: ClassVar[str] = " FOR SHARE"
    update: ClassVar[str] = " FOR UPDATE"
    skip: ClassVar[str] = " FOR UPDATE SKIP LOCKED"

    def among(self, values: Iterable[Any]) -> list[Any]:
        return list(values)

    def fragment(self, kind: str, name: str) -> str:
        if kind == "among":
            # Numbers are the ids of messages; all else is text.
            array = "bigint[]" if name == "ids" else "text[]"
            return f"= ANY(CAST(:{name} AS {array}))"
        return f"unnest(CAST(:{name} AS text[])) AS j(q)"

    def channel(self, queue: str) -> str:
        """Return what is notified of a queue."""
        return channel_of(self.table, queue)

    def notify(self, connection: Connection, queues: Iterable[str]) -> None:
        # Equal notifications of one transaction are one.
        self.rows(
            connection,
            "SELECT pg_notify(j.q, '') FROM {each:channels}",
            channels=[self.channel(queue) for queue in set(queues)],
        )

    def publishes_alone(
        self, messages: Sequence[Message], expect: Sequence[tuple[str, int]]
    ) -> bool:
        return True

    def publish(
        self,
        connection: Connection,
        messages: Sequence[Message],
        expect: Sequence[tuple[str, int]],
    ) -> None:
        if (
            len(messages) == 1
            and len(expect) <= _MOST_GUARDS
            and self._publish_one(connection, messages[0], expect)
        ):
            return
        # Many, or a document moved, or is not there as it should be: this tells which.
        columns = list(zip(*messages, strict=True))
        queues, levels, delays, lives, sizes, bodies = map(list, columns)
        found = self.rows(
            connection,
            _PUBLISH,
            keys=[key for key, _ in expect],
            versions=[version for _, version in expect],
            queues=queues,
            levels=levels,
            delays=delays,
            lives=lives,
            sizes=sizes,
            bodies=bodies,
            channels=[self.channel(queue) for queue in set(queues)],
        )
        moved = found[0][0]
        if moved:
            raise Conflict(moved)

    def _publish_one(
        self, connection: Connection, message: Message, expect: Sequence[tuple[str, int]]
    ) -> bool:
        """Publish what most publish, in less time; False if a document is not as expected."""
        parameters: dict[str, Any] = {
            "queue": message.queue,
            "state": message.state,
            "level": message.level,
            "delay": message.delay,
            "life": message.life,
            "size": message.size,
            "body": message.body,
            "channel": self.channel(message.queue),
        }
        for number, (key, version) in enumerate(sorted(expect)):
            parameters[f"k{number}"], parameters[f"v{number}"] = key, version
        return bool(self.rows(connection, _PUBLISH_ONE[len(expect)], **parameters))

    def insert(self, connection: Connection, messages: Sequence[Message]) -> None:
        if messages:
            self.publish(connection, messages, ())

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


#: Guards of a publish of one message.
_MOST_GUARDS: Final = 8

_PUBLISH_ONE: Final = tuple(
    """
WITH put AS (
  INSERT INTO {messages} (queue, state, level, place, available_at, expires_at, size, body)
  SELECT CAST(:queue AS text), CAST(:state AS smallint), CAST(:level AS smallint),
    {now} + coalesce(CAST(:delay AS bigint), 0), {now} + CAST(:delay AS bigint),
    {now} + CAST(:life AS bigint), CAST(:size AS bigint), CAST(:body AS bytea)"""
    + "".join(
        f"""
  {"AND" if number else "WHERE"} EXISTS (SELECT FROM {{documents}}
    WHERE name = CAST(:k{number} AS text) AND version = CAST(:v{number} AS bigint) FOR SHARE)"""
        for number in range(count)
    )
    + """
  RETURNING queue
)
SELECT pg_notify(CAST(:channel AS text), '') FROM put
"""
    for count in range(_MOST_GUARDS + 1)
)

#: FOR SHARE waits for whoever changes a document just now, and then sees the new version: so this
#: is guarded by what is there when it is committed, whenever it began.
_PUBLISH: Final = f"""
WITH there AS MATERIALIZED (
  SELECT name, version FROM {{documents}} WHERE name = ANY(CAST(:keys AS text[]))
  ORDER BY name FOR SHARE
), moved AS MATERIALIZED (
  SELECT e.name FROM unnest(CAST(:keys AS text[]), CAST(:versions AS bigint[])) AS e(name, version)
  LEFT JOIN there ON there.name = e.name WHERE coalesce(there.version, 0) <> e.version
), put AS (
  INSERT INTO {{messages}} (queue, state, level, place, available_at, expires_at, size, body)
  SELECT p.queue, CASE WHEN p.delay IS NULL THEN {READY} ELSE {DELAYED} END, p.level,
    {{now}} + coalesce(p.delay, 0), {{now}} + p.delay, {{now}} + p.life, p.size, p.body
  FROM unnest(
    CAST(:queues AS text[]), CAST(:levels AS smallint[]), CAST(:delays AS bigint[]),
    CAST(:lives AS bigint[]), CAST(:sizes AS bigint[]), CAST(:bodies AS bytea[])
  ) WITH ORDINALITY AS p(queue, level, delay, life, size, body, number)
  WHERE NOT EXISTS (SELECT FROM moved) ORDER BY p.number
)
SELECT (SELECT array_agg(name) FROM moved),
  CASE WHEN NOT EXISTS (SELECT FROM moved) THEN pg_notify(j.q, '') END
FROM unnest(CAST(:channels AS text[])) AS j(q)
"""

#: The first in order, locked; all before the first fresh one expired, so those are among them.
_NEXT: Final = f"""
  SELECT id, level, place, expires_at FROM {{messages}}
  WHERE queue = :queue AND state = {READY}
  ORDER BY {IN_ORDER} LIMIT :limit FOR UPDATE SKIP LOCKED
"""

#: By whether it is of those that expired, and whether it is guarded.
_CLAIM: Final = {
    (is_bounded, is_guarded): f"""
WITH me AS MATERIALIZED (
  SELECT 1 FROM {{sessions}} WHERE name = :session AND NOT lapsed AND lease_end > {{now}} FOR SHARE
)
UPDATE {{messages}} SET state = {CLAIMED}, claimed_by = :session WHERE id = ANY(ARRAY(
  SELECT id FROM ({_NEXT}) AS next WHERE EXISTS (SELECT FROM me)
"""
    + is_bounded * "AND expires_at <= {now} AND (level, place, id) < (:level, :place, :id)"
    + is_guarded * f"AND NOT EXISTS ({DUE})"
    + """
))
RETURNING id, level, deliveries, coalesce(expires_at <= {now}, false), body, place
"""
    for is_bounded in (False, True)
    for is_guarded in (False, True)
}
