"""Stores on real databases: every test that wants one runs on each of the three."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kombu_core.testing.brokers import BrokerServer
from kombu_core.transport import TransportParameters
from kombu_core.url import parse
from kombu_sqlalchemy.store import SQLAlchemyStore
from kombu_sqlalchemy.transport import SQLAlchemyTransport

BACKENDS = [
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.broker("postgres")),
    pytest.param("mariadb", marks=pytest.mark.broker("mariadb")),
]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Name of the database of this run of the test."""
    found: str = request.param
    return found


@pytest.fixture
def url(request: pytest.FixtureRequest, backend: str, tmp_path: Path) -> str:
    """Where the database is."""
    if backend == "sqlite":
        return f"sqlalchemy+sqlite:///{tmp_path / 'queues.db'}"
    name = {"postgresql": "postgres_server", "mariadb": "mariadb_server"}[backend]
    server: BrokerServer = request.getfixturevalue(name)
    return f"sqlalchemy+{server.url}"


@pytest.fixture
def options(token: str) -> dict[str, Any]:
    """Options that give the test tables of its own."""
    return {"prefix": f"t{token[:8]}_", "create_tables": True}


@pytest.fixture
def open_store(url: str, options: dict[str, Any]) -> Iterator[Callable[..., SQLAlchemyStore]]:
    """Opens stores that share their tables (of a URL, with options), and closes them at the end."""
    opened: list[SQLAlchemyStore] = []

    def open_one(address: str = url, **more: Any) -> SQLAlchemyStore:
        parameters = TransportParameters(parse(address, opaque=True), {**options, **more})
        store = SQLAlchemyTransport(parameters).open_store()
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., SQLAlchemyStore]) -> SQLAlchemyStore:
    """One store."""
    return open_store()


@pytest.fixture
def me(store: SQLAlchemyStore) -> SQLAlchemyStore:
    """The store, with a session `me` that has begun."""
    store.begin("me", 60)
    return store
