"""The contract of a store, as tests to inherit: the way there, one method after the other.

The contract kit (`kombu_core.testing.contract`) decides whether a transport is right; it needs a
whole store before its first test can pass. These tests call a store's methods directly, and a
method that is not written yet makes the tests wait that need it::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def open_store(self, token: str) -> OpenStore:
            return lambda: MyStore(prefix=token)
"""

from __future__ import annotations

from kombu_core.testing.store.documents import DocumentContract
from kombu_core.testing.store.fixtures import OpenStore, StoreFixtures
from kombu_core.testing.store.limits import StoreLimitContract
from kombu_core.testing.store.messages import MessageContract
from kombu_core.testing.store.methods import METHODS, unwritten
from kombu_core.testing.store.races import RaceContract
from kombu_core.testing.store.sessions import SessionContract
from kombu_core.testing.store.times import TimeContract
from kombu_core.testing.store.waiting import WaitContract

__all__ = ["METHODS", "OpenStore", "StoreContract", "unwritten"]


class StoreContract(
    DocumentContract,
    MessageContract,
    SessionContract,
    TimeContract,
    StoreLimitContract,
    WaitContract,
    RaceContract,
    StoreFixtures,
):
    """Everything that the core asks of a store."""
