"""Errors: what the broker refuses closes the channel, and that one alone."""

from __future__ import annotations

import pytest

from kombu_core.exceptions import BrokerError, ChannelError, NotFoundError
from kombu_core.testing.contract.fixtures import ContractFixtures
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


class ErrorContract(ContractFixtures):
    """Channel errors and their reach."""

    def test_publishing_to_no_exchange_is_not_found(self, channel: Channel, name: Names) -> None:
        exchange = name("none")
        with pytest.raises(NotFoundError) as caught:
            publish(channel, exchange, "k", "lost")
        assert caught.value.code == 404
        assert exchange in caught.value.text
        assert not caught.value.is_retryable
        assert not channel.is_open

    def test_a_channel_error_leaves_the_other_channels(
        self, connection: ContractConnection, name: Names
    ) -> None:
        broken, fine = connection.channel(), connection.channel()
        fine.queue_declare(queue := name())
        inbox = Inbox(ack=True)
        fine.basic_consume(queue, inbox)
        with pytest.raises(ChannelError):
            publish(broken, name("none"), "k", "lost")
        assert connection.transport.is_connected
        publish(fine, "", queue, "1")
        drain_until(connection, lambda: len(inbox) == 1)

    def test_a_connection_opens_channels_after_an_error(
        self, connection: ContractConnection, name: Names
    ) -> None:
        for _ in range(5):
            with pytest.raises(NotFoundError):
                connection.channel().queue_declare(name(), passive=True)
        channel = connection.channel()
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1")
        assert take(channel, queue, 1) == ["1"]

    def test_a_broken_channel_stays_closed(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        with pytest.raises(NotFoundError):
            publish(channel, name("none"), "k", "lost")
        for _ in range(2):
            with pytest.raises(BrokerError):
                channel.queue_declare(queue, passive=True)
        channel.close()

    def test_a_broken_channel_gives_its_messages_back(
        self, connection: ContractConnection, name: Names
    ) -> None:
        broken, fine = connection.channel(), connection.channel()
        fine.queue_declare(queue := name())
        publish(fine, "", queue, "1", "2", "3")
        fetch_many(broken, queue, 2)[0].ack()
        with pytest.raises(NotFoundError):
            publish(broken, name("none"), "k", "lost")
        message = fetch(fine, queue)
        assert (message.body, message.redelivered) == (b"2", True)
        assert take(fine, queue, 1) == ["3"]

    def test_a_broken_channel_gives_its_messages_to_others(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        """At once, also if its own connection does nothing more."""
        other.queue_declare(queue := name())
        publish(other, "", queue, "1")
        fetch(channel, queue)
        with pytest.raises(NotFoundError):
            channel.basic_consume(name("none"), print)
        assert fetch(other, queue, no_ack=True).body == b"1"

    def test_a_broken_channel_ends_its_consumers(
        self, connection: ContractConnection, name: Names
    ) -> None:
        broken, fine = connection.channel(), connection.channel()
        fine.queue_declare(queue := name())
        inboxes = [Inbox(ack=True), Inbox(ack=True)]
        broken.basic_consume(queue, inboxes[0])
        with pytest.raises(NotFoundError):
            publish(broken, name("none"), "k", "lost")
        fine.basic_consume(queue, inboxes[1])
        publish(fine, "", queue, "1", "2")
        drain_until(connection, lambda: len(inboxes[1]) == 2)
        assert len(inboxes[0]) == 0

    def test_a_message_of_a_broken_channel_cannot_be_settled(
        self, connection: ContractConnection, name: Names
    ) -> None:
        broken, fine = connection.channel(), connection.channel()
        fine.queue_declare(queue := name())
        publish(fine, "", queue, "1")
        message = fetch(broken, queue)
        with pytest.raises(NotFoundError):
            publish(broken, name("none"), "k", "lost")
        with pytest.raises(BrokerError):
            message.ack()
        assert take(fine, queue, 1) == ["1"]

    def test_an_error_tells_its_code_and_text(self, channel: Channel, name: Names) -> None:
        queue = name("missing")
        with pytest.raises(NotFoundError) as caught:
            channel.queue_declare(queue, passive=True)
        assert caught.value.code == 404
        assert queue in str(caught.value)
        assert "404" in str(caught.value)
