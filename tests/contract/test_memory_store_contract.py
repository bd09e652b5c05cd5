"""The tests of a store on the memory store, and on one whose author has just begun."""

from __future__ import annotations

import pytest

from kombu_core.memory import MemoryStore, VirtualHost
from kombu_core.testing.store import OpenStore, StoreContract


class TestMemoryStore(StoreContract):
    """One virtual host for each test."""

    @pytest.fixture
    def open_store(self) -> OpenStore:
        host = VirtualHost("x")
        return lambda: MemoryStore(host)
