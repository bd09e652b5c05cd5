"""Connections to a real RabbitMQ, through both drivers, each test in names of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kombu_core import Connection
from kombu_core.testing.brokers import BrokerServer

Open = Callable[..., Connection]


@pytest.fixture(params=["amqp", "pika"])
def scheme(request: pytest.FixtureRequest) -> str:
    """The URL scheme of each driver."""
    if request.param == "pika":
        pytest.importorskip("pika")
    return str(request.param)


@pytest.fixture
def open_connection(scheme: str, rabbitmq_server: BrokerServer) -> Iterator[Open]:
    """Opens connections (to another URL than the server's, with transport options)."""
    opened: list[Connection] = []

    def open_one(url: str = "", **options: Any) -> Connection:
        target = (url or rabbitmq_server.url).replace("amqp", scheme, 1)
        heartbeat = options.pop("heartbeat", None)
        opened.append(Connection(target, transport_options=options, heartbeat=heartbeat))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.release()


@pytest.fixture
def queue(token: str, rabbitmq_server: BrokerServer) -> Iterator[str]:
    """The name of a durable queue, which exists during the test."""
    with Connection(rabbitmq_server.url) as connection:
        connection.default_channel.queue_declare(token, durable=True)
    yield token
    with Connection(rabbitmq_server.url) as connection:
        connection.default_channel.queue_delete(token)
