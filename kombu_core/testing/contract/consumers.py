"""RabbitMQ's ways with consumers: exclusive, single active, by priority, and told of their end."""

from __future__ import annotations

import pytest

from kombu_core.exceptions import AccessRefusedError, PreconditionFailedError
from kombu_core.testing.contract.fixtures import Connect, ContractFixtures
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import (
    ContractConnection,
    Inbox,
    Names,
    drain_exactly,
    drain_quiet,
    drain_until,
    publish,
    take,
)
from kombu_core.transport import Channel


class ConsumerContract(ContractFixtures):
    """exclusive, x-single-active-consumer, x-priority and basic.cancel from the broker."""

    # -- exclusive -------------------------------------------------------------------------

    @requires("exclusive_consumers")
    @pytest.mark.parametrize("exclusive", [False, True])
    def test_an_exclusive_consumer_tolerates_no_other(
        self, channel: Channel, other: Channel, name: Names, exclusive: bool
    ) -> None:
        channel.queue_declare(queue := name())
        channel.basic_consume(queue, Inbox(), exclusive=True)
        with pytest.raises(AccessRefusedError) as caught:
            other.basic_consume(queue, Inbox(), exclusive=exclusive)
        assert caught.value.code == 403
        assert not other.is_open
        assert channel.is_open

    @requires("exclusive_consumers")
    def test_a_consumer_cannot_become_exclusive_beside_another(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        channel.basic_consume(queue, Inbox())
        with pytest.raises(AccessRefusedError):
            other.basic_consume(queue, Inbox(), exclusive=True)

    @requires("exclusive_consumers")
    def test_an_exclusive_consumer_makes_room_when_it_goes(
        self, connection: ContractConnection, connect: Connect, name: Names
    ) -> None:
        holder, queue = connect(), name()
        first, second = holder.channel(), connection.channel()
        first.queue_declare(queue)
        tag = first.basic_consume(queue, Inbox(), exclusive=True)
        first.basic_cancel(tag)
        inbox = Inbox(ack=True)
        second.basic_consume(queue, inbox, exclusive=True)
        publish(first, "", queue, "1")
        drain_until(connection, lambda: len(inbox) == 1)

    # -- single active consumer ------------------------------------------------------------

    @requires("single_active_consumer", "exclusive_consumers")
    def test_single_active_and_exclusive_exclude_each_other(
        self, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name(), arguments={"x-single-active-consumer": True})
        with pytest.raises(AccessRefusedError):
            channel.basic_consume(queue, Inbox(), exclusive=True)

    @requires("single_active_consumer")
    def test_single_active_is_true_or_false(self, channel: Channel, name: Names) -> None:
        with pytest.raises(PreconditionFailedError):
            channel.queue_declare(name(), arguments={"x-single-active-consumer": "yes"})

    @requires("single_active_consumer")
    def test_only_one_consumer_is_active(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name(), arguments={"x-single-active-consumer": True})
        inboxes = [Inbox(ack=True), Inbox(ack=True)]
        for inbox in inboxes:
            channel.basic_consume(queue, inbox)
        publish(channel, "", queue, *map(str, range(10)))
        drain_until(connection, lambda: sum(map(len, inboxes)) == 10)
        assert [len(inbox) for inbox in inboxes] == [10, 0]

    @requires("single_active_consumer")
    @pytest.mark.parametrize("end", ["cancel", "channel", "connection"])
    def test_another_consumer_takes_over(
        self, connection: ContractConnection, connect: Connect, name: Names, end: str
    ) -> None:
        active, queue = connect(), name()
        first, second = active.channel(), connection.channel()
        first.queue_declare(queue, arguments={"x-single-active-consumer": True})
        inboxes = [Inbox(ack=True), Inbox(ack=True)]
        first.basic_consume(queue, inboxes[0], consumer_tag="active")
        second.basic_consume(queue, inboxes[1])
        publish(second, "", queue, "1")
        drain_until(active, lambda: len(inboxes[0]) == 1)
        if end == "cancel":
            first.basic_cancel("active")
        elif end == "channel":
            first.close()
        else:
            active.release()
        publish(second, "", queue, "2", "3")
        drain_until(connection, lambda: len(inboxes[1]) == 2)
        assert [inbox.bodies for inbox in inboxes] == [["1"], ["2", "3"]]

    @requires("single_active_consumer", "consumer_priorities")
    def test_priority_decides_who_takes_over_and_displaces_nobody(
        self, connection: ContractConnection, connect: Connect, name: Names
    ) -> None:
        channels = [connection.channel(), connect().channel(), connection.channel()]
        queue = name()
        channels[0].queue_declare(queue, arguments={"x-single-active-consumer": True})
        inboxes = [Inbox(ack=True) for _ in range(3)]
        for channel, inbox, priority in zip(channels, inboxes, (0, -1, 5), strict=True):
            arguments = {"x-priority": priority}
            tag = f"priority{priority}"
            channel.basic_consume(queue, inbox, consumer_tag=tag, arguments=arguments)
        publish(channels[1], "", queue, "1")
        drain_until(connection, lambda: len(inboxes[0]) == 1)
        channels[0].basic_cancel("priority0")
        publish(channels[1], "", queue, "2")
        drain_until(connection, lambda: len(inboxes[2]) == 1)
        assert [inbox.bodies for inbox in inboxes] == [["1"], [], ["2"]]

    # -- consumer priority -----------------------------------------------------------------

    @requires("consumer_priorities")
    def test_the_consumer_of_higher_priority_is_served_first(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        channel.basic_qos(prefetch_count=3)
        low, high = Inbox(), Inbox()
        channel.basic_consume(queue, low, arguments={"x-priority": 1})
        channel.basic_consume(queue, high, arguments={"x-priority": 10})
        publish(channel, "", queue, *"12345")
        drain_exactly(connection, 5, low, high)
        assert high.bodies == ["1", "2", "3"]
        assert low.bodies == ["4", "5"]

    @requires("consumer_priorities")
    def test_no_priority_lies_between_negative_and_positive(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        channel.basic_qos(prefetch_count=1)
        low, plain, high = Inbox(), Inbox(), Inbox()
        channel.basic_consume(queue, low, arguments={"x-priority": -1})
        channel.basic_consume(queue, plain)
        channel.basic_consume(queue, high, arguments={"x-priority": 1})
        publish(channel, "", queue, "1", "2", "3")
        drain_exactly(connection, 3, low, plain, high)
        assert [high.bodies, plain.bodies, low.bodies] == [["1"], ["2"], ["3"]]

    @requires("consumer_priorities")
    def test_a_consumers_priority_is_a_number(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        with pytest.raises(PreconditionFailedError):
            channel.basic_consume(queue, Inbox(), arguments={"x-priority": "high"})

    @requires("consumer_priorities")
    def test_priority_counts_between_connections(
        self, connection: ContractConnection, connect: Connect, name: Names
    ) -> None:
        rival, queue = connect(), name()
        channel = connection.channel()
        channel.queue_declare(queue)
        low, high = Inbox(ack=True), Inbox(ack=True)
        channel.basic_consume(queue, low)
        rival.channel().basic_consume(queue, high, arguments={"x-priority": 5})
        publish(channel, "", queue, "1", "2")
        drain_until(rival, lambda: len(high) == 2)
        drain_exactly(connection, 0, low)

    # -- the broker cancels ----------------------------------------------------------------

    @requires("consumer_cancel_notify")
    def test_a_consumer_is_told_when_its_queue_is_deleted(
        self, connection: ContractConnection, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        cancelled: list[str] = []
        tag = channel.basic_consume(queue, Inbox(), on_cancel=cancelled.append)
        other.queue_delete(queue)
        drain_until(connection, lambda: cancelled)
        drain_quiet(connection)
        assert cancelled == [tag]
        assert channel.is_open

    @requires("consumer_cancel_notify")
    def test_a_consumer_is_not_told_of_its_own_cancel(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        cancelled: list[str] = []
        tag = channel.basic_consume(queue, Inbox(), on_cancel=cancelled.append)
        channel.basic_cancel(tag)
        channel.queue_delete(queue)
        drain_quiet(connection)
        assert cancelled == []

    @requires("consumer_cancel_notify")
    def test_other_consumers_go_on_when_a_queue_is_deleted(
        self, connection: ContractConnection, channel: Channel, other: Channel, name: Names
    ) -> None:
        gone, stays = name("gone"), name("stays")
        cancelled: list[str] = []
        inbox = Inbox(ack=True)
        for queue in (gone, stays):
            channel.queue_declare(queue)
        channel.basic_consume(gone, Inbox(), on_cancel=cancelled.append)
        channel.basic_consume(stays, inbox, on_cancel=cancelled.append)
        other.queue_delete(gone)
        drain_until(connection, lambda: cancelled)
        publish(channel, "", stays, "1")
        drain_until(connection, lambda: len(inbox) == 1)
        assert len(cancelled) == 1

    @requires("consumer_cancel_notify")
    def test_what_a_deleted_queue_delivered_can_be_settled(
        self, connection: ContractConnection, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        inbox, cancelled = Inbox(), list[str]()
        channel.basic_consume(queue, inbox, on_cancel=cancelled.append)
        publish(channel, "", queue, "1", "2")
        drain_until(connection, lambda: len(inbox) == 2)
        other.queue_delete(queue)
        drain_until(connection, lambda: cancelled)
        inbox.messages[0].ack()
        inbox.messages[1].requeue()
        assert channel.is_open
        channel.queue_declare(queue)
        assert take(channel, queue, 0) == []
