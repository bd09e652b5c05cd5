"""What the benchmarks of transports on databases measure, each for its own transport."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from typing import Any, Final

import kombu
from bare_drivers import PREFETCH, Bare
from harness import BODY, Row, medians, rates
from rivals import Rival
from sqlalchemy import Connection, Engine

import kombu_core
from kombu_core.exceptions import NothingCameError

PUBLISHED: Final = 1_000
BATCHED: Final = 10_000
CONSUMED: Final = 10_000
#: kombu needs longer for less.
PUBLISHED_BY_KOMBU: Final = 300
BATCHED_BY_KOMBU: Final = 500
CONSUMED_BY_KOMBU: Final = 300

DEPTHS: Final = (1_000, 1_000_000)
MANY: Final = 1_000_000
#: Messages for each crowd of consumers, and what a handler waits for besides computing (seconds).
SHARED: Final = 40_000
HANDLER_SECONDS: Final = 0.001

#: Consumes from a URL with handlers that wait so long, once all are ready; tells when it was done.
Consume = Callable[[str, float, Barrier, "SimpleQueue[float]"], None]
#: Of a queue so many.
Fill = Callable[[str, int], object]


def compare(
    name: str,
    our_url: str,
    options: dict[str, Any],
    their_url: str,
    bare: Bare,
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
        Row.of(f"{name} publish, each confirmed", medians(published), goal=goals[0]),
        Row.of(f"{name} publish in batches", medians(batched), goal=goals[1]),
        Row.of(f"{name} consume + ack, prefetch 100", medians(consumed), goal=goals[2]),
    ]


def crowds(run: Callable[[int, float], tuple[float, float | None]]) -> list[Row]:
    """One and four processes that consume from one queue, with two kinds of handlers.

    Args:
        run: Given the number of processes and what a handler waits, returns our rate and the bare
            driver's.
    """
    found = []
    for kind, seconds in (("", 0.0), (", 1 ms of waiting in each handler", HANDLER_SECONDS)):
        for consumers in (1, 4):
            ours, raw = run(consumers, seconds)
            word = "process" if consumers == 1 else "processes"
            found.append(Row(f"postgresql consumed by {consumers} {word}{kind}", ours, raw=raw))
    return found


def shared(
    consumers: int,
    seconds: float,
    consume: Consume,
    url: str,
    fill: Fill,
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


def consume(url: str, seconds: float, begin: Barrier, finished: SimpleQueue[float]) -> None:
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


def through(name: str, url: str, engine: Engine, size: Callable[[Connection], float]) -> list[Row]:
    """A million messages in and out, and the size of all there is before and after."""
    vacuum = "VACUUM" if name == "sqlite" else "VACUUM FULL"
    with engine.connect() as looking, kombu_core.Connection(url) as connection:
        _tidy_up(looking, vacuum)
        before = size(looking)
        started = time.perf_counter()
        for _ in range(10):
            fill(url, "through", MANY // 10)
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


def fill(url: str, name: str, count: int) -> None:
    with kombu_core.Connection(url) as connection:
        kombu_core.Queue(name)(connection).declare()
        producer = connection.Producer(routing_key=name, serializer="json")
        with producer.batch():
            for _ in range(count):
                producer.publish(BODY)
