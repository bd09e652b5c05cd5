"""Messages: what they show, decoding once, settling once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from kombu_core import Connection, Queue
from kombu_core.exceptions import (
    BrokerError,
    ContentRefusedError,
    DecodeError,
    KombuError,
    MessageStateError,
    UnknownCodecError,
)
from kombu_core.message import Envelope, Message


@pytest.fixture
def connection() -> Iterator[Connection]:
    with Connection("memory://test-message") as connection:
        yield connection


@pytest.fixture
def queue(connection: Connection) -> Queue:
    queue = Queue("q")(connection)
    queue.declare()
    return queue


def receive(queue: Queue, body: Any = "x", **options: Any) -> Message:
    transport: Any = queue.channel.transport
    transport.client.Producer().publish(body, queue.name, **options)
    message = queue.get()
    assert message is not None
    return message


# -- what it shows ---------------------------------------------------------------------------


def test_a_message_shows_where_it_came_from(queue: Queue) -> None:
    message = receive(queue, {"a": 1}, headers={"h": 1}, priority=3)
    assert message.delivery_info == {
        "exchange": "",
        "routing_key": "q",
        "redelivered": False,
        "consumer_tag": "",
        "priority": 3,
    }
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    assert message.body == b'{"a":1}'
    assert "'q'" in repr(message)
    assert "RECEIVED" in repr(message)


def test_headers_are_a_copy_that_may_be_changed(queue: Queue) -> None:
    message = receive(queue, headers={"h": 1})
    message.headers["h"] = 2
    assert message.headers == {"h": 2}
    assert message.envelope.headers == {"h": 1}


def test_a_repr_shows_no_body(queue: Queue) -> None:
    assert "hidden" not in repr(receive(queue, "hidden"))


# -- decoding --------------------------------------------------------------------------------


def test_a_body_is_decoded_once(queue: Queue) -> None:
    message = receive(queue, {"a": [1]})
    assert message.payload is message.payload
    assert message.decode() is message.payload


def test_a_body_without_a_content_type_is_bytes(queue: Queue) -> None:
    queue.channel.basic_publish(Envelope(b"\xff", {}, {}, "", "q"))
    message = queue.get()
    assert message is not None
    assert message.payload == b"\xff"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"content_type": "application/json"}, DecodeError),
        ({"content_type": "application/x-python-serialize"}, ContentRefusedError),
        ({"content_type": "text/plain", "headers": {"compression": "x/y"}}, UnknownCodecError),
        ({"content_type": "text/plain", "headers": {"compression": ["zlib"]}}, UnknownCodecError),
        (
            {"content_type": "text/plain", "headers": {"compression": "application/x-gzip"}},
            DecodeError,
        ),
    ],
)
def test_a_body_that_cannot_be_decoded_raises_at_each_look(
    queue: Queue, options: dict[str, Any], error: type[Exception]
) -> None:
    message = receive(queue, b"{", **options)
    for _ in range(2):
        with pytest.raises(error):
            _ = message.payload
    message.ack()


# -- settling --------------------------------------------------------------------------------

SETTLE = {
    "ack": Message.ack,
    "reject": Message.reject,
    "requeue": Message.requeue,
}


@pytest.mark.parametrize(("way", "left"), [("ack", 0), ("reject", 0), ("requeue", 1)])
def test_a_message_is_settled_once(queue: Queue, way: str, left: int) -> None:
    message = receive(queue)
    assert not message.acknowledged
    SETTLE[way](message)
    assert message.acknowledged
    for again in SETTLE.values():
        with pytest.raises(MessageStateError, match="already acknowledged"):
            again(message)
    assert queue.queue_declare(passive=True).message_count == left


def test_a_requeued_message_comes_back_marked(queue: Queue) -> None:
    receive(queue).requeue()
    again = queue.get()
    assert again is not None
    assert again.redelivered
    assert again.delivery_info["redelivered"]


def test_a_message_that_needs_no_ack_is_settled(connection: Connection, queue: Queue) -> None:
    connection.Producer().publish("x", "q")
    message = queue.get(no_ack=True)
    assert message is not None
    assert message.acknowledged
    with pytest.raises(MessageStateError):
        message.ack()


def test_one_ack_may_be_for_all_before(connection: Connection, queue: Queue) -> None:
    first, second, third = receive(queue), receive(queue), receive(queue)
    second.ack(multiple=True)
    third.requeue()
    connection.default_channel.close()
    assert not first.acknowledged
    channel = connection.channel()
    assert channel.queue_declare("q", passive=True).message_count == 1


def test_a_settle_that_fails_can_be_tried_again(queue: Queue) -> None:
    message = receive(queue)
    real, message.channel = message.channel, _Refuses()  # type: ignore[assignment]
    with pytest.raises(BrokerError):
        message.ack()
    assert not message.acknowledged
    message.channel = real
    message.ack()


class _Refuses:
    """A channel on which nothing can be settled."""

    def basic_ack(self, delivery_tag: int, multiple: bool) -> None:
        raise BrokerError("no")

    def basic_reject(self, delivery_tag: int, requeue: bool) -> None:
        raise BrokerError("no")


@pytest.mark.parametrize("way", ["ack_log_error", "reject_log_error"])
def test_errors_of_the_broker_can_be_logged_instead(
    queue: Queue, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    message = receive(queue)
    logger = logging.getLogger("test")
    real, message.channel = message.channel, _Refuses()  # type: ignore[assignment]
    getattr(message, way)(logger)
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    with pytest.raises(BrokerError):
        getattr(message, way)(logger, errors=(ValueError,))
    message.channel = real
    getattr(message, way)(logger)
    assert len(caplog.records) == 1
    with pytest.raises(KombuError):
        message.ack()
