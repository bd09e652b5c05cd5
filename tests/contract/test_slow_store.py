"""The topics about settling, on a memory store that is as slow as one across a network.

What is on its way to the broker when a channel or connection ends has windows that the fast store
closes too soon for any test to look through.
"""

from __future__ import annotations

import time

import pytest

from kombu_core import memory
from kombu_core.memory import MemoryStore
from kombu_core.testing.contract import BrokerUnderTest
from kombu_core.testing.contract.concurrency import ConcurrencyContract
from kombu_core.testing.contract.errors import ErrorContract
from kombu_core.testing.contract.prefetch import PrefetchContract
from kombu_core.testing.contract.recovery import RecoveryContract
from kombu_core.testing.contract.settlement import SettlementContract
from kombu_core.virtual.store import Batch, CommitResult

LATENCY_SECONDS = 0.01


class SlowStore(MemoryStore):
    """Takes a while for everything that settles."""

    def commit(self, batch: Batch) -> CommitResult:
        if batch.acks or batch.releases:
            time.sleep(LATENCY_SECONDS)
        return super().commit(batch)


class TestSlowStore(
    SettlementContract,
    PrefetchContract,
    ConcurrencyContract,
    RecoveryContract,
    ErrorContract,
):
    @pytest.fixture
    def broker(self, monkeypatch: pytest.MonkeyPatch, token: str) -> BrokerUnderTest:
        monkeypatch.setattr(memory, "MemoryStore", SlowStore)
        return BrokerUnderTest(url=f"memory://{token}", transport_options={"lease": 0.5}, lease=0.5)
