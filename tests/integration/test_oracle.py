"""The contract kit on RabbitMQ itself: whatever fails here is a wrong expectation of the kit."""

from __future__ import annotations

import pytest

from kombu_core.testing.brokers import BrokerServer
from kombu_core.testing.contract import ChannelContract
from kombu_core.testing.harness import BrokerUnderTest


class TestOracle(ChannelContract):
    """All topics that speak the Channel contract, without our own connections in between."""

    @pytest.fixture
    def broker(self, rabbitmq_server: BrokerServer) -> BrokerUnderTest:
        is_private = rabbitmq_server.is_private
        return BrokerUnderTest(
            url=rabbitmq_server.url,
            dead_url="amqp://guest:secret@127.0.0.1:1//",
            connection_class="tests.integration.oracle:OracleConnection",
            restart=rabbitmq_server.restart if is_private else None,
            kill=rabbitmq_server.kill if is_private else None,
        )
