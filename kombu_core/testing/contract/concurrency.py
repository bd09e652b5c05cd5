"""Several consumers: they share a queue, and none is deaf when another goes."""

from __future__ import annotations

from kombu_core.testing.contract.fixtures import Connect, ContractFixtures
from kombu_core.testing.harness import (
    ContractConnection,
    Inbox,
    Names,
    declare_bound,
    drain_exactly,
    drain_until,
    publish,
    take,
)
from kombu_core.transport import Channel


class ConcurrencyContract(ContractFixtures):
    """Consumers side by side: on a channel, on a connection, on a broker."""

    def test_two_consumers_of_one_channel_share_a_queue(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        channel.basic_qos(prefetch_count=1)
        inboxes = [Inbox(), Inbox()]
        for inbox in inboxes:
            channel.basic_consume(queue, inbox)
        publish(channel, "", queue, "1", "2", "3")
        drain_exactly(connection, 2, *inboxes)
        assert [len(inbox) for inbox in inboxes] == [1, 1]

    def test_consumers_share_evenly(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        channel.basic_qos(prefetch_count=1)
        inboxes = [Inbox(ack=True), Inbox(ack=True)]
        for inbox in inboxes:
            channel.basic_consume(queue, inbox)
        publish(channel, "", queue, *map(str, range(40)))
        drain_until(connection, lambda: sum(map(len, inboxes)) == 40)
        assert min(map(len, inboxes)) >= 5
        assert sorted(int(body) for inbox in inboxes for body in inbox.bodies) == [*range(40)]

    def test_cancelling_one_consumer_leaves_the_other(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        first, second = Inbox(ack=True), Inbox(ack=True)
        channel.basic_consume(queue, first)
        tag = channel.basic_consume(queue, second)
        publish(channel, "", queue, *"1234")
        drain_until(connection, lambda: len(first) + len(second) == 4)
        before = len(first)
        channel.basic_cancel(tag)
        publish(channel, "", queue, *"5678")
        drain_until(connection, lambda: len(first) == before + 4)
        assert first.bodies[before:] == [*"5678"]

    def test_closing_one_channel_leaves_the_consumer_of_the_other(
        self, connection: ContractConnection, name: Names
    ) -> None:
        first, second = connection.channel(), connection.channel()
        first.queue_declare(queue := name())
        gone, stays = Inbox(), Inbox(ack=True)
        second.basic_consume(queue, gone)
        first.basic_consume(queue, stays)
        second.close()
        publish(first, "", queue, "1", "2", "3")
        drain_until(connection, lambda: len(stays) == 3)
        assert stays.bodies == ["1", "2", "3"]
        assert len(gone) == 0

    def test_each_consumer_has_its_own_callback(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        inboxes = {name(): Inbox(ack=True) for _ in range(4)}
        for queue, inbox in inboxes.items():
            channel.queue_declare(queue)
            channel.basic_consume(queue, inbox)
        for queue in inboxes:
            publish(channel, "", queue, f"for {queue}")
        drain_until(connection, lambda: all(map(len, inboxes.values())))
        for queue, inbox in inboxes.items():
            assert inbox.bodies == [f"for {queue}"]

    def test_two_queues_of_one_exchange_are_both_served(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.exchange_declare(exchange := name("x"), "fanout")
        inboxes = [Inbox(ack=True), Inbox(ack=True)]
        for inbox in inboxes:
            channel.basic_consume(declare_bound(channel, name(), exchange), inbox)
        publish(channel, exchange, "", "1", "2")
        drain_until(connection, lambda: sum(map(len, inboxes)) == 4)
        assert [inbox.bodies for inbox in inboxes] == [["1", "2"], ["1", "2"]]

    def test_a_busy_queue_does_not_starve_another(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        busy, quiet = name("busy"), name("quiet")
        inboxes = {busy: Inbox(ack=True), quiet: Inbox(ack=True)}
        channel.basic_qos(prefetch_count=5)
        for queue in (busy, quiet):
            channel.queue_declare(queue)
        publish(channel, "", busy, *map(str, range(100)))
        publish(channel, "", quiet, "me too")
        for queue, inbox in inboxes.items():
            channel.basic_consume(queue, inbox)
        drain_until(connection, lambda: len(inboxes[quiet]) == 1)
        assert len(inboxes[busy]) < 100
        drain_until(connection, lambda: len(inboxes[busy]) == 100)

    def test_consumers_of_two_connections_share_a_queue(
        self, connect: Connect, name: Names
    ) -> None:
        connections = [connect(), connect()]
        channels = [connection.channel() for connection in connections]
        channels[0].queue_declare(queue := name())
        inboxes = [Inbox(), Inbox()]
        for channel, inbox in zip(channels, inboxes, strict=True):
            channel.basic_qos(prefetch_count=1)
            channel.basic_consume(queue, inbox)
        publish(channels[0], "", queue, "1", "2", "3")
        for connection, inbox in zip(connections, inboxes, strict=True):
            drain_exactly(connection, 1, inbox)
        assert {body for inbox in inboxes for body in inbox.bodies} == {"1", "2"}
        assert channels[1].queue_declare(queue, passive=True) == (queue, 1, 2)

    def test_publishing_from_many_connections_loses_nothing(
        self, channel: Channel, connect: Connect, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        bodies = [str(number) for number in range(20)]
        for body in bodies:
            publish(connect().channel(), "", queue, body)
        assert take(channel, queue, 20) == bodies
