"""Loops over events, messages and replies; broadcasts; declarations made once; insured calls."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest

from kombu_core import Connection, Exchange, Queue
from kombu_core.exceptions import (
    ConnectionLostError,
    NotBoundError,
    NotFoundError,
    OperationTimeoutError,
)
from kombu_core.message import Message
from kombu_core.patterns import (
    Broadcast,
    collect_replies,
    drain_consumer,
    eventloop,
    ignore_errors,
    insured,
    itermessages,
    maybe_declare,
    send_reply,
    uuid,
)
from kombu_core.transport import Channel


@pytest.fixture
def connection(token: str) -> Iterator[Connection]:
    with Connection(f"memory://{token}") as connection:
        yield connection


@pytest.fixture
def queue() -> Queue:
    return Queue("q", Exchange("x"), "k")


def publish(connection: Connection, queue: Queue, *bodies: object) -> None:
    producer = connection.Producer(exchange=queue.exchange, routing_key="k")
    producer.maybe_declare(queue)
    for body in bodies:
        producer.publish(body)


# -- loops -----------------------------------------------------------------------------------


def test_the_event_loop_ends_at_its_limit(connection: Connection, queue: Queue) -> None:
    publish(connection, queue, 1, 2, 3)
    bodies: list[int] = []
    with connection.Consumer([queue], callbacks=[lambda body, message: bodies.append(body)]):
        assert len([*eventloop(connection, limit=2, timeout=1)]) == 2
    assert bodies == [1, 2]


def test_the_event_loop_tells_or_ignores_timeouts(connection: Connection, queue: Queue) -> None:
    with connection.Consumer([queue], on_message=Message.ack):
        with pytest.raises(OperationTimeoutError):
            next(eventloop(connection, timeout=0.01))
        steps = eventloop(connection, timeout=0.01, ignore_timeouts=True)
        assert [next(steps), next(steps)] == [None, None]


def test_messages_are_iterated_until_none_comes(connection: Connection, queue: Queue) -> None:
    publish(connection, queue, "a", "b", "c")
    seen: list[str] = []
    found = itermessages(
        connection,
        None,
        queue,
        limit=2,
        timeout=1,
        callbacks=[lambda body, message: seen.append(body)],
        prefetch_count=1,
    )
    for body, message in found:
        assert body == seen[-1]
        message.ack()
    assert seen == ["a", "b"]
    consumer = connection.Consumer([queue])
    assert [body for body, _ in drain_consumer(consumer, limit=None, timeout=0.02)] == ["c"]


def test_replies_find_their_way(connection: Connection, queue: Queue) -> None:
    replies = Queue("replies", auto_delete=False)
    replies(connection).declare()
    producer = connection.Producer()
    for body in ({"n": 1}, "text", b"bytes"):
        producer.publish(
            body,
            exchange=queue.exchange,
            routing_key="k",
            declare=[queue],
            reply_to="replies",
            correlation_id="7",
        )
    for body, message in itermessages(connection, None, queue, limit=3, timeout=1):
        send_reply("", message, [body == "text", message.content_type], producer)
        message.ack()
    assert [*collect_replies(connection, None, replies, limit=2, timeout=1, no_ack=False)] == [
        [False, "application/json"],
        [True, "text/plain"],
    ]
    (last,) = itermessages(connection, None, replies, limit=1, timeout=1, no_ack=True)
    assert last[1].properties["correlation_id"] == "7"


def test_a_reply_needs_an_address(connection: Connection, queue: Queue) -> None:
    publish(connection, queue, "nobody asked")
    ((_, message),) = itermessages(connection, None, queue, timeout=1)
    with pytest.raises(KeyError, match="reply_to"):
        send_reply("", message, "answer")


# -- broadcast -------------------------------------------------------------------------------


def test_everybody_gets_a_broadcast(connection: Connection) -> None:
    queues = [Broadcast("news"), Broadcast("news"), Broadcast("news", "mine", unique=True)]
    for queue in queues:
        queue(connection).declare()
    connection.Producer().publish("hello", exchange="news")
    for queue in queues:
        ((body, _),) = itermessages(connection, None, queue, timeout=1)
        assert body == "hello"


def test_a_broadcast_keeps_its_name() -> None:
    queue = Broadcast("news")
    assert queue.name.startswith("bcast.")
    assert queue.alias == "news"
    assert queue.auto_delete
    assert queue.exchange == Exchange("news", "fanout")
    assert copy.copy(queue) == pickle.loads(pickle.dumps(queue)) == queue
    assert copy.copy(queue).name == queue.name
    assert Broadcast("news", "mine").name == "mine"
    assert Broadcast("news", "mine", unique=True).name.startswith("mine.")
    assert Broadcast(exchange=Exchange("given")).exchange == Exchange("given")


# -- declaring -------------------------------------------------------------------------------


def test_an_entity_is_declared_once_for_each_connection(
    connection: Connection, queue: Queue
) -> None:
    assert maybe_declare(queue, connection)
    assert not maybe_declare(queue, connection.channel())
    assert not maybe_declare(queue(connection))
    assert maybe_declare(Queue("q2"), connection, retry=True, max_retries=1)
    connection.release()
    assert maybe_declare(queue, connection)
    with connection.clone() as other:
        assert maybe_declare(queue, other)


def test_what_goes_by_itself_is_declared_each_time(connection: Connection) -> None:
    broadcast = Broadcast("news")
    assert maybe_declare(broadcast, connection)
    assert maybe_declare(broadcast, connection)
    nameless = Queue(exclusive=True)(connection)
    assert maybe_declare(nameless)
    assert nameless.name


def test_declaring_needs_a_channel(queue: Queue) -> None:
    with pytest.raises(NotBoundError):
        maybe_declare(queue)


# -- insured ---------------------------------------------------------------------------------


def test_an_insured_call_is_repeated_on_a_new_connection(connection: Connection) -> None:
    attempts: list[Channel] = []
    revived: list[Channel] = []
    errors: list[BaseException] = []

    def call(number: int, *, connection: Connection, channel: Channel) -> int:
        attempts.append(channel)
        if len(attempts) == 1:
            connection.transport.close()
            raise ConnectionLostError("gone")
        channel.queue_declare("declared")
        return number + 1

    with connection.Pool(1) as pool:
        result = insured(
            pool,
            call,
            (1,),
            {},
            errback=lambda error, interval: errors.append(error),
            on_revive=revived.append,
            interval_start=0,
            max_retries=3,
        )
    assert result == 2
    assert len(attempts) == 2
    assert attempts[1] is not attempts[0]
    assert revived == attempts[1:]
    assert [str(error) for error in errors] == ["gone"]


def test_a_brokers_errors_are_ignored_and_no_others(connection: Connection) -> None:
    channel = connection.channel()
    with ignore_errors(connection):  # type: ignore[union-attr]
        channel.queue_declare("none", passive=True)
    assert ignore_errors(connection, connection.channel().queue_purge, "none") is None
    assert ignore_errors(connection, len, "abc") == 3
    with pytest.raises(ZeroDivisionError):
        ignore_errors(connection, lambda: 1 / 0)
    with pytest.raises(NotFoundError):
        connection.channel().queue_declare("none", passive=True)


def test_names_are_unique() -> None:
    assert len({uuid() for _ in range(100)}) == 100
