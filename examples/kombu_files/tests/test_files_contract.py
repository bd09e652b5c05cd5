"""The contract kit on a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from kombu_core.testing.contract import BrokerUnderTest, TransportContract


class TestFiles(TransportContract):
    """A directory for each test."""

    @pytest.fixture
    def broker(self, tmp_path: Path) -> BrokerUnderTest:
        return BrokerUnderTest(
            url=f"files://{tmp_path}/queues",
            transport_options={"lease": 0.5},
            lease=0.5,
            dead_url="files:///dev/null/queues",
            restart=lambda: None,  # There is no server; what is on the disk has to do.
        )
