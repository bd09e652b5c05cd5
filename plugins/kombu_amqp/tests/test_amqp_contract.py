"""The contract kit on RabbitMQ through py-amqp."""

from __future__ import annotations

import pytest

from kombu_core.testing.brokers import BrokerServer
from kombu_core.testing.contract import BrokerUnderTest, TransportContract


class TestPyAmqp(TransportContract):
    """All that the contract asks for."""

    @pytest.fixture
    def broker(self, rabbitmq_server: BrokerServer) -> BrokerUnderTest:
        is_ours = rabbitmq_server.is_private
        return BrokerUnderTest(
            url=rabbitmq_server.url,
            dead_url="amqp://guest:secret@127.0.0.1:1//",
            restart=rabbitmq_server.restart if is_ours else None,
            kill=rabbitmq_server.kill if is_ours else None,
        )
