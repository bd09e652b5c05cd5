"""Consumers: their queues, starting and stopping, acknowledgements and limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kombu_core import Connection, Consumer, Exchange, Queue
from kombu_core.exceptions import (
    NotFoundError,
    OperationTimeoutError,
)
from kombu_core.message import Message


@pytest.fixture
def connection() -> Iterator[Connection]:
    with Connection("memory://test-consumer") as connection:
        yield connection


def publish(connection: Connection, *bodies: Any, to: str = "q", **options: Any) -> None:
    connection.Producer().publish_many(bodies, to, **options)


def drain(connection: Connection) -> int:
    """Handle all that is there; return how many events that was."""
    for count in range(1000):
        try:
            connection.drain_events(timeout=0)
        except OperationTimeoutError:
            return count
    raise AssertionError("it never ends")


def waiting(connection: Connection, queue: str = "q") -> int:
    return connection.default_channel.queue_declare(queue, passive=True).message_count


# -- queues ----------------------------------------------------------------------------------


def test_queues_are_declared_unless_it_was_told_not_to(connection: Connection) -> None:
    queue = Queue("q", Exchange("e", "fanout"))
    quiet = Consumer(connection.channel(), [queue], auto_declare=False)
    with pytest.raises(NotFoundError):
        quiet.consume()
    consumer = Consumer(connection, [queue])
    publish(connection, "x", to="", exchange="e")
    assert consumer.purge() == 1
    assert [known.is_bound for known in consumer.queues] == [True]
    Consumer(connection, queue, auto_declare=False).consume()


def test_a_queue_can_be_added_later(connection: Connection) -> None:
    got: list[str] = []
    with Consumer(connection, callbacks=[lambda body, _: got.append(body)]) as consumer:
        added = consumer.add_queue(Queue("q"))
        assert not consumer.consuming_from("q")
        consumer.consume()
        assert consumer.consuming_from("q")
        assert consumer.consuming_from(added)
        publish(connection, "x")
        drain(connection)
    assert got == ["x"]


def test_queues_that_the_broker_names_are_all_consumed(connection: Connection) -> None:
    consumer = Consumer(connection, [Queue("", exclusive=True), Queue("", exclusive=True)])
    consumer.add_queue(Queue(""))
    names = [queue.name for queue in consumer.queues]
    assert len(set(names)) == 3
    assert all(name.startswith("amq.gen-") for name in names)
    with consumer:
        assert all(map(consumer.consuming_from, names))


def test_a_server_named_queue_moves_to_another_channel_as_it_is(connection: Connection) -> None:
    got: list[str] = []
    consumer = Consumer(connection, Queue(""), callbacks=[lambda body, _: got.append(body)])
    consumer.consume()
    (queue,) = consumer.queues
    consumer.revive(connection.channel())
    publish(connection, "x", to=queue.name)
    drain(connection)
    assert got == ["x"]


# -- starting and stopping -------------------------------------------------------------------


def test_a_consumer_consumes_while_its_block_lasts(connection: Connection) -> None:
    got: list[str] = []
    consumer = Consumer(connection, Queue("q"), callbacks=[lambda body, _: got.append(body)])
    publish(connection, "1")
    assert drain(connection) == 0
    with consumer as same:
        assert same is consumer
        assert drain(connection) == 1
    publish(connection, "2")
    assert drain(connection) == 0
    assert not consumer.consuming_from("q")
    with consumer:
        consumer.consume()
        assert drain(connection) == 1
    assert got == ["1", "2"]


def test_a_block_ends_though_its_channel_is_closed(connection: Connection) -> None:
    channel = connection.channel()
    consumer = Consumer(channel, Queue("q"))
    with pytest.raises(NotFoundError), consumer:
        channel.queue_declare("nowhere", passive=True)
    assert not consumer.consuming_from("q")


def test_one_queue_can_be_cancelled_alone(connection: Connection) -> None:
    got: list[str] = []
    queues = [Queue("a"), Queue("b")]
    with Consumer(connection, queues, callbacks=[lambda body, _: got.append(body)]) as consumer:
        consumer.cancel_by_queue(queues[0])
        consumer.cancel_by_queue("nowhere")
        consumer.consume()
        publish(connection, "1", to="a")
        publish(connection, "2", to="b")
        drain(connection)
        assert [queue.name for queue in consumer.queues] == ["b"]
    assert got == ["2"]


def test_what_is_unacknowledged_outlives_a_cancellation(connection: Connection) -> None:
    got: list[Message] = []
    consumer = Consumer(connection, Queue("q"), on_message=got.append)
    with consumer:
        publish(connection, "1", "2")
        connection.drain_events(timeout=1)
    assert waiting(connection) == 1
    got[0].ack()


def test_tags_begin_with_the_prefix(connection: Connection) -> None:
    got: list[Message] = []
    queues = [Queue("a"), Queue("b")]
    with Consumer(connection, queues, on_message=got.append, tag_prefix="worker-"):
        for queue in ("a", "b"):
            publish(connection, queue, to=queue)
        drain(connection)
    assert sorted(message.consumer_tag for message in got) == ["worker-1", "worker-2"]


def test_the_broker_may_end_a_subscription(connection: Connection) -> None:
    cancelled: list[str] = []
    consumer = Consumer(connection, Queue("q"), on_cancel=cancelled.append, tag_prefix="t")
    with consumer:
        connection.channel().queue_delete("q")
        connection.drain_events(timeout=5)
        assert cancelled == ["t1"]
        assert not consumer.consuming_from("q")


# -- acknowledgements and limits -------------------------------------------------------------


@pytest.mark.parametrize(
    ("queue", "consumer", "call", "expected"),
    [
        (False, None, None, False),
        (True, None, None, True),
        (True, False, None, False),
        (False, True, None, True),
        (False, True, False, False),
        (True, False, True, True),
    ],
)
def test_no_ack_is_the_calls_the_consumers_or_the_queues(
    connection: Connection, queue: bool, consumer: bool | None, call: bool | None, expected: bool
) -> None:
    got: list[Message] = []
    made = Consumer(connection, Queue("q", no_ack=queue), consumer, on_message=got.append)
    made.consume(no_ack=call)
    publish(connection, "x")
    drain(connection)
    assert got[0].acknowledged is expected


def test_a_prefetch_count_limits_each_queue(connection: Connection) -> None:
    got: list[Message] = []
    queues = [Queue("a"), Queue("b")]
    with Consumer(connection, queues, on_message=got.append, prefetch_count=2):
        for queue in ("a", "b"):
            publish(connection, "1", "2", "3", to=queue)
        assert drain(connection) == 4
        got[0].ack()
        assert drain(connection) == 1


def test_qos_may_limit_the_whole_channel(connection: Connection) -> None:
    got: list[Message] = []
    consumer = Consumer(connection, [Queue("a"), Queue("b")], on_message=got.append)
    consumer.qos(prefetch_count=3, apply_global=True)
    with consumer:
        for queue in ("a", "b"):
            publish(connection, "1", "2", "3", to=queue)
        assert drain(connection) == 3


def test_a_limit_moves_to_another_channel(connection: Connection) -> None:
    got: list[Message] = []
    consumer = Consumer(connection, Queue("q"), on_message=got.append)
    consumer.qos(prefetch_count=1)
    consumer.consume()
    consumer.revive(connection.channel())
    publish(connection, "1", "2")
    assert drain(connection) == 1


def test_flow_pauses_and_resumes_deliveries_in_order(connection: Connection) -> None:
    got: list[str] = []
    paused = Consumer(connection.channel(), Queue("a"), no_ack=True)
    other = Consumer(connection.channel(), Queue("b"), no_ack=True)
    for consumer in (paused, other):
        consumer.register_callback(lambda body, _: got.append(body))
        consumer.consume()
    publish(connection, "a1", "a2", "a3", to="a")
    publish(connection, "b1", "b2", to="b")
    connection.drain_events(timeout=1)
    paused.flow(False)
    first = got[:]
    drain(connection)
    assert [body for body in got[len(first) :] if body[0] == "a"] == []
    paused.flow(True)
    drain(connection)
    assert [body for body in got if body[0] == "a"] == ["a1", "a2", "a3"]
    assert [body for body in got if body[0] == "b"] == ["b1", "b2"]
