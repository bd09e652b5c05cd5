"""What the kit says to the author of a transport that is not right yet."""

from __future__ import annotations

import pytest

from kombu_core.testing.contract import BrokerUnderTest
from kombu_core.testing.store import METHODS, unwritten

pytest_plugins = ["pytester"]

#: A transport on a memory store with four faults: it lacks a method, it ignores priorities, it
#: does not hand its lease on, and it promises what it cannot keep.
FAULTY = '''
from dataclasses import replace

import pytest
from kombu_core.hookspecs import hookimpl
from kombu_core.memory import MemoryStore, VirtualHost
from kombu_core.plugins import default_plugins
from kombu_core.testing.contract import BrokerUnderTest, TransportContract
from kombu_core.virtual.transport import VirtualTransport

HOST = VirtualHost("faulty")

class FaultyStore(MemoryStore):
    capabilities = replace(MemoryStore.capabilities, shared=True)

    def commit(self, batch):
        puts = [put._replace(priority=0) for put in batch.puts]
        return super().commit(batch._replace(puts=puts))

    def purge(self, queue):
        """Purge is for tomorrow."""
        raise NotImplementedError

class FaultyTransport(VirtualTransport):
    def open_store(self):
        return FaultyStore(HOST)

class Plugin:
    @hookimpl
    def kombu_transport(self, scheme):
        return FaultyTransport if scheme == "faulty" else None

@pytest.fixture(autouse=True, scope="module")
def _plugin():
    default_plugins.register(Plugin(), "faulty")

class TestFaulty(TransportContract):
    @pytest.fixture
    def broker(self):
        return BrokerUnderTest(url="faulty://", transport_options={"lease": 0.5}, lease=0.5)
'''


def test_the_kit_tells_what_is_wrong(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FAULTY)
    names = (
        "test_a_store_has_every_method or test_the_lease_is_what_the_kit_was_told "
        "or test_the_highest_comes_first_then_the_oldest "
        "or test_a_process_publishes_through_what_it_never_declared"
    )
    result = pytester.runpytest_subprocess(
        "-p", "kombu_core.testing.plugin", "--import-mode=importlib", "-k", names
    )
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines_random(
        [
            "*FaultyStore is not finished. It lacks:*",
            "*def purge(self, queue: str) -> int*",
            "*More: the section `purge` of docs/write-a-transport.md*",
            "*BrokerUnderTest says that the lease is 0.5 s, but the transport has one of 30.0 s.*",
            "*this test is for priorities*",
            "*this test is for shared*",
            "*See 'Say what you cannot do' in docs/write-a-transport.md.*",
        ]
    )


@pytest.mark.parametrize("lease", [0.0, -1.0, 30.0])
def test_a_lease_that_nobody_would_wait_for_is_refused(lease: float) -> None:
    with pytest.raises(ValueError, match="many tests wait until it runs out"):
        BrokerUnderTest(url="memory://", lease=lease)
    assert BrokerUnderTest(url="memory://", lease=None).lease is None


class _Beginning:
    def read(self) -> None:
        """It was written down what it shall do."""
        raise NotImplementedError("later")

    def write(self) -> None:
        pass

    def scan(self) -> list[str]:
        return []

    close = str


def test_a_method_without_a_body_of_its_own_is_not_written() -> None:
    assert unwritten(_Beginning) == [name for name in METHODS if name not in ("scan", "close")]
