"""The contract kit on `memory://`."""

from __future__ import annotations

import pytest

from kombu_core.testing.contract import BrokerUnderTest, TransportContract


class TestMemory(TransportContract):
    """One virtual host for each test."""

    @pytest.fixture
    def broker(self, token: str) -> BrokerUnderTest:
        return BrokerUnderTest(url=f"memory://{token}", transport_options={"lease": 0.5}, lease=0.5)
