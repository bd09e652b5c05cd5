"""MariaDB and MySQL: locks and changes are statements of their own, so all is in transactions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar

from sqlalchemy import Connection

from kombu_core.virtual.tables import CLAIMED, READY, Bound, Taken
from kombu_sqlalchemy.messages import DUE, IN_ORDER, Queries, taken


class MySQLQueries(Queries):
    """What both say in their own way. Lists are written out; names are bytes."""

    # MySQL 8 knows FOR SHARE, MariaDB does not, and both know this.
    share: ClassVar[str] = " LOCK IN SHARE MODE"
    update: ClassVar[str] = " FOR UPDATE"
    skip: ClassVar[str] = " FOR UPDATE SKIP LOCKED"
    expands: ClassVar[bool] = True
    claims_alone: ClassVar[bool] = False

    upsert: ClassVar[str] = (
        "INSERT INTO {documents} (name, version, value) VALUES (:name, :version, :value) "
        "ON DUPLICATE KEY UPDATE version = VALUES(version), value = VALUES(value)"
    )
    upsert_session: ClassVar[str] = (
        "INSERT INTO {sessions} (name, lease_end, lapsed) VALUES (:session, {now} + :ttl, false) "
        "ON DUPLICATE KEY UPDATE lease_end = VALUES(lease_end), lapsed = false"
    )
    insert_lapsed: ClassVar[str] = (
        "INSERT IGNORE INTO {sessions} (name, lease_end, lapsed) VALUES (:session, 0, true)"
    )

    def among(self, values: Iterable[Any]) -> list[Any]:
        return list(values)

    def fragment(self, kind: str, name: str) -> str:
        if kind == "among":
            return f"IN :{name}"
        return f"JSON_TABLE(:{name}, '$[*]' COLUMNS (q VARCHAR(1100) PATH '$')) AS j"

    def each(self, values: Iterable[Any]) -> Any:
        return json.dumps(list(values))

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
        if not self.rows(
            connection,
            "SELECT 1 FROM {sessions} WHERE name = :session AND NOT lapsed AND lease_end > {now}"
            "{share}",
            session=session,
        ) or (is_guarded and self.rows(connection, DUE, queue=queue)):
            return []
        bound = "" if before is None else _BOUND
        found = self.rows(
            connection,
            "SELECT id, level, deliveries, coalesce(expires_at <= {now}, 0), body "
            f"FROM {{messages}} WHERE queue = :queue AND state = {READY}{bound} "
            f"ORDER BY {IN_ORDER} LIMIT :limit{{skip}}",
            queue=queue,
            limit=limit,
            **({} if before is None else before._asdict()),
        )
        if found:
            self.change(
                connection,
                f"UPDATE {{messages}} SET state = {CLAIMED}, claimed_by = :session "
                "WHERE id {among:ids}",
                ids=[row[0] for row in found],
                session=session,
            )
        return [taken(row) for row in found]


_BOUND = (
    " AND expires_at <= {now} AND (level < :level OR level = :level AND "
    "(place < :place OR place = :place AND id < :id))"
)
