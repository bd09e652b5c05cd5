"""Exchanges declared and deleted: what is equal, what is refused, what goes with them."""

from __future__ import annotations

from typing import Any

import pytest

from kombu_core.exceptions import (
    AccessRefusedError,
    NotFoundError,
    PreconditionFailedError,
)
from kombu_core.testing.contract.fixtures import ContractFixtures
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import Names, declare_bound, publish, take
from kombu_core.transport import Channel


class ExchangeContract(ContractFixtures):
    """exchange.declare, exchange.delete and the names that are the broker's own."""

    def test_declaring_an_exchange_again_changes_nothing(
        self, channel: Channel, name: Names
    ) -> None:
        exchange, queue = name("x"), name()
        channel.exchange_declare(exchange, "direct")
        declare_bound(channel, queue, exchange, ["k"])
        channel.exchange_declare(exchange, "direct")
        publish(channel, exchange, "k", "kept")
        assert take(channel, queue, 1) == ["kept"]

    @pytest.mark.parametrize("difference", [{"type": "topic"}, {"durable": True}])
    def test_an_unequal_exchange_is_refused(
        self, channel: Channel, name: Names, difference: dict[str, Any]
    ) -> None:
        exchange = name("x")
        channel.exchange_declare(exchange, "direct")
        with pytest.raises(PreconditionFailedError):
            channel.exchange_declare(exchange, **{"type": "direct", **difference})
        assert not channel.is_open

    @requires("auto_delete")
    def test_auto_delete_makes_an_exchange_unequal(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "direct")
        with pytest.raises(PreconditionFailedError):
            channel.exchange_declare(exchange, "direct", auto_delete=True)

    @requires("internal_exchanges")
    def test_internal_makes_an_exchange_unequal(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "direct")
        with pytest.raises(PreconditionFailedError):
            channel.exchange_declare(exchange, "direct", internal=True)

    @requires("alternate_exchange")
    def test_an_alternate_has_a_name(self, channel: Channel, name: Names) -> None:
        with pytest.raises(PreconditionFailedError):
            channel.exchange_declare(name("x"), "fanout", arguments={"alternate-exchange": 5})

    @requires("alternate_exchange")
    def test_an_alternate_makes_an_exchange_unequal(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "direct")
        with pytest.raises(PreconditionFailedError):
            channel.exchange_declare(
                exchange, "direct", arguments={"alternate-exchange": "amq.fanout"}
            )

    def test_a_passive_declare_finds_an_exchange(self, channel: Channel, name: Names) -> None:
        channel.exchange_declare(exchange := name("x"), "topic", durable=True)
        channel.exchange_declare(exchange, "direct", passive=True)

    def test_a_passive_declare_of_no_exchange_is_not_found(
        self, channel: Channel, name: Names
    ) -> None:
        with pytest.raises(NotFoundError) as caught:
            channel.exchange_declare(name("x"), "direct", passive=True)
        assert caught.value.code == 404
        assert not channel.is_open

    @pytest.mark.parametrize(
        ("exchange", "type_"),
        [
            ("amq.direct", "direct"),
            ("amq.fanout", "fanout"),
            ("amq.topic", "topic"),
            ("amq.headers", "headers"),
            ("amq.match", "headers"),
        ],
    )
    def test_the_standard_exchanges_are_there(
        self, channel: Channel, exchange: str, type_: str
    ) -> None:
        if type_ not in channel.transport.capabilities.exchange_types:
            pytest.skip(f"the transport does not have {type_} exchanges")
        channel.exchange_declare(exchange, passive=True)
        channel.exchange_declare(exchange, type_, durable=True)

    def test_a_standard_exchange_routes(self, channel: Channel, name: Names) -> None:
        queue, key = name(), name("key")
        declare_bound(channel, queue, "amq.direct", [key])
        publish(channel, "amq.direct", key, "by the standard exchange")
        assert take(channel, queue, 1) == ["by the standard exchange"]

    def test_names_of_the_broker_are_refused_for_exchanges(
        self, channel: Channel, name: Names
    ) -> None:
        with pytest.raises(AccessRefusedError) as caught:
            channel.exchange_declare(f"amq.{name('x')}", "direct")
        assert caught.value.code == 403

    @pytest.mark.parametrize("exchange", ["amq.fanout", "amq.none-such"])
    def test_a_standard_exchange_cannot_be_deleted(self, channel: Channel, exchange: str) -> None:
        with pytest.raises(AccessRefusedError):
            channel.exchange_delete(exchange)

    def test_deleting_no_exchange_is_no_error(self, channel: Channel, name: Names) -> None:
        channel.exchange_delete(name("x"))
        assert channel.is_open

    def test_a_deleted_exchange_takes_its_bindings_along(
        self, channel: Channel, name: Names
    ) -> None:
        exchange, queue = name("x"), name()
        channel.exchange_declare(exchange, "direct")
        declare_bound(channel, queue, exchange, ["k"])
        channel.exchange_delete(exchange)
        channel.exchange_declare(exchange, "direct")
        publish(channel, exchange, "k", "unwanted")
        assert take(channel, queue, 0) == []

    def test_if_unused_keeps_a_bound_exchange(self, channel: Channel, name: Names) -> None:
        exchange = name("x")
        channel.exchange_declare(exchange, "direct")
        channel.exchange_delete(exchange, if_unused=True)
        channel.exchange_declare(exchange, "direct")
        declare_bound(channel, name(), exchange, ["k"])
        with pytest.raises(PreconditionFailedError):
            channel.exchange_delete(exchange, if_unused=True)

    def test_a_deleted_exchange_can_come_back_as_another_type(
        self, channel: Channel, name: Names
    ) -> None:
        exchange = name("x")
        channel.exchange_declare(exchange, "direct")
        channel.exchange_delete(exchange)
        channel.exchange_declare(exchange, "fanout")
        declare_bound(channel, queue := name(), exchange)
        publish(channel, exchange, "any key", "fanned out")
        assert take(channel, queue, 1) == ["fanned out"]
