"""Idle consumers: how soon they are woken, by what, and what they cost meanwhile."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial

import psycopg
import pytest
from django.db import connections, transaction

from kombu_core import Connection
from kombu_core.exceptions import OperationalError
from kombu_core.testing.brokers import BrokerServer
from kombu_core.virtual.store import Claimed, Want
from kombu_django.listening import PostgreSQLWaiter
from kombu_django.models import Message as Row
from kombu_django.operations import move
from kombu_django.publishing import publish
from kombu_django.statements import channel
from kombu_django.store import DjangoStore
from plugins.kombu_django.tests.databases import (
    as_envelope,
    ended,
    fork,
    in_thread,
    later,
    open_store,
)

_PUBLISHER = """
import sys, time
from plugins.kombu_django.tests.configured import add_database
from kombu_django.publishing import publish
from django.db import transaction

alias, queue = sys.argv[1:]
publish("first", queue, using=alias)
print("ready", flush=True)
for line in sys.stdin:
    with transaction.atomic(using=alias):
        for _ in range(2):
            publish(f"{time.monotonic()}", queue, using=alias)
"""

#: Seconds from a publish by another process to the claim, the median; what is usual is far below,
#: and the safety net's look far above.
_LAG = 0.2


@pytest.fixture
def store(alias: str) -> Iterator[DjangoStore]:
    """A store of the database, with a session."""
    found = open_store(alias)
    found.begin("me", 60)
    yield found
    found.end("me")
    found.close()


def test_another_process_wakes_it_in_milliseconds(
    alias: str, queue: str, store: DjangoStore
) -> None:
    arguments = [sys.executable, "-c", _PUBLISHER, alias, queue]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as publisher:
        assert publisher.stdin is not None
        assert publisher.stdout is not None
        assert publisher.stdout.readline() == "ready\n"
        assert len(store.claim([Want(queue, 1)], "me", 1)) == 1
        lags = []
        for _ in range(20):
            timer = threading.Timer(0.05, partial(print, file=publisher.stdin, flush=True))
            timer.start()
            assert store.wait([queue], 10)
            woken = time.monotonic()
            claimed: list[Claimed] = []
            while len(claimed) < 2:
                claimed += store.claim([Want(queue, 2)], "me", 2)
            lags.append(woken - float(as_envelope(claimed[0]).body))
            timer.join()
        publisher.stdin.close()
    assert sorted(lags)[10] < _LAG, lags


def test_idle_waiting_takes_no_processor_time(alias: str, store: DjangoStore) -> None:
    store.wait(["nothing"], 0.1)
    begun = time.process_time()
    assert not store.wait(["nothing"], 2)
    assert time.process_time() - begun < (0.2 if alias == "mariadb" else 0.05)


def test_queues_that_come_and_go(alias: str, store: DjangoStore, queue: str) -> None:
    for number in range(150):
        store.wait([f"reply{number}"], 0.0)
    timer = later(0.1, lambda: publish("x", queue, using=alias))
    assert store.wait(["reply0", queue], 10)
    timer.join()


def test_only_a_commit_wakes_it(alias: str, store: DjangoStore, queue: str) -> None:
    begun, committed = threading.Event(), threading.Event()

    def in_transaction() -> None:
        with transaction.atomic(using=alias):
            publish("x", queue, using=alias)
            begun.set()
            committed.wait()

    publisher = threading.Thread(target=in_thread, args=(in_transaction,))
    publisher.start()
    try:
        begun.wait()
        assert not store.wait([queue], 0.2)
    finally:
        timer = later(0.1, committed.set)
    assert store.wait([queue], 10)
    publisher.join()
    timer.join()


@pytest.mark.broker("postgres")
class TestListening:
    """On PostgreSQL."""

    @pytest.fixture
    def alias(self, postgresql_alias: str) -> str:
        return postgresql_alias

    def test_one_notification_for_each_queue_and_commit(
        self, alias: str, queue: str, postgres_server: BrokerServer
    ) -> None:
        with psycopg.connect(postgres_server.url, autocommit=True) as listener:
            listener.execute(f'LISTEN "{channel(queue)}"')
            with transaction.atomic(using=alias):
                for number in range(30):
                    publish(f"{number}", queue, using=alias)
            with Connection(f"django://{alias}") as connection:
                producer = connection.Producer(routing_key=queue)
                with producer.batch():
                    for number in range(30):
                        producer.publish(f"{number}")
            with pytest.raises(KeyError), transaction.atomic(using=alias):
                publish("x", queue, using=alias)
                raise KeyError
            found = list(listener.notifies(timeout=0.5))
        assert [note.channel for note in found] == [channel(queue)] * 2

    def test_the_admin_wakes_it(
        self, alias: str, queue: str, store: DjangoStore, token: str
    ) -> None:
        assert isinstance(store._waiter, PostgreSQLWaiter)
        with Connection(f"django://{alias}") as connection:
            other = connection.SimpleQueue(f"{token}-other")
            other.put("x")
            (id_,) = (
                Row.objects.using(alias).filter(queue=other.queue.name).values_list("id", flat=True)
            )
            timer = later(0.1, lambda: move(alias, [id_], queue))
            begun = time.monotonic()
            assert store.wait([queue], 10)
            assert time.monotonic() - begun < 2  # Before the safety net's look.
            timer.join()
            other.close()

    def test_a_waiting_connection_that_breaks_is_reported(
        self, alias: str, store: DjangoStore, postgres_server: BrokerServer
    ) -> None:
        def terminate() -> None:
            with psycopg.connect(postgres_server.url, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE query LIKE '%kombu_django_message%' AND pid <> pg_backend_pid()"
                )

        timer = later(0.2, terminate)
        with pytest.raises(OperationalError):
            store.wait(["nothing"], 10)
        timer.join()
        assert not store.wait(["nothing"], 0.1)

    def test_parent_and_child_listen_each_for_itself(self, alias: str, queue: str) -> None:
        store = open_store(alias)
        store.wait([queue], 0)
        connections.close_all()

        def child() -> None:
            assert store.wait([queue], 10)
            store.close()

        number = fork(child)
        assert not store.wait([queue], 0.3)
        publish("x", queue, using=alias)
        assert store.wait([queue], 10)
        assert ended(number) == 0
        store.close()
