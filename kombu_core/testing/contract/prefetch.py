"""Prefetch: how much a consumer, and a channel, may hold unacknowledged."""

from __future__ import annotations

from kombu_core.testing.contract.fixtures import ContractFixtures
from kombu_core.testing.harness import (
    ContractConnection,
    Inbox,
    Names,
    drain_exactly,
    drain_until,
    fetch,
    publish,
    ready,
    take,
)
from kombu_core.transport import Channel


class PrefetchContract(ContractFixtures):
    """basic.qos as RabbitMQ reads it: for each new consumer, or for the whole channel."""

    def test_without_a_limit_everything_is_delivered(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, *map(str, range(50)))
        inbox = Inbox()
        channel.basic_consume(queue, inbox)
        drain_until(connection, lambda: len(inbox) == 50)

    def test_a_consumer_holds_no_more_than_its_limit(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, *"12345")
        channel.basic_qos(prefetch_count=2)
        inbox = Inbox()
        channel.basic_consume(queue, inbox)
        drain_exactly(connection, 2, inbox)
        assert inbox.bodies == ["1", "2"]
        assert ready(channel, queue) == 3
        inbox.messages[0].ack()
        drain_exactly(connection, 3, inbox)
        inbox.messages[2].ack(multiple=True)
        drain_until(connection, lambda: len(inbox) == 5)
        assert inbox.bodies == [*"12345"]

    def test_what_is_beyond_the_limit_is_for_others(
        self, connection: ContractConnection, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1", "2", "3")
        channel.basic_qos(prefetch_count=1)
        inbox = Inbox()
        channel.basic_consume(queue, inbox)
        drain_exactly(connection, 1, inbox)
        assert take(other, queue, 2) == ["2", "3"]

    def test_reject_and_requeue_make_room_too(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1", "2")
        channel.basic_qos(prefetch_count=1)
        inbox = Inbox()
        channel.basic_consume(queue, inbox)
        drain_until(connection, lambda: len(inbox) == 1)
        inbox.messages[0].requeue()
        drain_until(connection, lambda: len(inbox) == 2)
        inbox.messages[1].reject()
        drain_until(connection, lambda: len(inbox) == 3)
        assert inbox.bodies == ["1", "1", "2"]

    def test_the_limit_holds_for_each_consumer(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        first, second = name(), name()
        channel.basic_qos(prefetch_count=1)
        inboxes = [Inbox(), Inbox()]
        for queue, inbox in zip((first, second), inboxes, strict=True):
            channel.queue_declare(queue)
            publish(channel, "", queue, "1", "2")
            channel.basic_consume(queue, inbox)
        drain_exactly(connection, 2, *inboxes)
        assert [inbox.bodies for inbox in inboxes] == [["1"], ["1"]]

    def test_the_limit_is_for_consumers_that_come_later(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        first, second = name(), name()
        inboxes = [Inbox(), Inbox()]
        for queue in (first, second):
            channel.queue_declare(queue)
        channel.basic_consume(first, inboxes[0])
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(second, inboxes[1])
        for queue in (first, second):
            publish(channel, "", queue, "1", "2", "3")
        drain_exactly(connection, 4, *inboxes)
        assert [len(inbox) for inbox in inboxes] == [3, 1]

    def test_a_global_limit_holds_for_the_channel(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        first, second = name(), name()
        channel.basic_qos(prefetch_count=3, apply_global=True)
        inboxes = [Inbox(), Inbox()]
        for queue, inbox in zip((first, second), inboxes, strict=True):
            channel.queue_declare(queue)
            publish(channel, "", queue, "1", "2", "3")
            channel.basic_consume(queue, inbox)
        drain_exactly(connection, 3, *inboxes)
        for inbox in inboxes:
            for message in inbox.messages:
                message.ack()
        drain_until(connection, lambda: sum(map(len, inboxes)) == 6)

    def test_both_limits_hold_together(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        first, second = name(), name()
        channel.basic_qos(prefetch_count=2)
        channel.basic_qos(prefetch_count=3, apply_global=True)
        inboxes = [Inbox(), Inbox()]
        for queue, inbox in zip((first, second), inboxes, strict=True):
            channel.queue_declare(queue)
            publish(channel, "", queue, "1", "2", "3")
            channel.basic_consume(queue, inbox)
        drain_exactly(connection, 3, *inboxes)
        assert sorted(map(len, inboxes)) == [1, 2]

    def test_a_later_limit_for_each_consumer_ends_that_of_the_channel(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        channel.basic_qos(prefetch_count=1, apply_global=True)
        channel.basic_qos(prefetch_count=2)
        inboxes = [Inbox(), Inbox()]
        for inbox in inboxes:
            channel.basic_consume(queue, inbox)
        publish(channel, "", queue, *"12345")
        drain_exactly(connection, 4, *inboxes)
        assert [len(inbox) for inbox in inboxes] == [2, 2]

    def test_the_limit_is_for_this_channel_only(
        self, connection: ContractConnection, name: Names
    ) -> None:
        limited, free = connection.channel(), connection.channel()
        limited.queue_declare(queue := name())
        limited.basic_qos(prefetch_count=1, apply_global=True)
        publish(limited, "", queue, "1", "2", "3")
        inbox = Inbox()
        free.basic_consume(queue, inbox)
        drain_until(connection, lambda: len(inbox) == 3)

    def test_the_limit_is_not_for_who_does_not_acknowledge(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, *map(str, range(10)))
        channel.basic_qos(prefetch_count=1)
        inbox = Inbox()
        channel.basic_consume(queue, inbox, no_ack=True)
        drain_until(connection, lambda: len(inbox) == 10)

    def test_what_was_fetched_does_not_count_for_the_limit_of_the_channel(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        channel.queue_declare(fetched := name())
        publish(channel, "", fetched, "0")
        channel.basic_qos(prefetch_count=2, apply_global=True)
        fetch(channel, fetched)
        channel.basic_consume(queue, inbox := Inbox())
        publish(channel, "", queue, "1", "2", "3")
        drain_exactly(connection, 2, inbox)

    def test_the_limit_is_not_for_get(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1", "2", "3")
        channel.basic_qos(prefetch_count=1)
        assert [fetch(channel, queue).body for _ in range(3)] == [b"1", b"2", b"3"]
