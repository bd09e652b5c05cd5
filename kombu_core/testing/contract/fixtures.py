"""The fixtures of the contract tests, and the guard that keeps a subclass from weakening them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from kombu_core.capabilities import Capabilities
from kombu_core.exceptions import KombuError
from kombu_core.testing.contract.requirements import missing
from kombu_core.testing.harness import BrokerUnderTest, ContractConnection, Names
from kombu_core.testing.peer import Peer
from kombu_core.transport import Channel

#: Opens one more connection to the broker; closed at the end of the test.
Connect = Callable[[], ContractConnection]
#: Starts one more process on the broker; ended at the end of the test.
StartPeer = Callable[[], Peer]

_KIT: Final = __name__.rpartition(".")[0]


class ContractFixtures:
    """What all topics share. A transport's author overrides `broker` and nothing else."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if found := deviations(cls):
            raise TypeError(
                f"{cls.__name__} weakens the contract: {'; '.join(found)}. A test may only be "
                "overridden with @pytest.mark.xfail(reason=...)."
            )

    @pytest.fixture
    def broker(self) -> BrokerUnderTest:
        """The broker to test: override this, in any scope."""
        raise NotImplementedError("override the fixture `broker`")

    @pytest.fixture
    def name(self, broker: BrokerUnderTest, token: str) -> Iterator[Names]:
        """Makes names for exchanges and queues, and deletes what bears them at the end."""
        names = Names(token)
        yield names
        if names.made:
            _delete_all(broker, names)

    @pytest.fixture
    def connect(self, broker: BrokerUnderTest, name: Names) -> Iterator[Connect]:
        """Opens connections."""
        opened: list[ContractConnection] = []

        def connect() -> ContractConnection:
            opened.append(broker.open())
            return opened[-1]

        yield connect
        for connection in reversed(opened):
            connection.release()

    @pytest.fixture
    def connection(self, connect: Connect) -> ContractConnection:
        """One connection."""
        return connect()

    @pytest.fixture
    def channel(self, connection: ContractConnection) -> Channel:
        """One channel of `connection`."""
        return connection.channel()

    @pytest.fixture
    def other(self, connect: Connect) -> Channel:
        """A channel of another connection."""
        return connect().channel()

    @pytest.fixture
    def capabilities(self, connection: ContractConnection) -> Capabilities:
        """What the transport says that it can do."""
        return connection.transport.capabilities

    @pytest.fixture
    def start_peer(
        self, broker: BrokerUnderTest, name: Names, capabilities: Capabilities
    ) -> Iterator[StartPeer]:
        """Starts other processes; skips where a broker lives in one process only."""
        if not capabilities.shared:
            pytest.skip("the broker lives in this process only")
        peers: list[Peer] = []

        def start() -> Peer:
            peers.append(Peer(broker))
            return peers[-1]

        yield start
        for peer in peers:
            peer.close()

    @pytest.fixture(autouse=True)
    def _skip_what_is_missing(self, request: pytest.FixtureRequest) -> None:
        names = [name for mark in request.node.iter_markers("requires") for name in mark.args]
        if names:
            lacking = missing(request.getfixturevalue("capabilities"), names)
            if lacking:
                pytest.skip(f"the transport does not have {', '.join(lacking)}")

    def test_the_contract_is_whole(self) -> None:
        assert deviations(type(self)) == []


def deviations(cls: type) -> list[str]:
    """Return how a class departs from the kit's tests that it inherits, in words."""
    found: list[str] = []
    standard: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith(_KIT):
            standard.update((k, v) for k, v in vars(base).items() if k.startswith("test_"))
    for test, original in standard.items():
        actual = getattr(cls, test, None)
        if not callable(actual):
            found.append(f"{test} is removed")
        elif actual is not original and not _is_explained(actual):
            found.append(f"{test} is overridden without a reason")
    return found


def _is_explained(function: Callable[..., Any]) -> bool:
    marks = getattr(function, "pytestmark", [])
    return any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks)


def _delete_all(broker: BrokerUnderTest, names: Names) -> None:
    connection = broker.open()
    try:
        channel = connection.channel()
        for name in names.made:
            for delete in ("queue_delete", "exchange_delete"):
                try:
                    getattr(channel, delete)(name)
                except KombuError:
                    if not channel.is_open:
                        channel = connection.channel()
    finally:
        connection.release()
