"""The contract kit on Django's MariaDB."""

from __future__ import annotations

import pytest

from kombu_core.testing.brokers import BrokerServer
from kombu_core.testing.contract import BrokerUnderTest, TransportContract
from plugins.kombu_django.tests.conftest import on


class TestDjangoMariaDB(TransportContract):
    """One database for all tests."""

    @pytest.fixture
    def broker(self, mariadb_alias: str, mariadb_server: BrokerServer) -> BrokerUnderTest:
        return on(mariadb_alias, mariadb_server)
