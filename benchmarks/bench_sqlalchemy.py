"""The SQLAlchemy transport beside kombu's, and beside the drivers with the same statements.

PostgreSQL runs with fsync and synchronous_commit on. SQLite is measured with `synchronous` FULL,
which kombu uses as well, and with NORMAL.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import kombu
import psycopg
from harness import BODY, Row, medians, rates
from rivals import Rival

import kombu_core
from kombu_core.testing.brokers import PostgresServer

PUBLISHED = 1_000
BATCHED = 10_000
CONSUMED = 10_000
#: kombu needs longer for less.
PUBLISHED_BY_KOMBU = 300
BATCHED_BY_KOMBU = 500
CONSUMED_BY_KOMBU = 300

BATCH = 500
PREFETCH = 100


def rows(rounds: int) -> list[Row]:
    """Measure publish, batched publish, consume, and how fast an idle consumer wakes."""
    found: list[Row] = []
    with PostgresServer(config={"fsync": "on"}) as server:
        ours = f"sqlalchemy+{server.url}"
        theirs = server.url.replace("postgresql://", "sqlalchemy+postgresql+psycopg://")
        options = {"create_tables": True}
        bare = BarePostgreSQL(server.url)
        found += _compare("postgresql", ours, options, theirs, bare, rounds, (2.5, 40.0, 25.0))
        bare.close()
        found.append(Row("postgresql wake-up", _wake_up(ours, options), unit="s"))
        found.append(Row("postgresql processor time of 5 s idle", _idle(ours), unit="s"))
    for level in ("FULL", "NORMAL"):
        with _directory() as directory:
            ours = f"sqlalchemy+sqlite:///{directory}/ours.db"
            theirs = f"sqlalchemy+sqlite:///{directory}/theirs.db"
            lite = _BareSQLite(directory / "bare.db", level)
            options = {"synchronous": level}
            name = f"sqlite, {level},"
            found += _compare(name, ours, options, theirs, lite, rounds, (10.0, 60.0, 40.0))
            lite.close()
            if level == "FULL":
                found.append(Row("sqlite wake-up", _wake_up(ours, options), unit="s"))
                found.append(Row("sqlite processor time of 5 s idle", _idle(ours), unit="s"))
    return found


class _Bare(Protocol):
    """A driver without anything around it."""

    def publish(self, count: int) -> None: ...

    def publish_batch(self, count: int) -> None: ...

    def consume(self, count: int) -> None: ...

    def purge(self) -> None: ...


def _compare(
    name: str,
    our_url: str,
    options: dict[str, Any],
    their_url: str,
    bare: _Bare,
    rounds: int,
    goals: tuple[float, float, float],
) -> list[Row]:
    ours = Rival(kombu_core, our_url, "bench", transport_options=options)
    theirs = Rival(kombu, their_url, "kombu-bench")
    published, batched, consumed = [], [], []
    for _ in range(rounds):
        published.append(
            [
                *rates(PUBLISHED, 1, ours.publish),
                *rates(PUBLISHED_BY_KOMBU, 1, theirs.publish),
                *rates(PUBLISHED, 1, bare.publish),
            ]
        )
        batched.append(
            [
                *rates(BATCHED, 1, ours.publish_batch),
                *rates(BATCHED_BY_KOMBU, 1, theirs.publish_batch),
                *rates(BATCHED, 1, bare.publish_batch),
            ]
        )
        for rival in (ours, theirs, bare):
            rival.purge()
        ours.fill(CONSUMED)
        bare.publish_batch(CONSUMED)
        theirs.publish(CONSUMED_BY_KOMBU)
        consumed.append(
            [
                *rates(CONSUMED, 1, ours.consume),
                *rates(CONSUMED_BY_KOMBU, 1, theirs.consume),
                *rates(CONSUMED, 1, bare.consume),
            ]
        )
    ours.close()
    theirs.connection.release()
    return [
        Row(f"{name} publish, each confirmed", *medians(published), goal=goals[0]),
        Row(f"{name} publish in batches", *medians(batched), goal=goals[1]),
        Row(f"{name} consume + ack, prefetch 100", *medians(consumed), goal=goals[2]),
    ]


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


class _BareSQLite:
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


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def _wake_up(url: str, options: dict[str, Any]) -> float:
    """Seconds from a publish to the callback of an idle consumer in this process: the median."""
    taken: list[float] = []
    received = threading.Event()

    def on_message(message: kombu_core.Message) -> None:
        taken.append(time.perf_counter() - float(message.body))
        received.set()

    def consume() -> None:
        with kombu_core.Connection(url, transport_options=options) as connection:
            queue = kombu_core.Queue("wake")
            with connection.Consumer([queue], on_message=on_message, no_ack=True):
                received.set()
                while len(taken) < 30:
                    connection.drain_events(timeout=10)

    thread = threading.Thread(target=consume)
    thread.start()
    with kombu_core.Connection(url, transport_options=options) as connection:
        producer = connection.Producer()
        for _ in range(30):
            received.wait()
            received.clear()
            time.sleep(0.1)  # Let the consumer fall asleep.
            producer.publish(str(time.perf_counter()), "wake")
        thread.join()
    return sorted(taken)[len(taken) // 2]


def _idle(url: str) -> float:
    """Processor seconds of this process while a consumer waits for 5 seconds."""
    with kombu_core.Connection(url) as connection:
        queue = kombu_core.Queue("idle")
        with connection.Consumer([queue], on_message=print, no_ack=True):
            started = time.process_time()
            try:
                connection.drain_events(timeout=5)
            except TimeoutError:
                pass
            return time.process_time() - started
