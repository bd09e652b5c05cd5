"""The contract kit on RabbitMQ through py-amqp."""

from __future__ import annotations

import pytest

from kombu_core.testing.brokers import BrokerServer
from kombu_core.testing.contract import BrokerUnderTest, ChannelContract


class TestPyAmqp(ChannelContract):
    """All that the contract asks for."""

    @pytest.fixture
    def broker(self, rabbitmq_server: BrokerServer) -> BrokerUnderTest:
        faults = {"restart": rabbitmq_server.restart, "kill": rabbitmq_server.kill}
        return BrokerUnderTest(
            url=rabbitmq_server.url,
            dead_url="amqp://guest:secret@127.0.0.1:1//",
            **(faults if rabbitmq_server.is_private else {}),
        )
