"""Databases under load: deep queues, several consumers, and a million messages through."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from bench_scale import depth
from bench_sqlalchemy import PREFETCH, BarePostgreSQL
from harness import BODY, Row
from sqlalchemy import Connection, Engine, create_engine

import kombu_core
from kombu_core.exceptions import NothingCameError
from kombu_core.testing.brokers import PostgresServer

DEPTHS = (1_000, 1_000_000)
MANY = 1_000_000
#: Messages for each crowd of consumers, and what a handler waits for besides computing.
SHARED, HANDLER_SECONDS = 40_000, 0.001


def rows(rounds: int) -> list[Row]:
    """Measure; rows of one kind are to be compared with each other."""
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "depth.db")
        url = f"sqlalchemy+sqlite:///{file}"
        found += depth("sqlite", url, rounds, DEPTHS, count=500)
        engine = create_engine(f"sqlite:///{file}", isolation_level="AUTOCOMMIT")
        found += _through("sqlite", url, engine, lambda connection: file.stat().st_size)
    with PostgresServer() as server:
        url = f"sqlalchemy+{server.url}?kombu_create_tables=true"
        found += depth("postgresql", url, rounds, DEPTHS, count=500)
        found += _crowds(url, server.url)
        engine = create_engine(
            server.url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
        )
        found += _through("postgresql", url, engine, _postgresql_size)
    return found


def _crowds(url: str, bare: str) -> list[Row]:
    """One and four processes that consume from one queue, with two kinds of handlers."""
    found = []
    for kind, seconds in (("", 0.0), (", 1 ms of waiting in each handler", HANDLER_SECONDS)):
        for consumers in (1, 4):
            ours = _shared(consumers, seconds, _consume, url, partial(_fill, url))
            raw = _shared(consumers, seconds, _consume_bare, bare, partial(_fill_bare, bare))
            word = "process" if consumers == 1 else "processes"
            name = f"postgresql consumed by {consumers} {word}{kind}"
            found.append(Row(name, ours, raw=raw))
    return found


def _shared(
    consumers: int,
    seconds: float,
    consume: Callable[[str, float, Barrier, SimpleQueue[float]], None],
    url: str,
    fill: Callable[[str, int], object],
) -> float:
    """Messages per second, from the moment all consumers are ready to the last one's last ack."""
    count = SHARED if not seconds else SHARED // 2
    context = multiprocessing.get_context("spawn")
    fill("shared", count)
    begin = context.Barrier(consumers + 1)
    finished: SimpleQueue[float] = context.SimpleQueue()
    workers = [
        context.Process(target=consume, args=(url, seconds, begin, finished))
        for _ in range(consumers)
    ]
    for worker in workers:
        worker.start()
    begin.wait()
    started = time.monotonic()
    taken = max(finished.get() for _ in workers) - started
    for worker in workers:
        worker.join()
    return count / taken


def _consume(url: str, seconds: float, begin: Barrier, finished: SimpleQueue[float]) -> None:
    """Consume until nothing comes any more; tell when the last one was settled."""
    last = 0.0

    def handle(message: kombu_core.Message) -> None:
        nonlocal last
        if seconds:
            time.sleep(seconds)
        message.ack()
        last = time.monotonic()

    with kombu_core.Connection(url) as connection:
        connection.connect()
        begin.wait()
        queue = kombu_core.Queue("shared")
        with connection.Consumer([queue], on_message=handle, prefetch_count=PREFETCH):
            try:
                while True:
                    connection.drain_events(timeout=0.5)
            except NothingCameError:
                finished.put(last)


def _consume_bare(url: str, seconds: float, begin: Barrier, finished: SimpleQueue[float]) -> None:
    bare = BarePostgreSQL(url)
    begin.wait()
    while bare.consume_some(partial(time.sleep, seconds) if seconds else None):
        last = time.monotonic()
    finished.put(last)
    bare.close()


def _fill_bare(url: str, _: str, count: int) -> None:
    bare = BarePostgreSQL(url)
    bare.publish_batch(count)
    bare.close()


def _through(name: str, url: str, engine: Engine, size: Callable[[Connection], float]) -> list[Row]:
    """A million messages in and out, and the size of all there is before and after."""
    vacuum = "VACUUM" if name == "sqlite" else "VACUUM FULL"
    with engine.connect() as looking, kombu_core.Connection(url) as connection:
        _tidy_up(looking, vacuum)
        before = size(looking)
        started = time.perf_counter()
        for _ in range(10):
            _fill(url, "through", MANY // 10)
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
        at_once = size(looking)
        _tidy_up(looking, vacuum)
        after = size(looking)
    engine.dispose()
    return [
        Row(f"{name} a million messages, in and out", rate),
        Row(f"{name} size before, bytes", before, unit=""),
        Row(f"{name} size at the end, bytes", at_once, unit=""),
        Row(f"{name} size after {vacuum}, bytes", after, unit=""),
    ]


def _tidy_up(connection: Connection, vacuum: str) -> None:
    connection.exec_driver_sql(vacuum)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _postgresql_size(connection: Connection) -> float:
    found = connection.exec_driver_sql("SELECT pg_total_relation_size('kombu_messages')")
    return float(found.scalar_one())


def _fill(url: str, name: str, count: int) -> None:
    with kombu_core.Connection(url) as connection:
        kombu_core.Queue(name)(connection).declare()
        producer = connection.Producer(routing_key=name, serializer="json")
        with producer.batch():
            for _ in range(count):
                producer.publish(BODY)
