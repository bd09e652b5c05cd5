"""A beanstalkd that takes large jobs, and stores on it, each test in tubes of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from greenstalk import Client

from kombu_beanstalk.store import BeanstalkStore
from kombu_beanstalk.transport import BeanstalkTransport
from kombu_core.testing.brokers import BeanstalkdServer, BrokerServer, open_server
from kombu_core.transport import TransportParameters
from kombu_core.url import parse

#: Enough for the largest body of the contract kit.
LARGE = 1 << 21


class LargeBeanstalkd(BeanstalkdServer):
    """One without a binlog, and with room for large jobs."""

    def __init__(self) -> None:
        super().__init__(binlog=False, max_job_size=LARGE)


@pytest.fixture(scope="session")
def beanstalkd_server() -> Iterator[BrokerServer]:
    """A beanstalkd that keeps nothing, started once a session."""
    with open_server(LargeBeanstalkd) as server:
        yield server


@pytest.fixture
def open_store(
    request: pytest.FixtureRequest, token: str
) -> Iterator[Callable[..., BeanstalkStore]]:
    """Opens stores that share their tubes (of a URL, with options), and closes them at the end."""
    opened: list[BeanstalkStore] = []

    def open_one(url: str = "", **options: Any) -> BeanstalkStore:
        if not url:
            server: BrokerServer = request.getfixturevalue("beanstalkd_server")
            url = server.url
        options.setdefault("prefix", token)
        store = BeanstalkTransport(TransportParameters(parse(url), options)).open_store()
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., BeanstalkStore]) -> BeanstalkStore:
    """One store on the session's server."""
    return open_store()


@pytest.fixture
def me(store: BeanstalkStore) -> BeanstalkStore:
    """The store, with a session `me` that has begun."""
    store.begin("me", 60)
    return store


@pytest.fixture
def raw(beanstalkd_server: BrokerServer) -> Iterator[Client[bytes]]:
    """The session's server without anything between."""
    with Client(("127.0.0.1", beanstalkd_server.port), encoding=None) as client:
        yield client
