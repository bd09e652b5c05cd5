"""Producers: exchanges, declarations, returns, and going on after a lost connection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kombu_core import Connection, Exchange, Producer, Queue
from kombu_core.exceptions import (
    ConnectError,
    ConnectionLostError,
    NotFoundError,
    UnroutableError,
)
from kombu_core.message import Envelope, Message
from tests.unit.faulty import Faults


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


# -- routing and declaring -------------------------------------------------------------------


def test_a_publish_may_go_to_another_exchange(connection: Connection, queue: Queue) -> None:
    producer = Producer(connection, Exchange("e"), routing_key="nowhere")
    for exchange in ("", Exchange("")):
        producer.publish("x", "q", exchange=exchange)
        assert fetch(queue).delivery_info["exchange"] == ""


def test_the_exchange_is_declared_before_the_first_publish(connection: Connection) -> None:
    producer = Producer(connection, Exchange("auto", "topic"))
    producer.publish("x", "k")
    Exchange("auto", passive=True)(connection).declare()
    quiet = Producer(connection, Exchange("not declared"), auto_declare=False)
    with pytest.raises(NotFoundError):
        quiet.publish("x")
    quiet.declare()
    quiet.publish("x")


def test_what_a_publish_declares_is_declared_once_for_each_channel(
    connection: Connection,
) -> None:
    calls: list[str] = []
    kept = Queue("kept", on_declared=lambda name, *_: calls.append(name))
    gone = Queue("gone", auto_delete=True, on_declared=lambda name, *_: calls.append(name))
    producer = connection.Producer()
    for _ in range(2):
        producer.publish("x", "kept", declare=[kept, gone])
    assert calls == ["kept", "gone", "gone"]
    assert not producer.maybe_declare(kept)
    producer.revive(connection.channel())
    assert producer.maybe_declare(kept)


def test_a_mandatory_message_that_nobody_wants_is_an_error(producer: Producer) -> None:
    with pytest.raises(UnroutableError) as caught:
        producer.publish("x", "nowhere", mandatory=True)
    assert caught.value.envelope.routing_key == "nowhere"
    assert caught.value.code == 312
    producer.publish("x", "nowhere")


def test_a_returned_message_goes_to_the_callback(connection: Connection) -> None:
    returned: list[tuple[Envelope, int, str]] = []
    producer = Producer(connection, on_return=lambda *args: returned.append(args))
    producer.publish("x", "nowhere", mandatory=True)
    ((envelope, code, text),) = returned
    assert (envelope.body, code, text) == (b"x", 312, "NO_ROUTE")
    producer.revive(connection.channel())
    producer.publish("y", "nowhere", mandatory=True)
    assert len(returned) == 2


# -- connections -----------------------------------------------------------------------------


def test_a_producer_of_a_connection_needs_no_broker_until_it_publishes(faults: Faults) -> None:
    producer = faults.open().Producer(routing_key="q")
    assert producer.used_channel is None
    assert faults.transports == []


def test_a_producer_goes_on_after_its_channel_was_closed(connection: Connection) -> None:
    with connection.Producer() as producer:
        with pytest.raises(NotFoundError):
            producer.publish("x", exchange="nowhere")
        producer.publish("x")


def test_a_retrying_publish_survives_a_lost_connection(faults: Faults) -> None:
    with faults.open() as connection:
        queue = Queue("q")
        producer = connection.Producer(routing_key="q")
        producer.publish("1", declare=[queue])
        channel = connection.channel()
        other = Producer(channel, routing_key="q")
        faults.transports[-1].cut()
        with pytest.raises(ConnectionLostError):
            other.publish("lost")
        faults.connect = [ConnectError("once")]
        other.publish("2", retry=True, retry_policy={"interval_start": 0})
        producer.publish("3")
        assert [fetch(queue(connection)).payload for _ in range(3)] == ["1", "2", "3"]


def test_a_retrying_publish_gives_up(faults: Faults) -> None:
    faults.connect = [ConnectError(str(number)) for number in range(5)]
    producer = faults.open().Producer(routing_key="q")
    with pytest.raises(ConnectError, match="2"):
        producer.publish(
            "x", retry=True, retry_policy={"max_retries": 2, "interval_start": 0, "interval_max": 0}
        )
    with pytest.raises(TypeError, match="retrys"):
        producer.publish("x", retry=True, retry_policy={"max_retrys": 2})
