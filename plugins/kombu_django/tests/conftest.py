"""Databases of Django: every test that wants one runs on each of the three."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connections

from kombu_core.testing.brokers import BrokerServer
from kombu_core.testing.contract import BrokerUnderTest
from plugins.kombu_django.tests.configured import add_database, from_url

LEASE = 0.5


@pytest.fixture(scope="session")
def sqlite_alias(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file, with the tables in it."""
    file = tmp_path_factory.mktemp("django") / "db.sqlite3"
    add_database("sqlite", ENGINE="django.db.backends.sqlite3", NAME=str(file))
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


@pytest.fixture(autouse=True)
def _no_connection_left() -> Iterator[None]:
    """Close the connections of Django's that a test leaves to its thread."""
    yield
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
