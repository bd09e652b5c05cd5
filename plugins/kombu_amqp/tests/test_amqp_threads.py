"""One connection, its producer and its channels, shared by threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from kombu_core.exceptions import KombuError
from kombu_core.message import Message
from kombu_core.testing.harness import Inbox, drain_until, publish, ready, take
from plugins.kombu_amqp.tests.conftest import Open


def run(works: Iterable[Callable[[], object]]) -> None:
    """Run each work in a thread, and raise the first error of any."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as exc:  # noqa: BLE001  (raised below, in the test's thread)
            errors.append(exc)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"


def test_eight_threads_share_a_producer(open_connection: Open, queue: str) -> None:
    connection = open_connection()
    producer = connection.Producer()

    def work() -> None:
        for _ in range(300):
            producer.publish("x", queue)

    run([work] * 8)
    assert ready(connection.channel(), queue) == 2400


def test_publishing_does_not_wait_for_who_waits_for_ever(open_connection: Open, queue: str) -> None:
    connection = open_connection()
    consuming, publishing = connection.channel(), connection.channel()
    inbox = Inbox(ack=True)
    consuming.basic_consume(queue, inbox)

    def drain() -> None:
        while len(inbox) < 100:
            connection.drain_events(None)

    bodies = [str(number) for number in range(100)]

    def work() -> None:
        for body in bodies:
            publish(publishing, "", queue, body)
            publishing.queue_declare(queue, passive=True)

    run([drain, work])
    assert inbox.bodies == bodies


def test_threads_settle_what_one_thread_receives(open_connection: Open, queue: str) -> None:
    connection = open_connection()
    channel = connection.channel()
    channel.basic_qos(prefetch_count=20)
    publish(channel, "", queue, *map(str, range(200)))
    received: list[Message] = []
    workers: list[threading.Thread] = []

    def hand_over(message: Message) -> None:
        received.append(message)
        workers.append(threading.Thread(target=message.ack))
        workers[-1].start()

    channel.basic_consume(queue, hand_over)
    drain_until(connection, lambda: len(received) == 200)
    for worker in workers:
        worker.join()
    connection.release()
    assert take(open_connection().channel(), queue, 0) == []


def test_acks_out_of_order_are_each_for_their_message(open_connection: Open, queue: str) -> None:
    connection = open_connection()
    channel = connection.channel()
    publish(channel, "", queue, *map(str, range(20)))
    inbox = Inbox()
    channel.basic_consume(queue, inbox)
    drain_until(connection, lambda: len(inbox) == 20)
    for message in reversed(inbox.messages[::2]):
        message.ack()
    connection.release()
    left = take(open_connection().channel(), queue, 10)
    assert left == [str(number) for number in range(1, 20, 2)]


def test_closing_ends_a_wait_without_end(open_connection: Open, queue: str) -> None:
    connection = open_connection()
    connection.channel().basic_consume(queue, Inbox())
    transport = connection.transport
    ended: list[BaseException] = []

    def drain() -> None:
        try:
            transport.drain_events(None)
        except KombuError as error:
            ended.append(error)

    thread = threading.Thread(target=drain)
    thread.start()
    connection.release()
    thread.join(5)
    assert not thread.is_alive()
