"""Consuming in batches, on the in-memory transport."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kombu_core import Connection, Queue
from kombu_core.batches import Batch, BatchConsumer
from kombu_core.exceptions import ConfigurationError, OperationTimeoutError


@pytest.fixture
def connection() -> Iterator[Connection]:
    with Connection("memory://batches") as connection:
        yield connection


@pytest.fixture
def queue(connection: Connection) -> Queue:
    queue = Queue("work")(connection)
    queue.declare()
    return queue


def put(connection: Connection, count: int) -> None:
    connection.Producer(routing_key="work").publish_many(str(number) for number in range(count))


def bodies(batch: Batch) -> list[int]:
    return [int(message.body) for message in batch]


def test_a_batch_is_as_large_as_it_may(connection: Connection, queue: Queue) -> None:
    put(connection, 7)
    batches: list[Batch] = []
    with BatchConsumer(connection, [queue], batches.append, size=3, wait=0.01) as consumer:
        for _ in range(3):
            consumer.drain_events(timeout=1)
            batches[-1].ack()
    assert [bodies(batch) for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert queue.get() is None


def test_nothing_is_no_batch(connection: Connection, queue: Queue) -> None:
    batches: list[Batch] = []
    with (
        BatchConsumer(connection, queue, batches.append, wait=0.01) as consumer,
        pytest.raises(OperationTimeoutError),
    ):
        consumer.drain_events(timeout=0.01)
    assert batches == []


def test_what_was_settled_alone_is_left_alone(connection: Connection, queue: Queue) -> None:
    put(connection, 3)

    def handle(batch: Batch) -> None:
        batch[1].reject()
        batch.ack()
        assert all(message.acknowledged for message in batch)

    with BatchConsumer(connection, queue, handle, size=3) as consumer:
        consumer.drain_events(timeout=1)
    assert queue.get() is None


def test_a_requeued_batch_comes_again_in_order(connection: Connection, queue: Queue) -> None:
    put(connection, 3)
    with BatchConsumer(connection, queue, Batch.requeue, size=3) as consumer:
        consumer.drain_events(timeout=1)
    again = [queue.get(no_ack=True) for _ in range(3)]
    assert [(m.body, m.redelivered) for m in again if m] == [
        (b"0", True),
        (b"1", True),
        (b"2", True),
    ]


def test_an_error_of_the_callback_comes_out_and_loses_nothing(
    connection: Connection, queue: Queue
) -> None:
    put(connection, 2)

    def fail(batch: Batch) -> None:
        raise KeyError("the application's own")

    with (
        pytest.raises(KeyError, match="own"),
        BatchConsumer(connection, queue, fail, size=2) as consumer,
    ):
        consumer.drain_events(timeout=1)
    assert queue.queue_declare(passive=True).message_count == 2


@pytest.mark.parametrize(("size", "wait"), [(0, 1.0), (1, -1.0)])
def test_nonsense_is_refused(connection: Connection, queue: Queue, size: int, wait: float) -> None:
    with pytest.raises(ConfigurationError):
        BatchConsumer(connection, queue, print, size=size, wait=wait)
