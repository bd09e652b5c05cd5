"""Batches of a producer: sent together, in order, discarded with their block, by thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from kombu_core import Connection, Producer, Queue
from kombu_core.exceptions import (
    BatchPublishError,
    ConfigurationError,
    PublishRejectedError,
    UnroutableError,
)


@pytest.fixture
def connection() -> Iterator[Connection]:
    with Connection("memory://test-producer-batch") as connection:
        yield connection


@pytest.fixture
def queue(connection: Connection) -> Queue:
    queue = Queue("q")(connection)
    queue.declare()
    return queue


@pytest.fixture
def producer(connection: Connection, queue: Queue) -> Producer:
    return Producer(connection, routing_key="q")


def waiting(queue: Queue) -> int:
    return queue.queue_declare(passive=True).message_count


def bodies(queue: Queue) -> list[str]:
    found = [queue.get(no_ack=True) for _ in range(waiting(queue))]
    return [message.payload for message in found if message is not None]


def test_a_batch_is_sent_at_the_end_of_its_block(producer: Producer, queue: Queue) -> None:
    with producer.batch() as same:
        assert same is producer
        producer.publish("1")
        same.publish("2")
        assert waiting(queue) == 0
    assert bodies(queue) == ["1", "2"]
    producer.publish("3")
    assert bodies(queue) == ["3"]


def test_a_batch_is_sent_each_time_that_it_is_full(producer: Producer, queue: Queue) -> None:
    seen = []
    with producer.batch(max_size=2):
        for number in range(5):
            producer.publish(str(number))
            seen.append(waiting(queue))
    assert seen == [0, 2, 2, 4, 4]
    assert bodies(queue) == ["0", "1", "2", "3", "4"]
    for size in (0, -1):
        with pytest.raises(ConfigurationError):
            producer.batch(size)


def test_an_error_in_the_block_discards_what_was_not_sent(producer: Producer, queue: Queue) -> None:
    batch = producer.batch(max_size=2)
    with pytest.raises(ZeroDivisionError), batch:
        for body in ("1", "2", "3"):
            producer.publish(body)
        _ = 1 / 0
    producer.publish("4")
    with batch:
        producer.publish("5")
    assert bodies(queue) == ["1", "2", "4", "5"]


def test_an_empty_batch_sends_nothing(producer: Producer) -> None:
    with producer.batch():
        pass
    assert producer.used_channel is None


def test_a_batch_in_a_batch_keeps_the_order(producer: Producer, queue: Queue) -> None:
    with producer.batch():
        producer.publish("1")
        producer.publish_many(["2", "3"])
        producer.publish("4")
        with pytest.raises(ZeroDivisionError), producer.batch():
            producer.publish("discarded")
            _ = 1 / 0
        producer.publish("5")
        assert waiting(queue) == 3
    assert bodies(queue) == ["1", "2", "3", "4", "5"]


def test_a_batch_belongs_to_its_thread(producer: Producer, queue: Queue) -> None:
    with producer.batch():
        producer.publish("in the batch")
        thread = threading.Thread(target=producer.publish, args=("of another thread",))
        thread.start()
        thread.join()
        assert bodies(queue) == ["of another thread"]
    assert bodies(queue) == ["in the batch"]


def test_threads_have_batches_at_the_same_time(producer: Producer, queue: Queue) -> None:
    barrier = threading.Barrier(2, timeout=10)

    def work(name: str) -> None:
        with producer.batch():
            producer.publish(f"{name}1")
            barrier.wait()
            producer.publish(f"{name}2")

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = bodies(queue)
    assert sorted(found) == ["a1", "a2", "b1", "b2"]
    assert [body for body in found if body[0] == "a"] == ["a1", "a2"]


def test_a_batch_names_what_was_not_stored_counted_from_its_beginning(
    connection: Connection, producer: Producer, queue: Queue
) -> None:
    Queue("full", max_length=0, queue_arguments={"x-overflow": "reject-publish"})(
        connection
    ).declare()
    with pytest.raises(BatchPublishError) as caught, producer.batch(max_size=3):
        for number in range(3):
            producer.publish(str(number))
        producer.publish("3")
        producer.publish("full", "full")
        producer.publish("nowhere", "nowhere", mandatory=True)
    assert {position: type(error) for position, error in caught.value.failed.items()} == {
        4: PublishRejectedError,
        5: UnroutableError,
    }
    assert caught.value.size == 6
    assert bodies(queue) == ["0", "1", "2", "3"]


def test_returned_messages_of_a_batch_go_to_the_callback(connection: Connection) -> None:
    returned: list[str] = []
    producer = Producer(
        connection, on_return=lambda envelope, *_: returned.append(envelope.body.decode())
    )
    with producer.batch():
        producer.publish("1", "nowhere", mandatory=True)
        producer.publish("2", "nowhere")
    assert returned == ["1"]


def test_many_bodies_are_published_with_the_same_options(producer: Producer, queue: Queue) -> None:
    producer.publish_many((str(number) for number in range(3)), "q", headers={"h": 1})
    messages = [queue.get() for _ in range(3)]
    assert [message.payload for message in messages if message] == ["0", "1", "2"]
    assert all(message is not None and message.headers == {"h": 1} for message in messages)


def test_a_batch_declares_what_its_messages_ask_for(connection: Connection) -> None:
    producer = connection.Producer(routing_key="new")
    with producer.batch():
        producer.publish("1", declare=[Queue("new")])
    assert bodies(Queue("new")(connection)) == ["1"]
