"""The contract kit on Django's PostgreSQL."""

from __future__ import annotations

import pytest

from kombu_core.testing.brokers import BrokerServer
from kombu_core.testing.contract import BrokerUnderTest, TransportContract
from plugins.kombu_django.tests.conftest import on


class TestDjangoPostgreSQL(TransportContract):
    """One database for all tests."""

    @pytest.fixture
    def broker(self, postgresql_alias: str, postgres_server: BrokerServer) -> BrokerUnderTest:
        return on(postgresql_alias, postgres_server)
