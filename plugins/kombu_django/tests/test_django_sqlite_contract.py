"""The contract kit on Django's SQLite."""

from __future__ import annotations

import pytest

from kombu_core.testing.contract import BrokerUnderTest, TransportContract
from plugins.kombu_django.tests.conftest import on


class TestDjangoSQLite(TransportContract):
    """One file for all tests."""

    @pytest.fixture
    def broker(self, sqlite_alias: str) -> BrokerUnderTest:
        return on(sqlite_alias)
