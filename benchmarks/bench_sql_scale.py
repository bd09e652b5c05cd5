"""Databases under load: deep queues, several consumers, and a million messages through."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier

from bench_scale import depth
from harness import BODY, Row
from sqlalchemy import Engine, create_engine

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
        url = f"sqlalchemy+sqlite:///{directory}/depth.db"
        found += depth("sqlite", url, rounds, DEPTHS, count=500)
    with PostgresServer() as server:
        url = f"sqlalchemy+{server.url}?kombu_create_tables=true"
        found += depth("postgresql", url, rounds, DEPTHS, count=500)
        found += _crowds(url)
        found += _through(url, server.url)
    return found


def _crowds(url: str) -> list[Row]:
    """One and four processes that consume from one queue, with two kinds of handlers."""
    found = []
    for kind, seconds in (("", 0.0), (", 1 ms of waiting in each handler", HANDLER_SECONDS)):
        for consumers in (1, 4):
            rate = _shared(url, consumers, seconds)
            found.append(Row(f"postgresql {consumers} consumer processes{kind}", rate))
    return found


def _shared(url: str, consumers: int, seconds: float) -> float:
    """Messages per second from the moment all are ready to the last one that is settled."""
    count = SHARED if not seconds else SHARED // 2
    context = multiprocessing.get_context("spawn")
    with kombu_core.Connection(url) as connection:
        _fill(connection, "shared", count)
        begin = context.Barrier(consumers + 1)
        finished: SimpleQueue[float] = context.SimpleQueue()
        workers = [
            context.Process(target=_consume, args=(url, seconds, begin, finished))
            for _ in range(consumers)
        ]
        for worker in workers:
            worker.start()
        begin.wait()
        started = time.monotonic()
        taken = max(finished.get() for _ in workers) - started
        for worker in workers:
            worker.join()
        assert kombu_core.Queue("shared")(connection).get() is None
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
        with connection.Consumer([queue], on_message=handle, prefetch_count=100):
            try:
                while True:
                    connection.drain_events(timeout=0.5)
            except NothingCameError:
                finished.put(last)


def _through(url: str, plain: str) -> list[Row]:
    """A million messages in and out, and the size of their table before and after."""
    engine = create_engine(plain.replace("postgresql:", "postgresql+psycopg:"))
    with kombu_core.Connection(url) as connection:
        before = _size(engine, "VACUUM FULL")
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
        after = _size(engine, "VACUUM")
    engine.dispose()
    return [
        Row("postgresql a million messages, in and out", rate),
        Row("postgresql table of messages before, bytes", before, unit=""),
        Row("postgresql table of messages after (vacuumed), bytes", after, unit=""),
    ]


def _size(engine: Engine, vacuum: str) -> float:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"{vacuum} kombu_messages")
        found = connection.exec_driver_sql("SELECT pg_total_relation_size('kombu_messages')")
        return float(found.scalar_one())


def _fill(connection: kombu_core.Connection, name: str, count: int) -> None:
    kombu_core.Queue(name)(connection).declare()
    producer = connection.Producer(routing_key=name, serializer="json")
    with producer.batch():
        for _ in range(count):
            producer.publish(BODY)
