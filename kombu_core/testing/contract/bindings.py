"""Bindings: who may be bound to what, and what a binding's identity is."""

from __future__ import annotations

import pytest

from kombu_core.exceptions import AccessRefusedError, NotFoundError
from kombu_core.testing.contract.fixtures import ContractFixtures, StartPeer
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import Names, declare_bound, publish, take
from kombu_core.transport import Channel


class BindingContract(ContractFixtures):
    """queue.bind and queue.unbind, the default exchange, and when a binding takes effect."""

    def test_binding_twice_is_binding_once(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "direct")
        declare_bound(channel, queue := name(), exchange, ["k", "k"])
        publish(channel, exchange, "k", "one copy")
        assert take(channel, queue, 1) == ["one copy"]
        channel.queue_unbind(queue, exchange, "k")
        publish(channel, exchange, "k", "none")
        assert take(channel, queue, 0) == []

    def test_unbinding_leaves_the_other_keys(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "direct")
        declare_bound(channel, queue := name(), exchange, ["a", "b"])
        channel.queue_unbind(queue, exchange, "a")
        publish(channel, exchange, "a", "a")
        publish(channel, exchange, "b", "b")
        assert take(channel, queue, 1) == ["b"]

    def test_unbinding_what_is_not_bound_is_no_error(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "direct")
        channel.queue_declare(queue := name())
        channel.queue_unbind(queue, exchange, "never bound")
        assert channel.is_open

    def test_unbinding_what_does_not_exist_is_no_error(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "direct")
        channel.queue_unbind(name(), exchange, "k")
        channel.queue_unbind(name(), name("none"), "k")
        assert channel.is_open

    def test_a_missing_queue_cannot_be_bound(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "direct")
        with pytest.raises(NotFoundError):
            channel.queue_bind(name(), exchange, "k")

    def test_a_missing_exchange_cannot_be_bound_to(self, channel: Channel, name: Names) -> None:
        channel.queue_declare(queue := name())
        with pytest.raises(NotFoundError):
            channel.queue_bind(queue, name("x"), "k")

    @requires("exchange:headers")
    def test_arguments_belong_to_a_bindings_identity(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "headers")
        channel.queue_declare(queue := name())
        for colour in ("red", "blue"):
            channel.queue_bind(queue, exchange, "", {"x-match": "all", "colour": colour})
        channel.queue_unbind(queue, exchange, "", {"x-match": "all", "colour": "red"})
        for colour in ("red", "blue"):
            publish(channel, exchange, "", colour, headers={"colour": colour})
        assert take(channel, queue, 1) == ["blue"]

    # -- the default exchange --------------------------------------------------------------

    def test_the_default_exchange_routes_to_every_queue_by_its_name(
        self, channel: Channel, name: Names
    ) -> None:
        queues = [name(), name()]
        for queue in queues:
            channel.queue_declare(queue)
        for queue in queues:
            publish(channel, "", queue, queue)
        for queue in queues:
            assert take(channel, queue, 1) == [queue]

    def test_the_default_exchange_drops_what_no_queue_is_named_for(
        self, channel: Channel, name: Names
    ) -> None:
        publish(channel, "", name(), "nobody is called that")
        assert channel.is_open

    @pytest.mark.parametrize("method", ["declare", "passive", "delete", "bind", "unbind"])
    def test_the_default_exchange_is_not_for_applications(
        self, channel: Channel, name: Names, method: str
    ) -> None:
        channel.queue_declare(queue := name())
        with pytest.raises(AccessRefusedError):
            if method == "declare":
                channel.exchange_declare("", "direct", durable=True)
            elif method == "passive":
                channel.exchange_declare("", "direct", passive=True)
            elif method == "delete":
                channel.exchange_delete("")
            elif method == "bind":
                channel.queue_bind(queue, "", "k")
            else:
                channel.queue_unbind(queue, "", queue)
        assert not channel.is_open

    # -- a binding takes effect at once, whoever made it -----------------------------------

    @pytest.mark.parametrize("type_", ["direct", "fanout", "topic", "headers"])
    def test_a_binding_of_another_connection_is_seen_by_the_next_publish(
        self, channel: Channel, other: Channel, name: Names, type_: str
    ) -> None:
        if type_ not in channel.transport.capabilities.exchange_types:
            pytest.skip(f"the transport does not have {type_} exchanges")
        channel.exchange_declare(exchange := name("x"), type_)
        publish(channel, exchange, "k", "before", headers={"h": 1})
        for number in range(5):
            queue = name()
            other.queue_declare(queue)
            other.queue_bind(queue, exchange, "k", {"h": 1} if type_ == "headers" else None)
            publish(channel, exchange, "k", str(number), headers={"h": 1})
            assert take(channel, queue, 1) == [str(number)]
            other.queue_delete(queue)
        publish(channel, exchange, "k", "after", headers={"h": 1})

    def test_an_unbinding_of_another_connection_is_seen_by_the_next_publish(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.exchange_declare(exchange := name("x"), "fanout")
        declare_bound(channel, queue := name(), exchange)
        publish(channel, exchange, "", "bound")
        other.queue_unbind(queue, exchange)
        publish(channel, exchange, "", "not bound")
        assert take(channel, queue, 1) == ["bound"]

    def test_a_queue_of_another_connection_is_seen_by_the_next_publish(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        publish(channel, "", queue := name(), "before it was")
        other.queue_declare(queue)
        publish(channel, "", queue, "for it")
        assert take(other, queue, 1) == ["for it"]

    @pytest.mark.parametrize("type_", ["direct", "fanout", "topic", "headers"])
    def test_a_binding_of_another_process_is_seen_by_the_next_publish(
        self, channel: Channel, start_peer: StartPeer, name: Names, type_: str
    ) -> None:
        if type_ not in channel.transport.capabilities.exchange_types:
            pytest.skip(f"the transport does not have {type_} exchanges")
        channel.exchange_declare(exchange := name("x"), type_)
        publish(channel, exchange, "k", "before", headers={"h": 1})
        peer, queue = start_peer(), name()
        peer.call("queue_declare", queue)
        peer.call("queue_bind", queue, exchange, "k", {"h": 1} if type_ == "headers" else None)
        publish(channel, exchange, "k", "after", headers={"h": 1})
        assert take(channel, queue, 1) == ["after"]

    def test_a_process_publishes_through_what_it_never_declared(
        self, channel: Channel, start_peer: StartPeer, name: Names
    ) -> None:
        exchange, queue = name("x"), name()
        channel.exchange_declare(exchange, "topic")
        declare_bound(channel, queue, exchange, ["a.#"])
        start_peer().call("publish", exchange, "a.b.c", "from a stranger")
        assert take(channel, queue, 1) == ["from a stranger"]
