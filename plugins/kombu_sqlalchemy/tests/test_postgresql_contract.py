"""The contract kit on PostgreSQL."""

from __future__ import annotations

import pytest

from kombu_core.testing.brokers import BrokerServer
from kombu_core.testing.contract import BrokerUnderTest, TransportContract


class TestPostgreSQL(TransportContract):
    """One prefix, and so one virtual host, for each test."""

    @pytest.fixture
    def broker(self, postgres_server: BrokerServer, token: str) -> BrokerUnderTest:
        is_private = postgres_server.is_private
        return BrokerUnderTest(
            url=f"sqlalchemy+{postgres_server.url}",
            transport_options={
                "lease": 1.0,
                "prefix": f"t{token[:8]}_",
                "create_tables": True,
            },
            lease=1.0,
            dead_url="sqlalchemy+postgresql://kombu:secret@127.0.0.1:1/kombu",
            restart=postgres_server.restart if is_private else None,
            kill=postgres_server.kill if is_private else None,
        )
