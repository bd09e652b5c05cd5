"""Priorities: the highest first, then the oldest."""

from __future__ import annotations

import pytest

from kombu_core.exceptions import PreconditionFailedError
from kombu_core.testing.contract.fixtures import ContractFixtures
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import (
    ContractConnection,
    Inbox,
    Names,
    drain_until,
    fetch,
    fetch_many,
    publish,
    take,
)
from kombu_core.transport import Channel


class PriorityContract(ContractFixtures):
    """x-max-priority and the property `priority`."""

    @requires("priorities")
    def test_the_highest_comes_first_then_the_oldest(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name(), arguments={"x-max-priority": 10})
        for number, priority in enumerate([1, 9, 5, 9, 1, 0, 5]):
            publish(channel, "", queue, f"{priority}-{number}", priority=priority)
        wanted = ["9-1", "9-3", "5-2", "5-6", "1-0", "1-4", "0-5"]
        assert take(channel, queue, 7) == wanted

    @requires("priorities")
    def test_a_consumer_gets_the_highest_first(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name(), arguments={"x-max-priority": 10})
        for priority in (1, 5, 9):
            publish(channel, "", queue, str(priority), priority=priority)
        inbox = Inbox(ack=True)
        channel.basic_consume(queue, inbox)
        drain_until(connection, lambda: len(inbox) == 3)
        assert inbox.bodies == ["9", "5", "1"]

    @requires("priorities")
    def test_no_priority_is_the_lowest(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name(), arguments={"x-max-priority": 3})
        publish(channel, "", queue, "none")
        publish(channel, "", queue, "zero", priority=0)
        publish(channel, "", queue, "one", priority=1)
        assert take(channel, queue, 3) == ["one", "none", "zero"]

    @requires("priorities")
    def test_more_than_the_maximum_is_the_maximum(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name(), arguments={"x-max-priority": 5})
        for priority in (4, 5, 200, 6):
            publish(channel, "", queue, str(priority), priority=priority)
        messages = fetch_many(channel, queue, 4)
        assert [message.body for message in messages] == [b"5", b"200", b"6", b"4"]
        assert messages[1].properties.get("priority") == 200

    @requires("priorities")
    def test_a_plain_queue_ignores_priority(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        for priority in (1, 9, 5):
            publish(channel, "", queue, str(priority), priority=priority)
        assert take(channel, queue, 3) == ["1", "9", "5"]

    @requires("priorities")
    def test_a_requeued_message_keeps_its_rank(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name(), arguments={"x-max-priority": 5})
        for body, priority in (("a", 3), ("b", 3), ("c", 1)):
            publish(channel, "", queue, body, priority=priority)
        message = fetch(channel, queue)
        publish(channel, "", queue, "d", priority=3)
        publish(channel, "", queue, "e", priority=5)
        message.requeue()
        assert take(channel, queue, 5) == ["e", "a", "b", "d", "c"]

    @requires("priorities")
    def test_the_maximum_belongs_to_the_queues_identity(
        self, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name(), arguments={"x-max-priority": 5})
        with pytest.raises(PreconditionFailedError):
            channel.queue_declare(queue, arguments={"x-max-priority": 6})

    @requires("priorities")
    @pytest.mark.parametrize("maximum", [-1, 256, "high"])
    def test_a_maximum_out_of_range_is_refused(
        self, channel: Channel, name: Names, maximum: object
    ) -> None:
        with pytest.raises(PreconditionFailedError):
            channel.queue_declare(name(), arguments={"x-max-priority": maximum})
