"""The bare drivers of databases with the same statements: a row for each message, and no more."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import psycopg
from harness import BODY

#: Messages in one statement, and in one claim.
BATCH: Final = 500
PREFETCH: Final = 100


class Bare(Protocol):
    """A driver without anything around it."""

    def publish(self, count: int) -> None: ...

    def publish_batch(self, count: int) -> None: ...

    def consume(self, count: int) -> None: ...

    def purge(self) -> None: ...


class BarePostgreSQL:
    """psycopg: a row for each message, claimed and then deleted."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS bare "
            "(id bigserial PRIMARY KEY, claimed_by text, body bytea NOT NULL)"
        )

    def publish(self, count: int) -> None:
        for _ in range(count):
            body = json.dumps(BODY).encode()
            self._connection.execute("INSERT INTO bare (body) VALUES (%s)", (body,))

    def publish_batch(self, count: int) -> None:
        for _ in range(0, count, BATCH):
            bodies = [json.dumps(BODY).encode() for _ in range(BATCH)]
            self._connection.execute(
                "INSERT INTO bare (body) SELECT unnest(CAST(%s AS bytea[]))", (bodies,)
            )

    def consume(self, count: int) -> None:
        left = count
        while left:
            left -= self.consume_some()

    def consume_some(self, handle: Callable[[], object] | None = None) -> int:
        """Claim, handle and delete; return how many there were."""
        got = self._connection.execute(
            "UPDATE bare SET claimed_by = 'me' WHERE id = ANY(ARRAY(SELECT id FROM bare "
            "WHERE claimed_by IS NULL ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)) "
            "RETURNING id, body",
            (PREFETCH,),
        ).fetchall()
        for _, body in got:
            json.loads(body)
            if handle:
                handle()
        ids = [id_ for id_, _ in got]
        self._connection.execute("DELETE FROM bare WHERE id = ANY(%s)", (ids,))
        return len(got)

    def purge(self) -> None:
        self._connection.execute("TRUNCATE bare")

    def close(self) -> None:
        self._connection.close()


class BareSQLite:
    """sqlite3: a row for each message, claimed and then deleted."""

    def __init__(self, path: Path, level: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(f"PRAGMA synchronous = {level}")
        self._connection.execute(
            "CREATE TABLE bare (id INTEGER PRIMARY KEY AUTOINCREMENT, claimed_by TEXT, body BLOB)"
        )

    def publish(self, count: int) -> None:
        for _ in range(count):
            body = json.dumps(BODY).encode()
            self._connection.execute("INSERT INTO bare (body) VALUES (?)", (body,))

    def publish_batch(self, count: int) -> None:
        for _ in range(0, count, BATCH):
            bodies = [(json.dumps(BODY).encode(),) for _ in range(BATCH)]
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT INTO bare (body) VALUES (?)", bodies)
            self._connection.execute("COMMIT")

    def consume(self, count: int) -> None:
        left = count
        while left:
            got = self._connection.execute(
                "UPDATE bare SET claimed_by = 'me' WHERE id IN (SELECT id FROM bare "
                "WHERE claimed_by IS NULL ORDER BY id LIMIT ?) RETURNING id, body",
                (PREFETCH,),
            ).fetchall()
            for _, body in got:
                json.loads(body)
            ids = json.dumps([id_ for id_, _ in got])
            self._connection.execute(
                "DELETE FROM bare WHERE id IN (SELECT value FROM json_each(?))", (ids,)
            )
            left -= len(got)

    def purge(self) -> None:
        self._connection.execute("DELETE FROM bare")

    def close(self) -> None:
        self._connection.close()
