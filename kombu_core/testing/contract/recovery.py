"""What comes back: from a closed channel, a released connection, a killed process, a restart."""

from __future__ import annotations

import time

import pytest

from kombu_core.exceptions import KombuError
from kombu_core.message import PERSISTENT, Message
from kombu_core.testing.contract.fixtures import Connect, ContractFixtures, StartPeer
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import (
    BrokerUnderTest,
    ContractConnection,
    Inbox,
    Names,
    drain_quiet,
    drain_until,
    fetch,
    fetch_many,
    publish,
    ready,
    take,
    until,
)
from kombu_core.testing.peer import PeerError
from kombu_core.transport import Channel


class RecoveryContract(ContractFixtures):
    """No message is lost with who holds it, and none is given away while its holder lives."""

    def test_unacknowledged_messages_come_back_when_the_channel_closes(
        self, connection: ContractConnection, other: Channel, name: Names
    ) -> None:
        channel = connection.channel()
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1", "2", "3", "4")
        fetch_many(channel, queue, 3)[1].ack()
        channel.close()
        messages = fetch_many(other, queue, 3)
        assert [message.body for message in messages] == [b"1", b"3", b"4"]
        assert [message.redelivered for message in messages] == [True, True, False]

    def test_unacknowledged_messages_come_back_when_the_connection_is_released(
        self, connection: ContractConnection, other: Channel, name: Names
    ) -> None:
        channel = connection.channel()
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1", "2", "3")
        inbox = Inbox()
        channel.basic_consume(queue, inbox)
        drain_until(connection, lambda: len(inbox) == 3)
        connection.release()
        messages = fetch_many(other, queue, 3)
        assert [message.body for message in messages] == [b"1", b"2", b"3"]
        assert all(message.redelivered for message in messages)

    def test_what_was_prefetched_and_not_handled_comes_back(
        self, connection: ContractConnection, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, *"12345")
        inbox = Inbox(ack=True)
        channel.basic_consume(queue, inbox)
        drain_until(connection, lambda: len(inbox) == 1)
        connection.release()
        left = [str(number) for number in range(len(inbox) + 1, 6)]
        assert take(other, queue, len(left)) == left

    def test_a_waiting_consumer_gets_what_comes_back(
        self, connection: ContractConnection, connect: Connect, name: Names
    ) -> None:
        holder = connection.channel()
        holder.queue_declare(queue := name())
        publish(holder, "", queue, "1")
        fetch(holder, queue)
        consumer, inbox = connect(), Inbox()
        consumer.channel().basic_consume(queue, inbox)
        drain_quiet(consumer)
        assert len(inbox) == 0
        connection.release()
        drain_until(consumer, lambda: len(inbox) == 1)
        assert inbox.messages[0].redelivered

    def test_a_killed_process_gives_its_messages_back(
        self, broker: BrokerUnderTest, channel: Channel, start_peer: StartPeer, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1", "2", "3")
        peer = start_peer()
        assert [peer.call("basic_get", queue) for _ in range(2)] == [["1", False], ["2", False]]
        assert ready(channel, queue) == 1
        peer.kill()
        what = "the return of what a killed process had, when its lease had run out,"
        until(lambda: ready(channel, queue) == 3, what, broker.patience)
        messages = fetch_many(channel, queue, 3)
        assert [message.body for message in messages] == [b"1", b"2", b"3"]
        assert [message.redelivered for message in messages] == [True, True, False]

    def test_a_killed_process_gives_its_messages_to_who_waits(
        self,
        broker: BrokerUnderTest,
        connection: ContractConnection,
        start_peer: StartPeer,
        name: Names,
    ) -> None:
        channel = connection.channel()
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1")
        peer = start_peer()
        assert peer.call("basic_get", queue) == ["1", False]
        inbox = Inbox()
        channel.basic_consume(queue, inbox)
        drain_quiet(connection)
        peer.kill()
        drain_until(connection, lambda: len(inbox) == 1, timeout=broker.patience)
        assert inbox.messages[0].redelivered

    def test_a_slow_handler_keeps_its_message(
        self,
        broker: BrokerUnderTest,
        connection: ContractConnection,
        connect: Connect,
        name: Names,
    ) -> None:
        if broker.lease is None:
            pytest.skip("the broker knows no lease that a handler could outlive")
        channel = connection.channel()
        channel.queue_declare(queue := name())
        rival, rivals = connect(), Inbox()
        rival_channel, patience = rival.channel(), 3 * broker.lease
        handled: list[Message] = []

        def handle(message: Message) -> None:
            rival_channel.basic_consume(queue, rivals)
            drain_quiet(rival, patience)
            message.ack()
            handled.append(message)

        channel.basic_consume(queue, handle, consumer_tag="slow")
        publish(channel, "", queue, "1")
        drain_until(connection, lambda: handled, timeout=broker.patience + patience)
        channel.basic_cancel("slow")
        connection.release()
        drain_quiet(rival)
        assert len(rivals) == 0

    def test_a_process_that_slept_too_long_settles_nothing(
        self, broker: BrokerUnderTest, channel: Channel, start_peer: StartPeer, name: Names
    ) -> None:
        if broker.lease is None:
            pytest.skip("the broker knows no lease that a process could outsleep")
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1")
        peer = start_peer()
        assert peer.call("basic_get", queue) == ["1", False]
        peer.pause()
        message = fetch(channel, queue, timeout=broker.patience)
        peer.resume()
        with pytest.raises(PeerError, match=r"LeaseLostError|SessionLostError|ConnectionLostError"):
            peer.call("basic_ack", 1)
            peer.call("basic_get", queue)
        assert message.redelivered
        message.requeue()
        assert take(channel, queue, 1) == ["1"]

    # -- faults of the broker, where its author can cause them -----------------------------

    @requires("persistent")
    def test_durable_things_survive_a_restart(
        self, broker: BrokerUnderTest, connect: Connect, name: Names
    ) -> None:
        if broker.restart is None:
            pytest.skip("the broker cannot be restarted here")
        exchange, queue = name("x"), name()
        connection = connect()
        channel = connection.channel()
        channel.exchange_declare(exchange, "topic", durable=True)
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, exchange, "a.#")
        publish(channel, exchange, "a", "1", "2", delivery_mode=PERSISTENT)
        fetch(channel, queue)
        broker.restart()
        connection.release()  # It may have found its way back by itself.
        channel = connect().channel()
        until(lambda: ready(channel, queue) == 2, "both messages", broker.patience)
        publish(channel, exchange, "a.b", "3")
        assert take(channel, queue, 3) == ["1", "2", "3"]

    def test_a_lost_broker_is_an_error_of_ours_and_soon(
        self, broker: BrokerUnderTest, connect: Connect, name: Names
    ) -> None:
        if broker.kill is None or broker.restart is None:
            pytest.skip("the broker cannot be killed here")
        channel = connect().channel()
        channel.queue_declare(queue := name())
        broker.kill()
        begin = time.monotonic()
        try:
            with pytest.raises(KombuError) as caught:
                for _ in range(3):
                    publish(channel, "", queue, "into the void")
            assert caught.value.is_retryable
            assert time.monotonic() - begin < 30
        finally:
            broker.restart()
        connect().channel().queue_declare(name())
