"""Queues declared, purged and deleted: what is equal, what is refused, what is counted."""

from __future__ import annotations

import pytest

from kombu_core.exceptions import (
    AccessRefusedError,
    NotFoundError,
    PreconditionFailedError,
)
from kombu_core.testing.contract.fixtures import ContractFixtures
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import Inbox, Names, declare_bound, publish, ready, take
from kombu_core.transport import Channel


class QueueContract(ContractFixtures):
    """queue.declare, queue.delete and queue.purge."""

    def test_a_declaration_tells_messages_and_consumers(
        self, channel: Channel, name: Names
    ) -> None:
        answer = channel.queue_declare(queue := name())
        assert answer == (queue, 0, 0)
        publish(channel, "", queue, "1", "2")
        assert channel.queue_declare(queue) == (queue, 2, 0)
        channel.basic_qos(prefetch_count=1)
        tag = channel.basic_consume(queue, Inbox())
        assert channel.queue_declare(queue, passive=True).consumer_count == 1
        channel.basic_cancel(tag)
        assert channel.queue_declare(queue, passive=True).consumer_count == 0

    def test_an_unequal_queue_is_refused(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        with pytest.raises(PreconditionFailedError) as caught:
            channel.queue_declare(queue, durable=True)
        assert caught.value.code == 406
        assert not channel.is_open

    @requires("auto_delete")
    def test_auto_delete_makes_a_queue_unequal(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        with pytest.raises(PreconditionFailedError):
            channel.queue_declare(queue, auto_delete=True)

    @requires("message_ttl")
    def test_arguments_make_a_queue_unequal(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        queue, arguments = name(), {"x-message-ttl": 60_000}
        channel.queue_declare(queue, arguments=arguments)
        channel.queue_declare(queue, arguments=dict(arguments))
        with pytest.raises(PreconditionFailedError):
            channel.queue_declare(queue)
        with pytest.raises(PreconditionFailedError):
            other.queue_declare(queue, arguments={"x-message-ttl": 60_001})

    def test_an_unequal_queue_is_refused_to_another_connection(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        with pytest.raises(PreconditionFailedError):
            other.queue_declare(queue, durable=True)
        assert channel.is_open

    def test_a_passive_declare_does_not_compare(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name(), durable=True)
        assert channel.queue_declare(queue, passive=True).queue == queue

    def test_a_passive_declare_of_no_queue_is_not_found(
        self, channel: Channel, name: Names
    ) -> None:
        with pytest.raises(NotFoundError) as caught:
            channel.queue_declare(name(), passive=True)
        assert caught.value.code == 404
        assert not channel.is_open

    def test_names_of_the_broker_are_refused_for_queues(
        self, channel: Channel, name: Names
    ) -> None:
        with pytest.raises(AccessRefusedError):
            channel.queue_declare(f"amq.{name()}")

    def test_a_passive_declare_may_name_what_is_the_brokers(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        with pytest.raises(NotFoundError):
            channel.queue_declare(f"amq.{name()}", passive=True)
        with pytest.raises(NotFoundError):
            other.exchange_declare(f"amq.{name('x')}", passive=True)

    def test_the_broker_names_a_nameless_queue(self, channel: Channel, other: Channel) -> None:
        first, second = channel.queue_declare(), channel.queue_declare()
        assert first.queue.startswith("amq.gen-")
        assert first.queue != second.queue
        publish(channel, "", first.queue, "found by its name")
        assert take(channel, first.queue, 1) == ["found by its name"]
        channel.queue_delete(first.queue)
        with pytest.raises(AccessRefusedError):
            channel.queue_declare(second.queue)
        other.queue_delete(second.queue)

    def test_deleting_a_queue_tells_what_was_ready(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1", "2", "3")
        assert channel.queue_delete(queue) == 3
        with pytest.raises(NotFoundError):
            channel.queue_declare(queue, passive=True)

    def test_deleting_no_queue_is_no_error(self, channel: Channel, name: Names) -> None:
        assert channel.queue_delete(name()) == 0
        assert channel.is_open

    def test_a_deleted_queue_comes_back_empty_and_unbound(
        self, channel: Channel, name: Names
    ) -> None:
        exchange, queue = name("x"), name()
        channel.exchange_declare(exchange, "direct")
        declare_bound(channel, queue, exchange, ["k"])
        publish(channel, exchange, "k", "gone with it")
        channel.queue_delete(queue)
        channel.queue_declare(queue)
        publish(channel, exchange, "k", "not bound any more")
        assert take(channel, queue, 0) == []

    def test_if_empty_keeps_a_queue_with_messages(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "kept")
        with pytest.raises(PreconditionFailedError):
            channel.queue_delete(queue, if_empty=True)
        assert take(other, queue, 1) == ["kept"]
        other.queue_delete(queue, if_empty=True)
        with pytest.raises(NotFoundError):
            other.queue_declare(queue, passive=True)

    def test_if_unused_keeps_a_queue_with_consumers(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        channel.basic_consume(queue, Inbox(), consumer_tag="user")
        with pytest.raises(PreconditionFailedError):
            other.queue_delete(queue, if_unused=True)
        channel.basic_cancel("user")
        assert channel.queue_delete(queue, if_unused=True) == 0

    def test_a_purge_tells_how_many_and_spares_the_unacknowledged(
        self, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "held", "1", "2")
        held = channel.basic_get(queue)
        assert held is not None
        assert channel.queue_purge(queue) == 2
        assert ready(channel, queue) == 0
        held.requeue()
        assert take(channel, queue, 1) == ["held"]

    def test_purging_no_queue_is_not_found(self, channel: Channel, name: Names) -> None:
        with pytest.raises(NotFoundError):
            channel.queue_purge(name())

    def test_names_may_be_any_text(self, channel: Channel, name: Names) -> None:
        exchange, queue = name("ünï/çø:dé *#"), name("köö {tag}:%s")
        channel.exchange_declare(exchange, "direct")
        declare_bound(channel, queue, exchange, ["schlüssel ☃"])
        publish(channel, exchange, "schlüssel ☃", "found")
        assert take(channel, queue, 1) == ["found"]
