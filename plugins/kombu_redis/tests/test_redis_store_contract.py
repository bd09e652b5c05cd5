"""The tests of a store on Redis."""

from __future__ import annotations

from kombu_core.testing.store import StoreContract


class TestRedisStore(StoreContract):
    """One prefix for each test."""
