"""Time to live: of messages, by queue and by message, and of unused queues."""

from __future__ import annotations

import time
from typing import Final

import pytest

from kombu_core.exceptions import PreconditionFailedError, UnroutableError
from kombu_core.testing.contract.fixtures import ContractFixtures
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import (
    ContractConnection,
    Inbox,
    Names,
    drain_quiet,
    envelope,
    fetch,
    publish,
    ready,
    take,
    until,
)
from kombu_core.transport import Channel

#: A time to live that a test waits out (milliseconds).
SHORT: Final = 50
#: One that it does not live to see.
LONG: Final = 60_000


class ExpiryContract(ContractFixtures):
    """x-message-ttl, expiration and x-expires."""

    @requires("message_ttl")
    def test_a_queues_time_to_live_drops_old_messages(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name(), arguments={"x-message-ttl": SHORT})
        publish(channel, "", queue, "1", "2")
        until(lambda: ready(channel, queue) == 0, "their expiry")
        assert channel.basic_get(queue) is None

    @requires("message_ttl")
    def test_a_messages_expiration_drops_it(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "short", expiration=str(SHORT))
        publish(channel, "", queue, "long", expiration=str(LONG))
        publish(channel, "", queue, "for ever")
        until(lambda: ready(channel, queue) == 2, "its expiry")
        assert take(channel, queue, 2) == ["long", "for ever"]

    @requires("message_ttl")
    def test_a_message_in_time_is_delivered(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name(), arguments={"x-message-ttl": LONG})
        publish(channel, "", queue, "1", expiration=str(LONG))
        message = fetch(channel, queue)
        assert message.body == b"1"
        assert message.properties.get("expiration") == str(LONG)

    @requires("message_ttl")
    @pytest.mark.parametrize(("queues", "messages"), [(SHORT, LONG), (LONG, SHORT)])
    def test_the_shorter_of_both_times_counts(
        self, channel: Channel, name: Names, queues: int, messages: int
    ) -> None:
        channel.queue_declare(queue := name(), arguments={"x-message-ttl": queues})
        publish(channel, "", queue, "1", expiration=str(messages))
        until(lambda: ready(channel, queue) == 0, "its expiry")

    @requires("message_ttl")
    def test_an_expired_message_is_never_delivered(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name(), arguments={"x-message-ttl": SHORT})
        publish(channel, "", queue, "1", "2", "3")
        time.sleep(2 * SHORT / 1000)
        inbox = Inbox()
        channel.basic_consume(queue, inbox)
        drain_quiet(connection)
        assert inbox.bodies == []

    @requires("message_ttl")
    def test_expired_messages_do_not_hide_those_behind(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        for number in range(20):
            publish(channel, "", queue, str(number), expiration=str(SHORT))
        publish(channel, "", queue, "last")
        time.sleep(2 * SHORT / 1000)
        assert take(channel, queue, 1) == ["last"]

    @requires("message_ttl")
    def test_a_delivered_message_does_not_expire(
        self, connection: ContractConnection, other: Channel, name: Names
    ) -> None:
        channel = connection.channel()
        channel.queue_declare(queue := name(), arguments={"x-message-ttl": 4 * SHORT})
        publish(channel, "", queue, "1")
        message = fetch(channel, queue)
        time.sleep(5 * SHORT / 1000)
        message.ack()
        connection.release()
        assert take(other, queue, 0) == []

    @requires("message_ttl")
    def test_a_requeued_message_keeps_its_old_deadline(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name(), arguments={"x-message-ttl": 4 * SHORT})
        publish(channel, "", queue, "1")
        message = fetch(channel, queue)
        time.sleep(5 * SHORT / 1000)
        message.requeue()
        assert take(channel, queue, 0) == []

    @requires("message_ttl")
    @pytest.mark.parametrize("expiration", ["soon", "-1", "", "1.5"])
    def test_an_expiration_that_is_no_number_is_refused(
        self, channel: Channel, name: Names, expiration: str
    ) -> None:
        channel.queue_declare(queue := name())
        with pytest.raises(PreconditionFailedError):
            publish(channel, "", queue, "refused", expiration=expiration)
        assert not channel.is_open

    @requires("message_ttl")
    @pytest.mark.parametrize("ttl", ["soon", -1, 1.5])
    def test_a_queues_time_to_live_that_is_no_number_is_refused(
        self, channel: Channel, name: Names, ttl: object
    ) -> None:
        with pytest.raises(PreconditionFailedError):
            channel.queue_declare(name(), arguments={"x-message-ttl": ttl})

    @requires("message_ttl")
    def test_no_time_to_live_is_for_who_waits_already(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "nobody waits", expiration="0")
        until(lambda: ready(channel, queue) == 0, "its expiry")
        assert channel.basic_get(queue) is None

    @requires("queue_expires", "mandatory")
    def test_an_unused_queue_expires(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name(), arguments={"x-expires": 4 * SHORT})
        assert _is_reached(channel, queue)
        until(lambda: not _is_reached(channel, queue), "its end")
        assert channel.queue_declare(queue).message_count == 0

    @requires("queue_expires", "mandatory")
    def test_a_queue_in_use_does_not_expire(self, channel: Channel, name: Names) -> None:
        arguments = {"x-expires": 6 * SHORT}
        channel.queue_declare(got := name(), arguments=arguments)
        channel.queue_declare(declared := name(), arguments=arguments)
        end = time.monotonic() + 12 * SHORT / 1000
        while time.monotonic() < end:
            assert channel.basic_get(got) is None
            channel.queue_declare(declared, arguments=arguments)
            time.sleep(SHORT / 1000)
        assert _is_reached(channel, got)
        assert _is_reached(channel, declared)

    @requires("queue_expires", "mandatory")
    def test_a_queue_with_a_consumer_does_not_expire(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name(), arguments={"x-expires": 4 * SHORT})
        channel.basic_consume(queue, Inbox(), consumer_tag="user")
        drain_quiet(connection, 8 * SHORT / 1000)
        assert _is_reached(channel, queue)
        channel.basic_cancel("user")
        until(lambda: not _is_reached(channel, queue), "its end")

    @requires("queue_expires")
    @pytest.mark.parametrize("expires", [0, -1, "soon"])
    def test_a_queues_end_must_lie_in_the_future(
        self, channel: Channel, name: Names, expires: object
    ) -> None:
        with pytest.raises(PreconditionFailedError):
            channel.queue_declare(name(), arguments={"x-expires": expires})


def _is_reached(channel: Channel, queue: str) -> bool:
    """Whether there is a queue, asked in a way that does not count as using it."""
    try:
        channel.basic_publish(envelope("", queue, "probe"), mandatory=True)
    except UnroutableError:
        return False
    return True
