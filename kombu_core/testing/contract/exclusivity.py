"""Exclusive and auto-delete: what belongs to one connection, and what goes with its last user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from kombu_core.exceptions import NotFoundError, ResourceLockedError
from kombu_core.testing.contract.fixtures import Connect, ContractFixtures, StartPeer
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import (
    BrokerUnderTest,
    ContractConnection,
    Inbox,
    Names,
    declare_bound,
    exists,
    publish,
    take,
    until,
)
from kombu_core.transport import Channel

#: What another connection may not do to an exclusive queue.
LOCKED: Final[dict[str, Callable[[Channel, str], object]]] = {
    "declare": lambda channel, queue: channel.queue_declare(queue),
    "declare exclusive": lambda channel, queue: channel.queue_declare(queue, exclusive=True),
    "declare passive": lambda channel, queue: channel.queue_declare(queue, passive=True),
    "bind": lambda channel, queue: channel.queue_bind(queue, "amq.fanout"),
    "unbind": lambda channel, queue: channel.queue_unbind(queue, "amq.fanout", "bound"),
    "purge": lambda channel, queue: channel.queue_purge(queue),
    "delete": lambda channel, queue: channel.queue_delete(queue),
    "get": lambda channel, queue: channel.basic_get(queue),
    "consume": lambda channel, queue: channel.basic_consume(queue, Inbox()),
}


class ExclusiveQueueContract(ContractFixtures):
    """Queues of one connection."""

    @requires("exclusive_queues")
    @pytest.mark.parametrize("action", LOCKED)
    def test_an_exclusive_queue_is_locked_for_other_connections(
        self, channel: Channel, other: Channel, name: Names, action: str
    ) -> None:
        channel.queue_declare(queue := name(), exclusive=True)
        channel.queue_bind(queue, "amq.fanout", "bound")
        with pytest.raises(ResourceLockedError) as caught:
            LOCKED[action](other, queue)
        assert caught.value.code == 405
        assert not other.is_open
        assert channel.queue_declare(queue, exclusive=True).queue == queue

    @requires("exclusive_queues")
    def test_an_exclusive_queue_is_open_to_its_whole_connection(
        self, connection: ContractConnection, name: Names
    ) -> None:
        first, second = connection.channel(), connection.channel()
        first.queue_declare(queue := name(), exclusive=True)
        publish(second, "", queue, "1")
        assert take(second, queue, 1) == ["1"]
        first.close()
        assert second.queue_declare(queue, passive=True).queue == queue

    @requires("exclusive_queues")
    def test_others_may_publish_to_an_exclusive_queue(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.exchange_declare(exchange := name("x"), "fanout")
        channel.queue_declare(queue := name(), exclusive=True)
        channel.queue_bind(queue, exchange)
        publish(other, "", queue, "by its name")
        publish(other, exchange, "", "by its binding")
        assert take(channel, queue, 2) == ["by its name", "by its binding"]

    @requires("exclusive_queues")
    def test_an_exclusive_queue_goes_with_its_connection(
        self, connection: ContractConnection, connect: Connect, name: Names
    ) -> None:
        owner, queue = connect(), name()
        owner.channel().queue_declare(queue, exclusive=True)
        owner.release()
        until(lambda: _can_declare(connection, queue), "the end of the queue")

    @requires("exclusive_queues")
    def test_exclusive_makes_a_queue_locked_not_unequal(
        self, connection: ContractConnection, name: Names
    ) -> None:
        first, second = connection.channel(), connection.channel()
        shared, own = name(), name()
        first.queue_declare(shared)
        first.queue_declare(own, exclusive=True)
        with pytest.raises(ResourceLockedError):
            first.queue_declare(shared, exclusive=True)
        with pytest.raises(ResourceLockedError):
            second.queue_declare(own, exclusive=False)

    @requires("exclusive_queues")
    def test_an_exclusive_queue_goes_with_its_killed_process(
        self,
        broker: BrokerUnderTest,
        connection: ContractConnection,
        start_peer: StartPeer,
        name: Names,
    ) -> None:
        peer, queue = start_peer(), name()
        peer.call("queue_declare", queue, exclusive=True)
        peer.kill()
        until(lambda: not exists(connection, queue), "the end of the queue", broker.patience)


class AutoDeleteContract(ContractFixtures):
    """What goes when its last user does."""

    @requires("auto_delete")
    def test_a_queue_goes_with_its_last_consumer(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name(), auto_delete=True)
        tags = [channel.basic_consume(queue, Inbox()) for _ in range(2)]
        channel.basic_cancel(tags[0])
        assert channel.queue_declare(queue, passive=True).consumer_count == 1
        channel.basic_cancel(tags[1])
        until(lambda: not exists(connection, queue), "the end of the queue")

    @requires("auto_delete")
    def test_a_queue_without_a_first_consumer_stays(
        self, connection: ContractConnection, other: Channel, name: Names
    ) -> None:
        connection.channel().queue_declare(queue := name(), auto_delete=True)
        connection.release()
        publish(other, "", queue, "waits for its consumer")
        assert take(other, queue, 1) == ["waits for its consumer"]

    @requires("auto_delete")
    @pytest.mark.parametrize("end", ["channel", "connection"])
    def test_a_queue_goes_with_the_channel_of_its_last_consumer(
        self, connection: ContractConnection, connect: Connect, name: Names, end: str
    ) -> None:
        user = connect()
        channel = user.channel()
        channel.queue_declare(queue := name(), auto_delete=True)
        channel.basic_consume(queue, Inbox())
        if end == "channel":
            channel.close()
        else:
            user.release()
        until(lambda: not exists(connection, queue), "the end of the queue")

    @requires("auto_delete")
    def test_a_queue_goes_with_its_killed_consumer(
        self,
        broker: BrokerUnderTest,
        connection: ContractConnection,
        start_peer: StartPeer,
        name: Names,
    ) -> None:
        peer, queue = start_peer(), name()
        peer.call("queue_declare", queue, auto_delete=True)
        peer.call("basic_consume", queue)
        peer.kill()
        until(lambda: not exists(connection, queue), "the end of the queue", broker.patience)

    @requires("auto_delete")
    def test_a_queue_goes_with_its_messages(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name(), auto_delete=True)
        channel.basic_consume(queue, Inbox(), consumer_tag="last")
        publish(channel, "", queue, "1", "2")
        channel.basic_cancel("last")
        until(lambda: not exists(connection, queue), "the end of the queue")
        assert channel.queue_declare(queue).message_count == 0

    @requires("auto_delete")
    @pytest.mark.parametrize("end", ["unbind", "delete"])
    def test_an_exchange_goes_with_its_last_binding(
        self, channel: Channel, name: Names, end: str
    ) -> None:
        channel.exchange_declare(exchange := name("x"), "direct", auto_delete=True)
        publish(channel, exchange, "k", "it waits for its first binding")
        queues = [declare_bound(channel, name(), exchange, ["k"]) for _ in range(2)]
        for queue in queues:
            channel.exchange_declare(exchange, passive=True)
            if end == "unbind":
                channel.queue_unbind(queue, exchange, "k")
            else:
                channel.queue_delete(queue)
        with pytest.raises(NotFoundError):
            channel.exchange_declare(exchange, passive=True)

    @requires("auto_delete", "exchange_bindings")
    def test_an_exchange_goes_with_its_last_bound_exchange(
        self, channel: Channel, name: Names
    ) -> None:
        channel.exchange_declare(source := name("source"), "fanout", auto_delete=True)
        channel.exchange_declare(destination := name("destination"), "fanout")
        channel.exchange_bind(destination, source)
        channel.exchange_delete(destination)
        with pytest.raises(NotFoundError):
            channel.exchange_declare(source, passive=True)


def _can_declare(connection: ContractConnection, queue: str) -> bool:
    """Whether a queue is free for a declaration that its last owner's would refuse."""
    try:
        connection.channel().queue_declare(queue, durable=True)
    except ResourceLockedError:
        return False
    return True
