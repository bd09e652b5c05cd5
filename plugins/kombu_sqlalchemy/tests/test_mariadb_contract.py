"""The contract kit on MariaDB."""

from __future__ import annotations

import pytest

from kombu_core.testing.brokers import BrokerServer
from kombu_core.testing.contract import BrokerUnderTest, TransportContract


class TestMariaDB(TransportContract):
    """One prefix, and so one virtual host, for each test."""

    @pytest.fixture
    def broker(self, mariadb_server: BrokerServer, token: str) -> BrokerUnderTest:
        is_private = mariadb_server.is_private
        return BrokerUnderTest(
            url=f"sqlalchemy+{mariadb_server.url}",
            transport_options={
                "lease": 1.0,
                "prefix": f"t{token[:8]}_",
                "create_tables": True,
            },
            lease=1.0,
            dead_url="sqlalchemy+mysql://kombu:secret@127.0.0.1:1/kombu",
            restart=mariadb_server.restart if is_private else None,
            kill=mariadb_server.kill if is_private else None,
        )
