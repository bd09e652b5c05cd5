"""RabbitMQ's kinds of queues, sizes and types, as they come through."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from kombu_amqp.frames import nack_frame
from kombu_core.exceptions import (
    BatchPublishError,
    ChannelError,
    EncodeError,
    NotFoundError,
    PreconditionFailedError,
    UnroutableError,
)
from kombu_core.message import PERSISTENT
from kombu_core.testing.harness import (
    Inbox,
    drain_quiet,
    drain_until,
    envelope,
    fetch,
    publish,
    take,
)
from kombu_core.transport import Channel, Publication
from plugins.kombu_amqp.tests.conftest import Open


@pytest.fixture
def channel(open_connection: Open, token: str) -> Iterator[Channel]:
    """A channel; the queue that is named after the test is deleted at the end."""
    yield open_connection().channel()
    open_connection().channel().queue_delete(token)


def test_a_quorum_queue_limits_deliveries(channel: Channel, token: str) -> None:
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 2}
    channel.queue_declare(token, durable=True, arguments=arguments)
    publish(channel, "", token, "poison", delivery_mode=PERSISTENT)
    for count in (0, 1, 2):
        message = fetch(channel, token)
        assert message.headers.get("x-delivery-count") == count
        message.requeue()
    assert channel.basic_get(token) is None


def test_a_quorum_queue_refuses_a_global_limit(channel: Channel, token: str) -> None:
    channel.queue_declare(token, durable=True, arguments={"x-queue-type": "quorum"})
    channel.basic_qos(prefetch_count=5, apply_global=True)
    with pytest.raises(ChannelError) as caught:
        channel.basic_consume(token, Inbox())
    assert caught.value.code == 540
    assert "global qos" in caught.value.text
    assert not caught.value.is_retryable
    assert not channel.transport.is_connected  # that is how RabbitMQ refuses it


def test_a_stream_is_read_from_an_offset(open_connection: Open, token: str) -> None:
    connection = open_connection()
    channel = connection.channel()
    channel.queue_declare(token, durable=True, arguments={"x-queue-type": "stream"})
    publish(channel, "", token, *"12345", delivery_mode=PERSISTENT)
    channel.basic_qos(prefetch_count=10)
    for offset, wanted in ((2, [*"345"]), ("first", [*"12345"])):
        inbox = Inbox(ack=True)
        tag = channel.basic_consume(token, inbox, arguments={"x-stream-offset": offset})
        drain_until(connection, lambda inbox=inbox, wanted=wanted: len(inbox) >= len(wanted))  # type: ignore[misc]
        drain_quiet(connection)
        assert inbox.bodies == wanted
        channel.basic_cancel(tag)
    channel.queue_delete(token)


def test_the_broker_says_why_it_refuses_an_argument(channel: Channel, token: str) -> None:
    with pytest.raises(PreconditionFailedError) as caught:
        channel.queue_declare(token, arguments={"x-max-priority": -1})
    assert caught.value.code == 406
    assert "x-max-priority" in caught.value.text


@pytest.mark.parametrize("size", [131_064, 131_065, 262_128, 16 * 1024 * 1024])
def test_large_bodies(channel: Channel, token: str, size: int) -> None:
    channel.queue_declare(token)
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    publish(channel, "", token, body)
    assert fetch(channel, token).body == body


def test_small_frames(open_connection: Open, queue: str) -> None:
    channel = open_connection(frame_max=4096).channel()
    publish(channel, "", queue, b"x" * 100_000)
    assert fetch(channel, queue).body == b"x" * 100_000


@pytest.mark.parametrize(
    "value",
    [
        -(2**63), 2**63 - 1, 2**31, -(2**31), 2**31 - 1, 0.1, Decimal("-1.50"), Decimal(7),
        b"text", "text", "\U0001f600", datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC),
        [[], [{}], (None,)], {"a": {"b": {"c": [b"\x00"]}}}, None, True,
    ],
    ids=repr,
)  # fmt: skip
def test_headers_keep_their_types(channel: Channel, token: str, value: Any) -> None:
    channel.queue_declare(token)
    channel.basic_publish(envelope("", token, headers={"value": value}))
    found = fetch(channel, token).headers["value"]
    assert found == ([[], [{}], [None]] if isinstance(value, list) else value)
    assert type(found) is type(value)


@pytest.mark.parametrize("value", [b"text", 2**40, 0.5, Decimal("1.5"), True, "t", 1])
def test_arguments_of_a_binding_match_headers_of_their_type(
    channel: Channel, token: str, value: Any
) -> None:
    channel.queue_declare(token)
    channel.queue_bind(token, "amq.headers", "", {"x-match": "all", token: value})
    publish(channel, "amq.headers", "", "hit", headers={token: value})
    publish(channel, "amq.headers", "", "miss", headers={token: "other"})
    assert fetch(channel, token, no_ack=True).body == b"hit"
    assert channel.basic_get(token) is None


@pytest.mark.parametrize(
    "message",
    [
        envelope("", "q", headers={"set": {1}}),
        envelope("", "q", headers={"n": 2**64}),
        envelope("", "q", headers={"k" * 256: 1}),
        envelope("", "q", headers={"k": "x" * 131072}),
        envelope("", "q", priority=256),
        envelope("", "q", correlation_id="x" * 256),
        envelope("", "q", message_id=7),
        envelope("", "k" * 256),
    ],
    ids=["set", "number", "key", "size", "priority", "correlation", "type", "routing key"],
)
def test_what_amqp_cannot_say_is_refused_here(channel: Channel, token: str, message: Any) -> None:
    with pytest.raises(EncodeError):
        channel.basic_publish(message)
    channel.queue_declare(token)
    publish(channel, "", token, "still open")


def test_a_batch_says_what_could_not_be_written(channel: Channel, token: str) -> None:
    channel.queue_declare(token)
    publications = [
        Publication(envelope("", token, str(number), {"n": {1} if number == 3 else 1}))
        for number in range(6)
    ]
    with pytest.raises(BatchPublishError) as caught:
        channel.basic_publish_batch(publications)
    assert list(caught.value.failed) == [3]
    assert isinstance(caught.value.failed[3], EncodeError)
    assert take(channel, token, 5) == ["0", "1", "2", "4", "5"]


def test_without_confirms_a_return_comes_to_who_drains(open_connection: Open, token: str) -> None:
    connection = open_connection(confirms=False)
    channel = connection.channel()
    message = envelope("", token, "nobody's")
    channel.basic_publish(message, mandatory=True)
    with pytest.raises(UnroutableError):
        connection.drain_events(timeout=10)
    returned: list[Any] = []
    channel.set_return_callback(lambda *what: returned.append(what))
    channel.basic_publish(message, mandatory=True)
    connection.drain_events(timeout=10)
    assert returned == [(message, 312, "NO_ROUTE")]
    channel.basic_publish(envelope(token, "k", "no such exchange"))
    with pytest.raises(NotFoundError):
        connection.drain_events(timeout=10)
    assert not channel.is_open


def test_a_transaction_tells_at_its_commit(channel: Channel, token: str) -> None:
    channel.tx_select()
    channel.basic_publish(envelope("", token, "nobody's"), mandatory=True)
    with pytest.raises(UnroutableError):
        channel.tx_commit()
    assert channel.is_open


def test_the_broker_takes_a_channel_away(open_connection: Open, queue: str) -> None:
    """As after a delivery that was not acknowledged for too long: who drains learns it."""
    connection = open_connection()
    channel = connection.channel()
    channel.basic_consume(queue, Inbox())
    wire = connection.transport.wire  # type: ignore[attr-defined]
    with wire.lock:
        wire.write(nack_frame(1, 99, False, False))
        wire.flush()
    with pytest.raises(PreconditionFailedError, match="unknown delivery tag 99"):
        connection.drain_events(timeout=10)
    assert not channel.is_open
    assert connection.channel().is_open
