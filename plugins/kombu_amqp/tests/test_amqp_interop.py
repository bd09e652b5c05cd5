"""kombu 5 on the same queues: what one side writes the other one reads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import kombu
import pytest

from kombu_core import Exchange, Message, Queue
from kombu_core.serialization import Registry
from kombu_core.testing.brokers import BrokerServer
from kombu_core.testing.harness import fetch, ready, until
from plugins.kombu_amqp.tests.conftest import Open

VALUE: Final[dict[str, Any]] = {"text": "ünï☃", "number": 7, "list": [1, 2.5, None, True]}
HEADERS: Final[dict[str, Any]] = {"task": "add", "retries": 3, "deep": {"a": [1, "two"]}}
#: Each serializer, and each compression, of both.
CODECS: Final = [
    ("json", None),
    ("raw", None),
    ("msgpack", None),
    ("yaml", None),
    ("pickle", None),
    ("json", "zlib"),
    ("raw", "bzip2"),
    ("json", "lzma"),
    ("msgpack", "brotli"),
    ("raw", "zstd"),
]


@pytest.fixture
def theirs(rabbitmq_server: BrokerServer) -> Iterator[Any]:
    """Kombu's connection."""
    with kombu.Connection(rabbitmq_server.url) as connection:
        yield connection


def theirs_get(connection: Any, queue: str, accept: list[str] | None = None) -> Any:
    """Get a message by kombu."""
    simple = connection.SimpleQueue(
        kombu.Queue(queue, durable=True, no_declare=True),
        no_ack=True,
        accept=accept or ["json", "text/plain", "application/data"],
    )
    message = simple.get(timeout=10)
    simple.close()
    return message


@pytest.mark.parametrize(("serializer", "compression"), CODECS)
def test_kombu_reads_ours(
    open_connection: Open, theirs: Any, queue: str, serializer: str, compression: str | None
) -> None:
    value: Any = b"\x00\xff" if serializer == "raw" else VALUE
    open_connection().Producer().publish(
        value,
        queue,
        serializer=serializer,
        compression=compression,
        headers=HEADERS,
        priority=3,
        expiration=60,
        correlation_id="c",
        reply_to="r",
    )
    message = theirs_get(theirs, queue, [] if serializer == "raw" else [serializer])
    assert message.payload == value
    assert {key: message.headers[key] for key in HEADERS} == HEADERS
    properties = message.properties
    assert (properties["priority"], properties["correlation_id"], properties["reply_to"]) == (
        3,
        "c",
        "r",
    )
    assert properties["expiration"] == "60000"
    assert properties["delivery_mode"] == 2


@pytest.mark.parametrize(("serializer", "compression"), CODECS)
def test_we_read_kombus(
    open_connection: Open, theirs: Any, queue: str, serializer: str, compression: str | None
) -> None:
    value: Any = b"\x00\xff" if serializer == "raw" else VALUE
    theirs.Producer().publish(
        value,
        routing_key=queue,
        serializer=serializer,
        compression=compression,
        headers=dict(HEADERS),
        priority=3,
        expiration=60,
        correlation_id="c",
    )
    found: Message = fetch(open_connection().channel(), queue)
    found.accept = Registry().resolve_accept([serializer])
    assert found.payload == value
    assert {key: found.headers[key] for key in HEADERS} == HEADERS
    assert found.properties["priority"] == 3
    assert found.properties["expiration"] == "60000"
    assert found.properties["correlation_id"] == "c"


def test_both_declare_the_same(open_connection: Open, theirs: Any, token: str) -> None:
    connection = open_connection()
    from_theirs = kombu.Queue(
        token,
        kombu.Exchange(token, "topic", durable=True),
        routing_key="a.#",
        max_priority=5,
        message_ttl=60,
        max_length=100,
        expires=60,
    )
    from_theirs(theirs.default_channel).declare()
    Queue(
        token,
        Exchange(token, "topic", durable=True),
        routing_key="a.#",
        max_priority=5,
        message_ttl=60,
        max_length=100,
        expires=60,
    )(connection.default_channel).declare()
    connection.Producer().publish("x", "a.b", exchange=token)
    until(lambda: ready(connection.default_channel, token) == 1)
    from_theirs(theirs.default_channel).delete()
    connection.default_channel.exchange_delete(token)


def test_a_queue_shared_by_consumers_of_both(
    open_connection: Open, theirs: Any, queue: str
) -> None:
    connection = open_connection()
    seen: list[tuple[str, int]] = []

    def ours(body: Any, message: Message) -> None:
        seen.append(("ours", body))
        message.ack()

    def kombus(body: Any, message: Any) -> None:
        seen.append(("kombu", body))
        message.ack()

    consumer = connection.Consumer(
        [Queue(queue, durable=True, no_declare=True)], callbacks=[ours], prefetch_count=1
    )
    their_consumer = theirs.Consumer(
        [kombu.Queue(queue, durable=True, no_declare=True)],
        callbacks=[kombus],
        prefetch_count=1,
        auto_declare=False,
    )
    with consumer, their_consumer:
        connection.Producer().publish_many(range(20), queue, serializer="json")
        deadline = time.monotonic() + 10
        while len(seen) < 20 and time.monotonic() < deadline:
            for drain in (connection.drain_events, theirs.drain_events):
                try:
                    drain(timeout=0.05)
                except TimeoutError:
                    continue
    assert sorted(body for _, body in seen) == list(range(20))
    assert {who for who, _ in seen} == {"ours", "kombu"}
