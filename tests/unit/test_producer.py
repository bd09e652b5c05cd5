"""Producers: what becomes of the arguments of a publish."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kombu_core import Connection, Exchange, Producer, Queue
from kombu_core.exceptions import (
    ConfigurationError,
    ContentRefusedError,
    EncodeError,
    NotFoundError,
    PreconditionFailedError,
    UnknownCodecError,
    UnsupportedError,
)
from kombu_core.message import Message
from kombu_core.serialization import Registry


@pytest.fixture
def connection() -> Iterator[Connection]:
    with Connection("memory://test-producer") as connection:
        yield connection


@pytest.fixture
def queue(connection: Connection) -> Queue:
    queue = Queue("q", max_priority=5)(connection)
    queue.declare()
    return queue


@pytest.fixture
def producer(connection: Connection, queue: Queue) -> Producer:
    return Producer(connection, routing_key="q")


def fetch(queue: Queue) -> Message:
    message = queue.get(no_ack=True)
    assert message is not None
    return message


# -- bodies and properties -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "options", "content_type", "encoding", "raw"),
    [
        ({"a": 1}, {}, "application/json", "utf-8", b'{"a":1}'),
        ("text", {}, "text/plain", "utf-8", b"text"),
        (b"\xff", {}, "application/data", "binary", b"\xff"),
        ("text", {"serializer": "json"}, "application/json", "utf-8", b'"text"'),
        ("ä", {"content_type": "a/b"}, "a/b", "utf-8", "ä".encode()),
        ("ä", {"content_type": "a/b", "content_encoding": "latin-1"}, "a/b", "latin-1", b"\xe4"),
        (b"x", {"content_type": "a/b"}, "a/b", "binary", b"x"),
        (bytearray(b"x"), {"content_type": "a/b"}, "a/b", "binary", b"x"),
        (memoryview(b"x"), {"content_type": "a/b", "content_encoding": "c"}, "a/b", "c", b"x"),
    ],
)
def test_a_body_is_encoded_unless_it_comes_with_its_content_type(
    producer: Producer,
    queue: Queue,
    body: Any,
    options: dict[str, Any],
    content_type: str,
    encoding: str,
    raw: bytes,
) -> None:
    producer.publish(body, **options)
    message = fetch(queue)
    assert (message.content_type, message.content_encoding) == (content_type, encoding)
    assert message.body == raw


@pytest.mark.parametrize(
    ("body", "options", "error"),
    [
        (object(), {}, EncodeError),
        (1, {"serializer": "text"}, EncodeError),
        (1, {"serializer": "nonsense"}, UnknownCodecError),
        ("x", {"compression": "nonsense"}, UnknownCodecError),
        ({"a": 1}, {"content_type": "a/b"}, EncodeError),
        ("ä", {"content_type": "a/b", "content_encoding": "ascii"}, EncodeError),
        ("ä", {"content_type": "a/b", "content_encoding": "nonsense"}, EncodeError),
        ("x", {"delivery_mode": 3}, ConfigurationError),
        ("x", {"delivery_mode": "lasting"}, ConfigurationError),
        ("x", {"priority": 256}, ConfigurationError),
        ("x", {"priority": -1}, ConfigurationError),
        ("x", {"immediate": True}, UnsupportedError),
        ("x", {"expiration": -1}, PreconditionFailedError),
        ("x", {"exchange": "nowhere"}, NotFoundError),
        ("x", {"corelation_id": "1"}, TypeError),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_published(
    producer: Producer, queue: Queue, body: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        producer.publish(body, **options)
    queue.revive(producer.channel)  # It was on the channel that some of these errors close.
    assert queue.get() is None


def test_an_unknown_property_is_named_with_those_that_there_are(producer: Producer) -> None:
    with pytest.raises(TypeError, match=r"'corelation_id'.*correlation_id"):
        producer.publish("x", corelation_id="1")


def test_properties_arrive_and_what_was_not_given_is_absent(
    producer: Producer, queue: Queue
) -> None:
    given: dict[str, Any] = {
        "correlation_id": "c",
        "reply_to": "r",
        "message_id": "m",
        "timestamp": 5,
        "type": "t",
        "user_id": "u",
        "app_id": "a",
        "cluster_id": "l",
    }
    producer.publish("x", priority=3, headers={"h": [1, {"a": None}]}, expiration=60, **given)
    message = fetch(queue)
    assert message.properties == {
        "content_type": "text/plain",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "priority": 3,
        "expiration": "60000",
        **given,
    }
    assert message.headers == {"h": [1, {"a": None}]}
    producer.publish("x", reply_to=None)
    assert set(fetch(queue).properties) == {"content_type", "content_encoding", "delivery_mode"}


@pytest.mark.parametrize(
    ("exchange", "published", "expected"),
    [
        (None, None, 2),
        (None, 1, 1),
        (None, "transient", 1),
        ("transient", None, 1),
        (1, "persistent", 2),
        (1, 2, 2),
    ],
)
def test_the_delivery_mode_is_the_publishs_the_exchanges_or_persistent(
    connection: Connection, exchange: Any, published: Any, expected: int
) -> None:
    target = Exchange("e", "fanout", delivery_mode=exchange)
    queue = Queue("q", target)(connection)
    queue.declare()
    Producer(connection, target).publish("x", delivery_mode=published)
    assert fetch(queue).properties["delivery_mode"] == expected


@pytest.mark.parametrize("name", ["zlib", "gzip", "bzip2", "lzma"])
def test_a_compressed_body_says_so_in_a_header(
    connection: Connection, queue: Queue, name: str
) -> None:
    for producer, compression in (
        (Producer(connection, compression=name), None),
        (Producer(connection), name),
    ):
        body = {"long": "x" * 1000}
        producer.publish(body, "q", headers={"h": 1}, compression=compression)
        message = fetch(queue)
        assert len(message.body) < 200
        assert message.headers["compression"].startswith("application/x-")
        assert message.headers["h"] == 1
        assert message.payload == body


def test_the_headers_of_the_application_are_not_changed(producer: Producer) -> None:
    headers = {"h": 1}
    producer.publish("x", headers=headers, compression="zlib")
    assert headers == {"h": 1}


def test_a_registry_of_its_own_encodes(connection: Connection, queue: Queue) -> None:
    registry = Registry()
    registry.register("shout", lambda value: value.upper(), bytes.decode, content_type="x/shout")
    Producer(connection, routing_key="q", serializer="shout", registry=registry).publish("hello")
    message = fetch(queue)
    assert message.body == b"HELLO"
    with pytest.raises(ContentRefusedError):
        _ = message.payload


def test_a_delayed_message_comes_later(producer: Producer, queue: Queue) -> None:
    producer.publish("x", delay=60)
    assert queue.get() is None


def test_bodies_are_compressed_from_a_size_on(connection: Connection) -> None:
    producer = connection.Producer(compression="zlib", compress_from=100)
    Queue("q")(connection).declare()
    bodies = [(b"x" * 99, None), (b"x" * 100, None), (b"x", "bzip2"), (b"x" * 100, "bzip2")]
    for body, compression in bodies:
        producer.publish(body, "q", compression=compression)
    found = []
    for body, _ in bodies:
        message = Queue("q")(connection).get(no_ack=True)
        assert message is not None
        assert message.payload == body
        found.append(message.headers.get("compression"))
    assert found == [None, "application/x-gzip", "application/x-bz2", "application/x-bz2"]
