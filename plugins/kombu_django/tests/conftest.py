"""Databases of Django: every test that wants one runs on each of the three."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.db import connections

from kombu_core import Connection, Queue
from kombu_core.testing.brokers import BrokerServer
from kombu_core.testing.contract import BrokerUnderTest
from plugins.kombu_django.tests.configured import add_database, close_shared, from_url

#: Long enough for a machine that is busy with other tests.
LEASE = 1.0


@pytest.fixture(scope="session")
def sqlite_alias(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file, with the tables in it."""
    file = tmp_path_factory.mktemp("django") / "db.sqlite3"
    add_database("sqlite", **SQLITE, NAME=str(file))
    return "sqlite"


@pytest.fixture(scope="session")
def postgresql_alias(postgres_server: BrokerServer) -> str:
    """A database of PostgreSQL, with the tables in it."""
    add_database("postgresql", **from_url(postgres_server.url))
    return "postgresql"


@pytest.fixture(scope="session")
def mariadb_alias(mariadb_server: BrokerServer) -> str:
    """A database of MariaDB, with the tables in it."""
    add_database("mariadb", **from_url(mariadb_server.url))
    return "mariadb"


#: As kombu_django advises.
SQLITE: dict[str, Any] = {
    "ENGINE": "django.db.backends.sqlite3",
    "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"}
    if django.VERSION >= (5, 1)
    else {"timeout": 20},
}

BACKENDS = [
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.broker("postgres")),
    pytest.param("mariadb", marks=pytest.mark.broker("mariadb")),
]


@pytest.fixture(params=BACKENDS)
def alias(request: pytest.FixtureRequest) -> str:
    """A database; the test runs on each of the three."""
    found: str = request.getfixturevalue(f"{request.param}_alias")
    return found


@pytest.fixture
def connection(alias: str) -> Iterator[Connection]:
    """A connection to the database, with a short lease."""
    with Connection(f"django://{alias}", transport_options={"lease": LEASE}) as connection:
        yield connection


@pytest.fixture
def queue(connection: Connection, token: str) -> Iterator[str]:
    """A queue that is there, and goes with the test."""
    Queue(token)(connection).declare()
    yield token
    Queue(token)(connection).delete()


@pytest.fixture(autouse=True)
def _no_connection_left() -> Iterator[None]:
    """Close the connections of Django's that a test leaves to its thread, and ours."""
    yield
    close_shared()
    connections.close_all()


def on(alias: str, server: BrokerServer | None = None) -> BrokerUnderTest:
    """Return what the kit has to know of a database."""
    is_private = server is not None and server.is_private
    return BrokerUnderTest(
        url=f"django://{alias}",
        transport_options={"lease": LEASE},
        lease=LEASE,
        connection_class="plugins.kombu_django.tests.configured:Connection",
        restart=server.restart if server is not None and is_private else None,
        kill=server.kill if server is not None and is_private else None,
    )
