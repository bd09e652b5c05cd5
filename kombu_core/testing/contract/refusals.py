"""Refusals: what a transport does not have, it says, whichever way it is asked."""

from __future__ import annotations

import pytest

from kombu_core.capabilities import Capabilities
from kombu_core.exceptions import UnsupportedError
from kombu_core.testing.contract.fixtures import ContractFixtures
from kombu_core.testing.contract.requirements import ALL_ASKS, ASKS
from kombu_core.testing.harness import Names, publish, take
from kombu_core.transport import Channel


class RefusalContract(ContractFixtures):
    """The other half of every skipped test."""

    @pytest.mark.parametrize(("capability", "ask"), ALL_ASKS)
    def test_a_capability_is_granted_or_refused(
        self,
        channel: Channel,
        capabilities: Capabilities,
        name: Names,
        capability: str,
        ask: str,
    ) -> None:
        if getattr(capabilities, capability):
            ASKS[capability][ask](channel, name)
        else:
            with pytest.raises(UnsupportedError) as caught:
                ASKS[capability][ask](channel, name)
            assert caught.value.transport == capabilities.name
            assert capability in str(caught.value)
            assert capabilities.name in str(caught.value)
        assert channel.is_open

    @pytest.mark.parametrize("type_", ["direct", "fanout", "topic", "headers", "x-none-such"])
    def test_an_exchange_type_is_there_or_refused(
        self, channel: Channel, capabilities: Capabilities, name: Names, type_: str
    ) -> None:
        exchange = name("x")
        if type_ in capabilities.exchange_types:
            channel.exchange_declare(exchange, type_)
            return
        with pytest.raises(UnsupportedError) as caught:
            channel.exchange_declare(exchange, type_)
        assert type_ in str(caught.value)
        assert capabilities.name in str(caught.value)

    def test_a_refusal_leaves_the_channel_open(self, channel: Channel, name: Names) -> None:
        with pytest.raises(UnsupportedError):
            channel.exchange_declare(name("x"), "x-none-such")
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1")
        assert take(channel, queue, 1) == ["1"]
