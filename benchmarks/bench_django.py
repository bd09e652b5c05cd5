"""The Django transport beside kombu's SQLAlchemy transport, and under load.

PostgreSQL runs with fsync and synchronous_commit on. SQLite is measured with `synchronous` FULL,
which kombu uses as well, and with NORMAL. The bare drivers are those of the SQLAlchemy benchmark.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import django
from bench_scale import depth
from bench_sqlalchemy import _BarePostgreSQL, _BareSQLite, _compare, _idle, _wake_up
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from harness import BODY, Row

import kombu_core
from kombu_core.exceptions import NothingCameError
from kombu_core.testing.brokers import PostgresServer

DEPTHS: Final = (1_000, 1_000_000)
MANY: Final = 200_000
#: Messages for each crowd of consumers, and what a handler waits for besides computing.
SHARED, HANDLER_SECONDS = 20_000, 0.001

POSTGRESQL: Final = "django://postgresql"
LEVELS: Final = ("FULL", "NORMAL")
TABLE: Final = "kombu_django_message"

Databases = dict[str, dict[str, Any]]


def rows(rounds: int) -> list[Row]:
    """Measure speed, idle consumers, deep queues, several consumers, and how tables grow."""
    with (
        PostgresServer(config={"fsync": "on"}) as server,
        tempfile.TemporaryDirectory() as directory,
    ):
        databases = _databases(server.url, Path(directory))
        set_up(databases)
        for alias in databases:
            call_command("migrate", database=alias, verbosity=0)
        found = _beside_kombu(server.url, Path(directory), rounds)
        found += depth("django, sqlite", "django://sqlite_full", rounds, DEPTHS, count=500)
        found += depth("django, postgresql", POSTGRESQL, rounds, DEPTHS, count=500)
        for kind, seconds in (("", 0.0), (", 1 ms of waiting in each handler", HANDLER_SECONDS)):
            for consumers in (1, 4):
                rate = _shared(databases, consumers, seconds)
                name = f"django, postgresql {consumers} consumer processes{kind}"
                found.append(Row(name, rate))
        found += _through()
        connections.close_all()
    return found


def _databases(url: str, directory: Path) -> Databases:
    parts = urlsplit(url)
    found: Databases = {
        "postgresql": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": parts.hostname,
            "PORT": parts.port,
            "USER": parts.username or "",
            "PASSWORD": parts.password or "",
            "NAME": parts.path.strip("/"),
        }
    }
    for level in LEVELS:
        found[f"sqlite_{level.lower()}"] = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(directory / f"{level}.db"),
        }
    return found


def set_up(databases: Databases) -> None:
    """Set Django up with these databases."""
    settings.configure(
        DATABASES={"default": {}, **databases}, INSTALLED_APPS=["kombu_django"], USE_TZ=True
    )
    django.setup()


def _beside_kombu(url: str, directory: Path, rounds: int) -> list[Row]:
    """Publish, publish in batches, consume; and how fast an idle consumer wakes."""
    theirs = url.replace("postgresql://", "sqlalchemy+postgresql+psycopg://")
    bare = _BarePostgreSQL(url)
    goals = (2.5, 40.0, 25.0)
    found = _compare("django, postgresql", POSTGRESQL, {}, theirs, bare, rounds, goals)
    bare.close()
    found += _waiting("postgresql", POSTGRESQL, {})
    for level in LEVELS:
        ours = f"django://sqlite_{level.lower()}"
        options = {"synchronous": level}
        theirs = f"sqlalchemy+sqlite:///{directory}/theirs-{level}.db"
        lite = _BareSQLite(directory / f"bare-{level}.db", level)
        goals = (10.0, 60.0, 40.0)
        found += _compare(f"django, sqlite, {level},", ours, options, theirs, lite, rounds, goals)
        lite.close()
        if level == "FULL":
            found += _waiting("sqlite", ours, options)
    return found


def _waiting(name: str, url: str, options: dict[str, Any]) -> list[Row]:
    return [
        Row(f"django, {name} wake-up", _wake_up(url, options), unit="s"),
        Row(f"django, {name} processor time of 5 s idle", _idle(url), unit="s"),
    ]


def _shared(databases: Databases, consumers: int, seconds: float) -> float:
    """Messages per second from the moment all are ready to the last one that is settled."""
    count = SHARED if not seconds else SHARED // 2
    context = multiprocessing.get_context("spawn")
    with kombu_core.Connection(POSTGRESQL) as connection:
        _fill(connection, "shared", count)
        begin = context.Barrier(consumers + 1)
        finished: SimpleQueue[float] = context.SimpleQueue()
        arguments = (databases, seconds, begin, finished)
        workers = [context.Process(target=_consume, args=arguments) for _ in range(consumers)]
        for worker in workers:
            worker.start()
        begin.wait()
        started = time.monotonic()
        taken = max(finished.get() for _ in workers) - started
        for worker in workers:
            worker.join()
        assert kombu_core.Queue("shared")(connection).get() is None
    return count / taken


def _consume(
    databases: Databases, seconds: float, begin: Barrier, finished: SimpleQueue[float]
) -> None:
    """Consume until nothing comes any more; tell when the last one was settled."""
    set_up(databases)
    last = 0.0

    def handle(message: kombu_core.Message) -> None:
        nonlocal last
        if seconds:
            time.sleep(seconds)
        message.ack()
        last = time.monotonic()

    with kombu_core.Connection(POSTGRESQL) as connection:
        connection.connect()
        begin.wait()
        queue = kombu_core.Queue("shared")
        with connection.Consumer([queue], on_message=handle, prefetch_count=100):
            try:
                while True:
                    connection.drain_events(timeout=0.5)
            except NothingCameError:
                finished.put(last)


def _through() -> list[Row]:
    """Many messages in and out, and the size of their table before and after."""
    with kombu_core.Connection(POSTGRESQL) as connection:
        before = _size("VACUUM FULL")
        started = time.perf_counter()
        for _ in range(10):
            _fill(connection, "through", MANY // 10)
            left = MANY // 10

            def handle(message: kombu_core.Message) -> None:
                nonlocal left
                left -= 1
                message.ack()

            queue = kombu_core.Queue("through")
            with connection.Consumer([queue], on_message=handle, prefetch_count=500):
                while left:
                    connection.drain_events(timeout=10)
        rate = MANY / (time.perf_counter() - started)
        after = _size("VACUUM")
    return [
        Row(f"django, postgresql {MANY:,} messages, in and out", rate),
        Row("django, postgresql table of messages before, bytes", before, unit=""),
        Row("django, postgresql table of messages after (vacuumed), bytes", after, unit=""),
    ]


def _size(vacuum: str) -> float:
    with connections["postgresql"].cursor() as cursor:
        cursor.execute(f"{vacuum} {TABLE}")
        cursor.execute("SELECT pg_total_relation_size(%s)", [TABLE])
        return float(cursor.fetchone()[0])


def _fill(connection: kombu_core.Connection, name: str, count: int) -> None:
    kombu_core.Queue(name)(connection).declare()
    producer = connection.Producer(routing_key=name, serializer="json")
    with producer.batch():
        for _ in range(count):
            producer.publish(BODY)
