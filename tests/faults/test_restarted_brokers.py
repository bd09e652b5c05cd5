"""The broker is killed and restarted, or the link is cut, under load: nothing confirmed is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from kombu_core import Connection, Message, Queue
from kombu_core.exceptions import KombuError, OperationalError
from kombu_core.retry import Backoff
from kombu_core.testing.brokers import RabbitMQServer, RedisServer
from kombu_core.testing.proxy import TcpProxy
from kombu_core.testing.server import PrivateServer

COUNT = 1500
QUICK = Backoff(start=0.02, step=0.02, maximum=0.2)
POLICY = {"max_retries": 200, "interval_start": 0.02, "interval_max": 0.1}


class Target(NamedTuple):
    """A broker of our own that may be harmed, and how it is reached."""

    server: PrivateServer
    scheme: str
    options: Mapping[str, Any]

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.server.url.partition('://')[2]}"


@pytest.fixture(
    params=[
        pytest.param("redis", marks=pytest.mark.broker("redis")),
        pytest.param("amqp", marks=pytest.mark.broker("rabbitmq")),
        pytest.param("pika", marks=pytest.mark.broker("rabbitmq")),
    ]
)
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    server: PrivateServer
    if request.param == "redis":
        options = {"lease": 2.0, "socket_timeout": 5.0}
        server = RedisServer(appendonly="always")
    else:
        options = {"socket_timeout": 5.0, "confirm_timeout": 5.0}
        server = RabbitMQServer()
    with server:
        yield Target(server, request.param, options)


class Publisher(threading.Thread):
    """Publishes numbers one by one, each again until it is confirmed."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__(daemon=True)
        self.connection = Connection(url, transport_options=options)
        self.confirmed = 0
        self.error: KombuError | None = None

    def run(self) -> None:
        try:
            with self.connection:
                producer = self.connection.Producer(routing_key="work")
                for number in range(COUNT):
                    producer.publish(str(number), retry=True, retry_policy=POLICY)
                    self.confirmed += 1
        except KombuError as error:
            self.error = error


def consume_during(
    url: str, options: Mapping[str, Any], harm: Callable[[], None], harmed_at: tuple[int, ...]
) -> None:
    """Consume all while a thread publishes, and do harm at some numbers of messages."""
    seen: set[int] = set()
    moments = list(harmed_at)
    connection = Connection(url, transport_options=options, recovery=QUICK)

    def handle(message: Message) -> None:
        seen.add(int(message.body))
        try:
            message.ack()
        except OperationalError:
            pass  # The connection broke: it comes again.
        if moments and len(seen) >= moments[0]:
            moments.pop(0)
            threading.Thread(target=harm, daemon=True).start()

    with connection, connection.Consumer([Queue("work")], on_message=handle, prefetch_count=20):
        publisher = Publisher(url, options)
        publisher.start()
        deadline = time.monotonic() + 80
        while len(seen) < COUNT and time.monotonic() < deadline:
            try:
                connection.drain_events(timeout=1)
            except TimeoutError:
                continue
        publisher.join(10)
    assert publisher.error is None
    assert publisher.confirmed == COUNT
    assert set(range(COUNT)) - seen == set()
    assert not moments


def test_a_broker_that_is_killed_and_restarted_loses_nothing(target: Target) -> None:
    def harm() -> None:
        target.server.kill()
        target.server.restart()

    moments = (200, 800) if target.scheme == "redis" else (300,)
    # A queue is there after `kill -9` only if RabbitMQ has written that the declaration was
    # committed, which it does with the next change of its topology; see the plugin's README.
    with Connection(target.url, transport_options=target.options) as connection:
        for name in ("work", "another"):
            Queue(name)(connection).declare()
    consume_during(target.url, target.options, harm, moments)


def test_a_link_that_is_cut_loses_nothing(target: Target) -> None:
    with TcpProxy(target.server.port) as proxy:
        url = proxy.rewrite(target.url)
        consume_during(url, target.options, proxy.cut, (100, 400, 700, 1000, 1300))
