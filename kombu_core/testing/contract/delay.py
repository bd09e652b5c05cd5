"""Delayed messages: stored at once, visible later."""

from __future__ import annotations

import time
from typing import Final

from kombu_core.testing.contract.fixtures import ContractFixtures
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import (
    BrokerUnderTest,
    ContractConnection,
    Inbox,
    Names,
    declare_bound,
    drain_until,
    envelope,
    fetch,
    publish,
    ready,
    take,
)
from kombu_core.transport import Channel, Publication

#: A delay that a test waits out (seconds).
SHORT: Final = 0.2


class DelayContract(ContractFixtures):
    """`delay` on a publish."""

    @requires("delay")
    def test_a_delayed_message_comes_when_its_time_has_come(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        inbox = Inbox(ack=True)
        channel.basic_consume(queue, inbox)
        begin = time.monotonic()
        channel.basic_publish(envelope("", queue, "later"), delay=SHORT)
        drain_until(connection, lambda: len(inbox) == 1)
        assert time.monotonic() - begin >= SHORT * 0.9

    @requires("delay")
    def test_a_delayed_message_is_not_ready(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        for seconds in (60, 30 * 86400):
            channel.basic_publish(envelope("", queue, "much later"), delay=seconds)
        publish(channel, "", queue, "now")
        assert ready(channel, queue) == 1
        assert take(channel, queue, 1) == ["now"]

    @requires("delay")
    def test_delayed_messages_come_in_the_order_of_their_times(
        self, broker: BrokerUnderTest, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        delay_of_1 = max(SHORT, broker.time_step)
        for body, delay in (("3", 3 * delay_of_1), ("1", delay_of_1), ("2", 2 * delay_of_1)):
            channel.basic_publish(envelope("", queue, body), delay=delay)
        assert [fetch(channel, queue, no_ack=True).body for _ in range(3)] == [b"1", b"2", b"3"]

    @requires("delay")
    def test_a_delayed_message_survives_its_publisher(
        self, connection: ContractConnection, other: Channel, name: Names
    ) -> None:
        other.queue_declare(queue := name())
        channel = connection.channel()
        channel.basic_publish(envelope("", queue, "later"), delay=SHORT)
        connection.release()
        assert fetch(other, queue).body == b"later"

    @requires("delay")
    def test_a_delayed_message_is_routed_like_any_other(
        self, channel: Channel, name: Names
    ) -> None:
        channel.exchange_declare(exchange := name("x"), "topic")
        queues = [declare_bound(channel, name(), exchange, [key]) for key in ("a.#", "#")]
        channel.basic_publish_batch(
            [
                Publication(envelope(exchange, "a.b", "later"), delay=SHORT),
                Publication(envelope(exchange, "a.b", "now")),
            ]
        )
        for queue in queues:
            assert [fetch(channel, queue).body for _ in range(2)] == [b"now", b"later"]

    @requires("delay")
    def test_no_delay_is_at_once(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        channel.basic_publish(envelope("", queue, "now"), delay=0.0)
        assert take(channel, queue, 1) == ["now"]
