"""Simple queues: the interface of `queue.Queue`, on the in-memory transport."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from kombu_core import Connection, Exchange, Queue
from kombu_core.exceptions import ConfigurationError, ContentRefusedError
from kombu_core.simple import SimpleBuffer, SimpleQueue


@pytest.fixture
def connection(token: str) -> Iterator[Connection]:
    with Connection(f"memory://{token}") as connection:
        yield connection


def test_what_is_put_is_got_in_order(connection: Connection) -> None:
    with connection.SimpleQueue("simple") as simple:
        for number in range(3):
            simple.put({"number": number}, headers={"n": number}, compression="zlib")
        assert len(simple) == simple.qsize() == 3
        messages = [simple.get(timeout=1), simple.get_nowait(), simple.get(block=False)]
        assert [message.payload for message in messages] == [{"number": n} for n in range(3)]
        assert [message.headers["n"] for message in messages] == [0, 1, 2]
        for message in messages:
            message.ack()
        assert simple.qsize() == 0


def test_an_empty_queue_is_told_at_once_or_in_time(connection: Connection) -> None:
    simple = connection.SimpleQueue("simple")
    with pytest.raises(queue.Empty):
        simple.get_nowait()
    with pytest.raises(simple.Empty):
        simple.get(timeout=0)
    began = monotonic()
    with pytest.raises(SimpleQueue.Empty):
        simple.get(timeout=0.05)
    assert monotonic() - began >= 0.05
    assert simple, "an empty queue is not false"
    simple.close()


def test_a_message_leaves_the_queue_when_it_is_got(connection: Connection) -> None:
    with connection.SimpleQueue("simple") as simple, connection.clone() as elsewhere:
        with pytest.raises(queue.Empty):
            simple.get(timeout=0.01)
        for number in range(4):
            simple.put(number)
        first = simple.get(timeout=1)
        assert simple.qsize() == 3
        second = elsewhere.SimpleQueue("simple").get(timeout=1)
        assert second.payload == 1
        second.ack()
        first.ack()
    simple.close()
    with connection.SimpleQueue("simple") as again:
        assert [message.payload for message in again] == [2, 3]


def test_waiting_ends_when_something_comes(connection: Connection) -> None:
    def put() -> None:
        with connection.clone() as elsewhere:
            for number in range(3):
                elsewhere.SimpleQueue("simple").put(number)

    with connection.SimpleQueue("simple") as simple:
        thread = threading.Thread(target=put)
        thread.start()
        got = [simple.get(timeout=10) for _ in range(3)]
        thread.join()
        assert [message.payload for message in got] == [0, 1, 2]
        assert simple.qsize() == 0


def test_an_auto_delete_queue_lives_until_it_is_closed(connection: Connection) -> None:
    with connection.SimpleQueue("simple", queue_opts={"auto_delete": True}) as simple:
        simple.put(1)
        simple.get(timeout=1).ack()
        with pytest.raises(queue.Empty):
            simple.get(timeout=0.01)
        for number in (2, 3, 4):
            simple.put(number)
        assert simple.get(timeout=1).payload == 2
        assert simple.qsize() == 2
        assert simple.clear() == 2
        assert simple.qsize() == 0


def test_clear_deletes_what_nobody_got(connection: Connection) -> None:
    with connection.SimpleQueue("simple") as simple:
        for number in range(4):
            simple.put(number)
        simple.get(timeout=1).ack()
        assert simple.clear() == 3
        assert simple.qsize() == 0
        with pytest.raises(queue.Empty):
            simple.get_nowait()


def test_a_queue_may_be_declared_by_itself(connection: Connection) -> None:
    declared = Queue("declared", Exchange("there", "topic"), "a.b", message_ttl=60)
    with connection.SimpleQueue(declared) as simple:
        simple.put("through its exchange")
        assert simple.get(timeout=1).payload == "through its exchange"
    with connection.SimpleQueue(Queue("plain")) as simple:
        simple.put("by its name")
        assert simple.get(timeout=1).payload == "by its name"
    with pytest.raises(ConfigurationError, match="options"):
        connection.SimpleQueue(declared, queue_opts={"durable": False})


def test_a_buffer_goes_with_its_connection(connection: Connection) -> None:
    with connection.SimpleBuffer("buffer") as simple:
        assert isinstance(simple, SimpleBuffer)
        assert simple.queue.exclusive
        simple.put("1")
        simple.put("2")
        assert simple.get(timeout=1).acknowledged
        assert simple.get_nowait().payload == "2"
    connection.release()
    with connection.SimpleQueue("buffer", exchange_opts=dict(SimpleBuffer.exchange_opts)) as new:
        assert new.qsize() == 0
        assert not new.queue.exclusive


def test_what_is_not_accepted_is_not_decoded(connection: Connection) -> None:
    with connection.SimpleQueue("simple", accept=["json"]) as simple:
        for get in (simple.get_nowait, lambda: simple.get(timeout=1)):
            simple.put("text", serializer="text")
            message = get()
            with pytest.raises(ContentRefusedError):
                _ = message.payload
            message.ack()


def test_a_channel_of_ones_own_and_options(connection: Connection) -> None:
    channel = connection.channel()
    simple = connection.SimpleQueue(
        "mine", no_ack=True, queue_args={"x-max-length": 1}, channel=channel, serializer="json"
    )
    assert simple.channel is channel
    simple.put("1")
    simple.put("2")
    message = simple.get(timeout=1)
    assert (message.payload, message.content_type) == ("2", "application/json")
    assert message.acknowledged
    channel.close()
    simple.close()
    assert "mine" in repr(simple)
