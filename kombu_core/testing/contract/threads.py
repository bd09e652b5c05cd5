"""Threads: they may share a connection and publish on one channel, and no call hangs."""

from __future__ import annotations

import threading

from kombu_core.exceptions import KombuError
from kombu_core.testing.contract.fixtures import ContractFixtures
from kombu_core.testing.harness import (
    DEADLINE,
    ContractConnection,
    Inbox,
    Names,
    drain_until,
    publish,
    run_threads,
    take,
)
from kombu_core.transport import Channel


class ThreadContract(ContractFixtures):
    """What threads may do side by side."""

    def test_threads_share_a_publishing_channel(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())

        def work(worker: int) -> None:
            for number in range(50):
                publish(channel, "", queue, f"{worker}:{number}")

        run_threads(lambda worker=worker: work(worker) for worker in range(8))  # type: ignore[misc]
        bodies = take(other, queue, 400)
        for worker in range(8):
            mine = [body for body in bodies if body.startswith(f"{worker}:")]
            assert mine == [f"{worker}:{number}" for number in range(50)]

    def test_threads_share_a_connection(
        self, connection: ContractConnection, other: Channel, name: Names
    ) -> None:
        queue = name()
        other.queue_declare(queue)
        queues = [name() for _ in range(6)]

        def work(own: str) -> None:
            channel = connection.channel()
            channel.queue_declare(own)
            for number in range(10):
                publish(channel, "", own, str(number))
                publish(channel, "", queue, "shared")
            assert take(channel, own, 10) == [str(number) for number in range(10)]
            channel.close()

        run_threads(lambda own=own: work(own) for own in queues)  # type: ignore[misc]
        assert take(other, queue, 60) == ["shared"] * 60

    def test_a_thread_publishes_while_another_waits_for_messages(
        self, connection: ContractConnection, name: Names
    ) -> None:
        consuming, publishing = connection.channel(), connection.channel()
        consuming.queue_declare(queue := name())
        inbox = Inbox(ack=True)
        consuming.basic_consume(queue, inbox)
        bodies = [str(number) for number in range(50)]
        run_threads(
            [
                lambda: drain_until(connection, lambda: len(inbox) == 50),
                lambda: publish(publishing, "", queue, *bodies),
            ]
        )
        assert inbox.bodies == bodies

    def test_releasing_a_connection_wakes_who_waits_on_it(
        self, connection: ContractConnection, name: Names
    ) -> None:
        channel = connection.channel()
        channel.queue_declare(queue := name())
        channel.basic_consume(queue, Inbox())
        transport = connection.transport
        waiting, errors = threading.Event(), list[Exception]()

        def wait() -> None:
            waiting.set()
            try:
                transport.drain_events(timeout=2 * DEADLINE)
            except KombuError as exc:
                errors.append(exc)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        waiting.wait(DEADLINE)
        connection.release()
        thread.join(DEADLINE)
        assert not thread.is_alive()
        assert not any(isinstance(error, TimeoutError) for error in errors)
