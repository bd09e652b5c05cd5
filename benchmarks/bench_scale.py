"""What grows and what does not: many bindings, deep queues, many queues."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from harness import BODY, Row

import kombu_core
from kombu_core.testing.brokers import RedisServer
from kombu_core.virtual.routing import EXCHANGE_TYPES, BindingTable, Destination
from kombu_core.virtual.topology import make_binding

BINDINGS = 100_000
SHALLOW, DEEP = 100, 1_000_000
QUEUES = 10_000


def rows(rounds: int) -> list[Row]:
    """Measure; rows of one kind are to be compared with each other."""
    found = [
        row
        for kind, pattern, key in (
            ("direct", "key.{}", "key.77"),
            ("topic", "key.{}.*", "key.77.x"),
        )
        for row in _routing(kind, pattern, key)
    ]
    found += depth("memory", "memory://scale", rounds, (SHALLOW, DEEP))
    found += _declaring("memory", "memory://scale")
    with RedisServer(appendonly=None) as server:
        found += depth("redis", server.url, rounds, (SHALLOW, DEEP))
        found += _declaring("redis", server.url)
    return found


def _routing(kind: str, pattern: str, key: str) -> list[Row]:
    """Time a match among few and among many bindings that do not match."""
    found = []
    for count in (100, BINDINGS):
        table = EXCHANGE_TYPES[kind]({})
        for number in range(count):
            destination = Destination("queue", f"q{number}")
            table.add(make_binding(destination, pattern.format(number), None))
        name = f"route by {kind} among {count:,} bindings"
        found.append(Row(name, _rate(partial(_reached, table, key))))
    return found


def depth(
    name: str, url: str, rounds: int, depths: Sequence[int], count: int = 2000, **options: Any
) -> list[Row]:
    """Time single publishes and gets on a shallow and on a deep queue, in turn."""
    with kombu_core.Connection(url, transport_options=options) as connection:
        producers, queues = {}, {}
        for size in depths:
            queues[size] = kombu_core.Queue(f"depth-{size}")(connection)
            queues[size].declare()
            producers[size] = connection.Producer(routing_key=f"depth-{size}", serializer="json")
            with producers[size].batch():
                for _ in range(size):
                    producers[size].publish(BODY)
        # What was made so far is no garbage, and looking through it again would be measured too.
        gc.collect()
        gc.freeze()
        published: dict[int, list[float]] = {size: [] for size in depths}
        fetched: dict[int, list[float]] = {size: [] for size in depths}
        for _ in range(2 * rounds):
            for size in depths:
                published[size].append(_rate(partial(producers[size].publish, BODY), count))
                fetched[size].append(_rate(partial(queues[size].get, no_ack=True), count))
        gc.unfreeze()
        for queue in queues.values():
            queue.purge()
        return [
            Row(f"{name} {what} at a depth of {size:,}", statistics.median(rates[size]))
            for what, rates in (("publish", published), ("get", fetched))
            for size in depths
        ]


def _declaring(name: str, url: str) -> list[Row]:
    """Time the first and the last thousand of many queues, each bound to one exchange."""
    with kombu_core.Connection(url) as connection:
        exchange = kombu_core.Exchange("scale", "direct")
        found = []
        started = time.perf_counter()
        for number in range(QUEUES):
            kombu_core.Queue(f"q{number}", exchange, routing_key=str(number))(connection).declare()
            if number + 1 in (1000, QUEUES - 1000, QUEUES):
                if number + 1 != QUEUES - 1000:
                    rate = 1000 / (time.perf_counter() - started)
                    found.append(Row(f"{name} declare and bind, up to {number + 1:,}", rate))
                started = time.perf_counter()
        return found


def _reached(table: BindingTable, key: str) -> list[Destination]:
    return list(table.match(key, {}))


def _rate(call: Callable[[], object], count: int = 20_000) -> float:
    started = time.perf_counter()
    for _ in range(count):
        call()
    return count / (time.perf_counter() - started)
