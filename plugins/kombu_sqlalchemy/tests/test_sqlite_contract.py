"""The contract kit on SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from kombu_core.testing.contract import BrokerUnderTest, TransportContract


class TestSQLite(TransportContract):
    """One file for each test."""

    @pytest.fixture
    def broker(self, tmp_path: Path) -> BrokerUnderTest:
        return BrokerUnderTest(
            url=f"sqlalchemy+sqlite:///{tmp_path / 'queues.db'}",
            transport_options={"lease": 1.0},
            lease=1.0,
        )
