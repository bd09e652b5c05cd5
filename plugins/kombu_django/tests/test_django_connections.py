"""Our own connections to PostgreSQL: made as the settings say, and what they leave alone."""

from __future__ import annotations

import psycopg
import pytest
from django.db import connections

from kombu_core import Connection, Consumer, Message, Queue
from kombu_core.exceptions import NothingCameError
from kombu_core.testing.brokers import BrokerServer
from kombu_core.testing.harness import until
from kombu_django.listening import PostgreSQLWaiter
from kombu_django.publishing import publish
from plugins.kombu_django.tests.configured import add_database, from_url
from plugins.kombu_django.tests.databases import later, open_store

pytestmark = pytest.mark.broker("postgres")


@pytest.fixture
def alias(postgresql_alias: str) -> str:
    return postgresql_alias


def test_behind_a_pooler_it_polls_and_sets_nothing(
    alias: str, queue: str, postgres_server: BrokerServer
) -> None:
    """A pooler would give the connection, with what is set on it, to somebody else."""
    store = open_store(alias, listen=False)
    assert not isinstance(store._waiter, PostgreSQLWaiter)
    timer = later(0.1, lambda: publish("x", queue, using=alias))
    assert store.wait([queue], 10)
    timer.join()

    def settings(using: str) -> list[object]:
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_settings WHERE source = 'session'")
            return list(cursor.fetchone())

    with connections[alias].cursor() as cursor:  # What Django sets.
        cursor.execute("SELECT count(*) FROM pg_settings WHERE source = 'session'")
        usual = list(cursor.fetchone())
    assert store.database.run(settings) == usual
    store.close()


def test_the_pool_of_the_application_is_its_own(queue: str, postgres_server: BrokerServer) -> None:
    """A consumer keeps its connections for as long as it runs."""
    values = from_url(postgres_server.url)
    add_database("pooled", migrate=False, **values, OPTIONS={"pool": {"max_size": 1}})
    received: list[Message] = []
    with Connection("django://pooled") as connection:
        connection.Producer(routing_key=queue).publish("x")
        with Consumer(connection, [Queue(queue)], on_message=received.append, no_ack=True):
            until(lambda: _drained(connection) or received)
    assert [message.body for message in received] == [b"x"]


def test_the_role_of_the_application_is_ours(
    queue: str, token: str, postgres_server: BrokerServer
) -> None:
    role = f"role_{token[:8]}"
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(
            f"CREATE ROLE {role}; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; "
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}"
        )
    values = from_url(postgres_server.url)
    add_database("with_role", migrate=False, **values, OPTIONS={"assume_role": role})
    store = open_store("with_role")

    def user(using: str) -> str:
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT current_user")
            return str(cursor.fetchone()[0])

    assert store.database.run(user) == role
    store.close()
    with Connection("django://with_role") as connected:
        connected.Producer(routing_key=queue).publish("x")
        assert Queue(queue)(connected).get(no_ack=True) is not None


def _drained(connection: Connection) -> bool:
    try:
        connection.drain_events(timeout=0.1)
    except NothingCameError:
        pass
    return False
