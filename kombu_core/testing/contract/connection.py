"""Connections and channels: they open, close, wait, and stand apart from each other."""

from __future__ import annotations

import threading
import time

import pytest

from kombu_core.exceptions import BrokerError, ConnectError, OperationTimeoutError
from kombu_core.testing.contract.fixtures import Connect, ContractFixtures
from kombu_core.testing.harness import (
    DEADLINE,
    BrokerUnderTest,
    ContractConnection,
    Inbox,
    Names,
    publish,
    take,
)
from kombu_core.testing.store.methods import describe, unwritten
from kombu_core.transport import Channel
from kombu_core.virtual.transport import VirtualTransport


class ConnectionContract(ContractFixtures):
    """What a connection and its channels promise before any message travels."""

    def test_a_connection_opens_and_closes(self, connection: ContractConnection) -> None:
        channel = connection.channel()
        assert connection.transport.is_connected
        assert channel.is_open
        transport = connection.transport
        connection.release()
        assert not transport.is_connected
        assert not channel.is_open

    def test_a_store_has_every_method(self, connection: ContractConnection) -> None:
        transport = connection.transport
        if isinstance(transport, VirtualTransport):
            store = transport.parts.broker.store
            lacking = [describe(method) for method in unwritten(type(store))]
            if lacking:
                text = f"{type(store).__name__} is not finished. It lacks:\n\n"
                pytest.fail(text + "\n\n".join(lacking), pytrace=False)

    def test_the_lease_is_what_the_kit_was_told(
        self, broker: BrokerUnderTest, connection: ContractConnection
    ) -> None:
        transport = connection.transport
        if isinstance(transport, VirtualTransport):
            assert transport.lease == broker.lease, (
                f"BrokerUnderTest says that the lease is {broker.lease} s, but the transport has "
                f"one of {transport.lease} s. Hand the option on, as super().__init__(parameters, "
                "lease=options.lease), and set it in BrokerUnderTest.transport_options"
            )

    def test_release_is_idempotent(self, connection: ContractConnection) -> None:
        connection.channel()
        connection.release()
        connection.release()

    def test_a_channel_closes_twice(self, channel: Channel) -> None:
        channel.close()
        channel.close()
        assert not channel.is_open

    def test_a_channel_closes_at_the_end_of_a_block(self, connection: ContractConnection) -> None:
        with connection.channel() as channel:
            assert channel.is_open
        assert not channel.is_open

    def test_closing_a_channel_leaves_the_others(
        self, connection: ContractConnection, name: Names
    ) -> None:
        first, second = connection.channel(), connection.channel()
        first.close()
        assert second.is_open
        second.queue_declare(queue := name())
        publish(second, "", queue, "still here")
        assert take(second, queue, 1) == ["still here"]

    def test_channels_have_their_own_numbers(self, connection: ContractConnection) -> None:
        channels = [connection.channel() for _ in range(3)]
        assert len({channel.channel_id for channel in channels}) == 3

    def test_a_channel_knows_its_transport(self, connection: ContractConnection) -> None:
        assert connection.channel().transport is connection.transport

    def test_a_closed_channel_refuses_methods(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        channel.close()
        with pytest.raises(BrokerError):
            channel.queue_declare(queue, passive=True)
        with pytest.raises(BrokerError):
            publish(channel, "", queue, "too late")

    def test_many_channels_can_be_opened_and_closed(self, connection: ContractConnection) -> None:
        for _ in range(50):
            connection.channel().close()
        assert connection.channel().is_open

    def test_draining_times_out_with_nothing_to_do(self, connection: ContractConnection) -> None:
        connection.channel()
        begin = time.monotonic()
        with pytest.raises(OperationTimeoutError) as caught:
            connection.drain_events(timeout=0.1)
        assert isinstance(caught.value, TimeoutError)
        assert 0.05 < time.monotonic() - begin < DEADLINE

    def test_an_idle_connection_uses_no_processor(
        self, connection: ContractConnection, name: Names
    ) -> None:
        channel = connection.channel()
        channel.queue_declare(queue := name())
        channel.basic_consume(queue, Inbox())
        begin, used = time.monotonic(), time.process_time()
        while time.monotonic() - begin < 1.0:
            with pytest.raises(OperationTimeoutError):
                connection.drain_events(timeout=0.5)
        assert time.process_time() - used < 0.25

    def test_an_idle_connection_wakes_for_a_message(
        self, connection: ContractConnection, connect: Connect, name: Names
    ) -> None:
        channel, other = connection.channel(), connect().channel()
        channel.queue_declare(queue := name())
        received: list[float] = []
        published: list[float] = []
        channel.basic_consume(queue, lambda message: received.append(time.monotonic()), no_ack=True)
        for _ in range(3):

            def publish_later() -> None:
                time.sleep(0.1)  # Meanwhile the other falls asleep.
                published.append(time.monotonic())
                publish(other, "", queue, "wake up")

            publisher = threading.Thread(target=publish_later)
            publisher.start()
            connection.drain_events(timeout=5.0)
            publisher.join()
        # All three together, so that neither one pause of the machine fails nor polling passes.
        assert sum(received) - sum(published) < 1.5

    def test_drain_events_handles_one_delivery_for_each_call(
        self, connection: ContractConnection, name: Names
    ) -> None:
        channel = connection.channel()
        channel.queue_declare(queue := name())
        inbox = Inbox(ack=True)
        publish(channel, "", queue, "1", "2", "3")
        channel.basic_consume(queue, inbox)
        for count in (1, 2, 3):
            connection.drain_events(timeout=DEADLINE)
            assert len(inbox) == count

    def test_a_dead_address_fails_soon_and_says_no_secret(self, broker: BrokerUnderTest) -> None:
        if not broker.dead_url:
            pytest.skip("no address without a broker was given")
        begin = time.monotonic()
        with pytest.raises(ConnectError) as caught:
            broker.open(broker.dead_url).channel()
        assert time.monotonic() - begin < 2 * DEADLINE
        assert caught.value.is_retryable
        assert "secret" not in str(caught.value)
