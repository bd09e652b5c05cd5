"""What RabbitMQ adds to exchanges: bindings between them, alternates, internal ones."""

from __future__ import annotations

import itertools

import pytest

from kombu_core.exceptions import AccessRefusedError, NotFoundError, UnroutableError
from kombu_core.testing.contract.fixtures import ContractFixtures
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import Names, declare_bound, envelope, publish, take
from kombu_core.transport import Channel


class ExchangeBindingContract(ContractFixtures):
    """exchange.bind and exchange.unbind."""

    @requires("exchange_bindings")
    def test_an_exchange_feeds_another(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(source := name("source"), "topic")
        channel.exchange_declare(destination := name("destination"), "direct")
        channel.exchange_bind(destination, source, "a.#")
        declare_bound(channel, queue := name(), destination, ["a.b"])
        for key in ("a.b", "a.c", "b"):
            publish(channel, source, key, key)
        assert take(channel, queue, 1) == ["a.b"]

    @requires("exchange_bindings")
    def test_an_unbound_exchange_feeds_no_more(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(source := name("source"), "fanout")
        channel.exchange_declare(destination := name("destination"), "fanout")
        declare_bound(channel, queue := name(), destination)
        channel.exchange_bind(destination, source, "k")
        publish(channel, source, "", "bound")
        channel.exchange_unbind(destination, source, "k")
        channel.exchange_unbind(destination, source, "k")
        publish(channel, source, "", "not bound")
        assert take(channel, queue, 1) == ["bound"]

    @requires("exchange_bindings")
    def test_a_chain_of_exchanges_is_followed_to_its_end(
        self, channel: Channel, name: Names
    ) -> None:
        chain = [name("x") for _ in range(5)]
        for exchange in chain:
            channel.exchange_declare(exchange, "fanout")
        for source, destination in itertools.pairwise(chain):
            channel.exchange_bind(destination, source)
        declare_bound(channel, queue := name(), chain[-1])
        publish(channel, chain[0], "", "came through")
        message = channel.basic_get(queue)
        assert message is not None
        assert message.envelope.exchange == chain[0]

    @requires("exchange_bindings")
    def test_a_cycle_of_exchanges_gives_one_copy(self, channel: Channel, name: Names) -> None:
        first, second, third = (name("x") for _ in range(3))
        queues = []
        for exchange in (first, second, third):
            channel.exchange_declare(exchange, "fanout")
            queues.append(declare_bound(channel, name(), exchange))
        for source, destination in ((first, second), (second, third), (third, first)):
            channel.exchange_bind(destination, source)
        channel.exchange_bind(first, first)
        publish(channel, second, "", "once around")
        for queue in queues:
            assert take(channel, queue, 1) == ["once around"]

    @requires("exchange_bindings")
    def test_two_ways_to_a_queue_give_one_copy(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(source := name("source"), "fanout")
        queue = declare_bound(channel, name(), source)
        for _ in range(2):
            channel.exchange_declare(way := name("way"), "fanout")
            channel.exchange_bind(way, source)
            channel.queue_bind(queue, way)
        publish(channel, source, "", "one")
        assert take(channel, queue, 1) == ["one"]

    @requires("exchange_bindings")
    def test_binding_a_missing_exchange_is_not_found(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.exchange_declare(exchange := name("x"), "fanout")
        with pytest.raises(NotFoundError):
            channel.exchange_bind(name("none"), exchange)
        with pytest.raises(NotFoundError):
            other.exchange_bind(exchange, name("none"))

    @requires("exchange_bindings")
    def test_the_default_exchange_cannot_be_bound_to_another(
        self, channel: Channel, other: Channel, name: Names
    ) -> None:
        channel.exchange_declare(exchange := name("x"), "fanout")
        with pytest.raises(AccessRefusedError):
            channel.exchange_bind(exchange, "")
        with pytest.raises(AccessRefusedError):
            other.exchange_bind("", exchange)

    @requires("exchange_bindings")
    def test_deleting_the_destination_removes_the_binding(
        self, channel: Channel, name: Names
    ) -> None:
        channel.exchange_declare(source := name("source"), "fanout")
        channel.exchange_declare(destination := name("destination"), "fanout")
        channel.exchange_bind(destination, source)
        channel.exchange_delete(destination)
        channel.exchange_declare(destination, "fanout")
        declare_bound(channel, queue := name(), destination)
        publish(channel, source, "", "not bound")
        assert take(channel, queue, 0) == []


class InternalExchangeContract(ContractFixtures):
    """Internal exchanges take messages from exchanges only."""

    @requires("internal_exchanges")
    def test_publishing_to_an_internal_exchange_is_refused(
        self, channel: Channel, name: Names
    ) -> None:
        channel.exchange_declare(exchange := name("x"), "fanout", internal=True)
        with pytest.raises(AccessRefusedError) as caught:
            publish(channel, exchange, "", "refused")
        assert caught.value.code == 403
        assert not channel.is_open

    @requires("internal_exchanges", "exchange_bindings")
    def test_an_internal_exchange_takes_from_another(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(outer := name("outer"), "fanout")
        channel.exchange_declare(inner := name("inner"), "fanout", internal=True)
        channel.exchange_bind(inner, outer)
        declare_bound(channel, queue := name(), inner)
        publish(channel, outer, "", "passed on")
        assert take(channel, queue, 1) == ["passed on"]


class AlternateExchangeContract(ContractFixtures):
    """The argument `alternate-exchange`."""

    @requires("alternate_exchange")
    def test_an_alternate_takes_what_finds_no_way(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(alternate := name("alternate"), "fanout")
        arguments = {"alternate-exchange": alternate}
        channel.exchange_declare(exchange := name("x"), "direct", arguments=arguments)
        wanted = declare_bound(channel, name(), exchange, ["wanted"])
        rest = declare_bound(channel, name(), alternate)
        for key in ("wanted", "unwanted"):
            publish(channel, exchange, key, key)
        assert take(channel, wanted, 1) == ["wanted"]
        assert take(channel, rest, 1) == ["unwanted"]

    @requires("alternate_exchange")
    def test_the_alternate_routes_by_the_same_key(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(alternate := name("alternate"), "topic")
        arguments = {"alternate-exchange": alternate}
        channel.exchange_declare(exchange := name("x"), "direct", arguments=arguments)
        declare_bound(channel, queue := name(), alternate, ["a.*"])
        for key in ("a.b", "b.a"):
            publish(channel, exchange, key, key)
        message = channel.basic_get(queue, no_ack=True)
        assert message is not None
        assert message.envelope.exchange == exchange
        assert message.envelope.routing_key == "a.b"
        assert take(channel, queue, 0) == []

    @requires("alternate_exchange")
    def test_alternates_form_chains_and_cycles(self, channel: Channel, name: Names) -> None:
        names = [name("x") for _ in range(3)]
        for exchange, alternate in zip(names, [*names[1:], names[0]], strict=True):
            arguments = {"alternate-exchange": alternate}
            channel.exchange_declare(exchange, "direct", arguments=arguments)
        declare_bound(channel, queue := name(), names[2], ["k"])
        publish(channel, names[0], "k", "at the end of the chain")
        publish(channel, names[0], "nobody's", "around and dropped")
        assert take(channel, queue, 1) == ["at the end of the chain"]

    @requires("alternate_exchange")
    def test_a_missing_alternate_drops_the_message(self, channel: Channel, name: Names) -> None:
        arguments = {"alternate-exchange": name("none")}
        channel.exchange_declare(exchange := name("x"), "direct", arguments=arguments)
        publish(channel, exchange, "k", "dropped")
        assert channel.is_open

    @requires("alternate_exchange", "mandatory")
    def test_mandatory_is_content_with_the_alternate(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(alternate := name("alternate"), "fanout")
        arguments = {"alternate-exchange": alternate}
        channel.exchange_declare(exchange := name("x"), "direct", arguments=arguments)
        with pytest.raises(UnroutableError):
            channel.basic_publish(envelope(exchange, "k", "nowhere"), mandatory=True)
        declare_bound(channel, queue := name(), alternate)
        channel.basic_publish(envelope(exchange, "k", "somewhere"), mandatory=True)
        assert take(channel, queue, 1) == ["somewhere"]

    @requires("alternate_exchange", "exchange_bindings")
    def test_an_alternate_is_asked_at_every_exchange_on_the_way(
        self, channel: Channel, name: Names
    ) -> None:
        channel.exchange_declare(alternate := name("alternate"), "fanout")
        channel.exchange_declare(source := name("source"), "fanout")
        arguments = {"alternate-exchange": alternate}
        channel.exchange_declare(inner := name("inner"), "direct", arguments=arguments)
        channel.exchange_bind(inner, source)
        declare_bound(channel, queue := name(), alternate)
        publish(channel, source, "k", "unrouted on its way")
        assert take(channel, queue, 1) == ["unrouted on its way"]
