"""The contract kit on Redis."""

from __future__ import annotations

import pytest

from kombu_core.testing.brokers import BrokerServer
from kombu_core.testing.contract import BrokerUnderTest, TransportContract


class TestRedis(TransportContract):
    """One prefix, and so one virtual host, for each test."""

    @pytest.fixture
    def broker(self, redis_server: BrokerServer, token: str) -> BrokerUnderTest:
        is_private = redis_server.is_private
        return BrokerUnderTest(
            url=redis_server.url,
            transport_options={"lease": 0.5, "prefix": token},
            lease=0.5,
            dead_url="redis://:secret@127.0.0.1:1/0",
            restart=redis_server.restart if is_private else None,
            kill=redis_server.kill if is_private else None,
        )
