"""The broker is killed and restarted, or the link is cut, under load: nothing confirmed is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from kombu_core import Connection, Message, Queue
from kombu_core.exceptions import KombuError
from kombu_core.retry import Backoff
from kombu_core.testing.brokers import RedisServer
from kombu_core.testing.proxy import TcpProxy

COUNT = 1500
QUICK = Backoff(start=0.02, step=0.02, maximum=0.2)
OPTIONS = {"lease": 2.0, "socket_timeout": 5.0}


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer(appendonly="always") as server:
        yield server


class Publisher(threading.Thread):
    """Publishes numbers one by one, each again until it is confirmed."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.confirmed = 0
        self.error: KombuError | None = None

    def run(self) -> None:
        policy = {"max_retries": 200, "interval_start": 0.02, "interval_max": 0.1}
        try:
            with Connection(self.url, transport_options=OPTIONS) as connection:
                producer = connection.Producer(routing_key="work", auto_declare=False)
                for number in range(COUNT):
                    producer.publish(str(number), retry=True, retry_policy=policy)
                    self.confirmed += 1
        except KombuError as error:
            self.error = error


def consume_during(url: str, harm: Callable[[], None], harmed_at: tuple[int, ...]) -> None:
    """Consume all while a thread publishes, and do harm at some numbers of messages."""
    seen: set[int] = set()
    moments = list(harmed_at)
    connection = Connection(url, transport_options=OPTIONS, recovery=QUICK)

    def handle(message: Message) -> None:
        seen.add(int(message.body))
        try:
            message.ack()
        except KombuError:
            pass  # The connection broke: it comes again.
        if moments and len(seen) >= moments[0]:
            moments.pop(0)
            threading.Thread(target=harm, daemon=True).start()

    with connection, connection.Consumer([Queue("work")], on_message=handle, prefetch_count=20):
        publisher = Publisher(url)
        publisher.start()
        deadline = time.monotonic() + 60
        while len(seen) < COUNT and time.monotonic() < deadline:
            try:
                connection.drain_events(timeout=1)
            except TimeoutError:
                continue
        publisher.join(10)
        assert publisher.error is None
        assert publisher.confirmed == COUNT
        assert seen == set(range(COUNT))
        assert not moments


def test_a_redis_that_is_killed_and_restarted_loses_nothing(server: RedisServer) -> None:
    def harm() -> None:
        server.kill()
        server.restart()

    consume_during(server.url, harm, (200, 800))


def test_a_link_that_is_cut_loses_nothing(server: RedisServer) -> None:
    with TcpProxy(server.port) as proxy:
        consume_during(proxy.rewrite(server.url), proxy.cut, (100, 400, 700, 1000, 1300))
