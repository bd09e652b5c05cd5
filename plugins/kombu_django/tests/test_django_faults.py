"""What breaks: processes and servers. Nothing is lost, nothing is done twice by itself."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import connections, transaction
from django.db.backends.signals import connection_created
from django.test import override_settings

from kombu_core import Connection, Queue
from kombu_core.exceptions import OperationalError
from kombu_core.message import Envelope
from kombu_core.testing.brokers import MariaDBServer, PostgresServer, PrivateServer
from kombu_core.testing.harness import until
from kombu_core.virtual.store import Batch, Put, Release, Want
from kombu_django.models import Message
from kombu_django.publishing import publish, shared_connection
from kombu_django.store import DjangoStore
from plugins.kombu_django.tests.configured import add_database, close_shared, from_url
from plugins.kombu_django.tests.databases import (
    as_envelope,
    ended,
    fork,
    in_thread,
    open_store,
    rows_of,
    taken,
)
from plugins.kombu_django.tests.handlers import BROKEN

SERVERS = [
    pytest.param(PostgresServer, marks=pytest.mark.broker("postgres")),
    pytest.param(MariaDBServer, marks=pytest.mark.broker("mariadb")),
]


@pytest.fixture
def store(alias: str) -> Iterator[DjangoStore]:
    """A store of the database."""
    found = open_store(alias)
    yield found
    found.close()


class KilledAt:
    """Kills this process before its n-th statement, or (half a step later) after it."""

    def __init__(self, step: int) -> None:
        self.left = step

    def watch(self, connection: object, **_: object) -> None:
        connection.execute_wrappers.append(self)  # type: ignore[attr-defined]

    def __call__(self, execute: Callable[..., object], *arguments: object) -> object:
        self._count()
        result = execute(*arguments)
        self._count()
        return result

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_consumer_may_be_killed_between_any_two_statements(
    alias: str, store: DjangoStore, token: str
) -> None:
    """It moves messages from one queue to another, acknowledging as it publishes."""
    source, target = f"{token}-in", f"{token}-out"
    connections.close_all()
    total = step = 0
    status = -signal.SIGKILL
    while status:
        store.commit(Batch([Put(source, Envelope(b"%d" % (total + i), {}, {})) for i in range(4)]))
        total += 4
        session = f"{token}-{step}"

        def move(session: str = session, step: int = step) -> None:
            connection_created.connect(KilledAt(step).watch, weak=False)
            mine = open_store(alias)
            mine.begin(session, 60)
            claimed = mine.claim([Want(source, 3)], session, 3)
            done, back = claimed[:2], claimed[2:]
            mine.commit(
                Batch(
                    [Put(target, as_envelope(item)) for item in done],
                    [item.claim for item in done],
                    [Release(item.claim) for item in back],
                    session=session,
                )
            )
            mine.end(session)

        status = ended(fork(move))
        assert status in (0, -signal.SIGKILL)
        # The database may need a moment to undo what the dead had begun.
        until(lambda s=session, t=total: _is_buried(store, s, (source, target), t))  # type: ignore[misc]
        step += 1
    assert step > 20
    store.begin("me", 60)
    found: Counter[bytes] = Counter()
    for queue in (source, target):
        while claimed := store.claim([Want(queue, 500)], "me", 500):
            found.update(as_envelope(item).body for item in claimed)
            store.commit(Batch(acks=[item.claim for item in claimed], session="me"))
    store.end("me")
    assert found == Counter(b"%d" % i for i in range(total))


def _is_buried(store: DjangoStore, session: str, queues: tuple[str, str], total: int) -> bool:
    """Let the lease of a dead session run out, clean up, and see that all messages are ready."""
    store.begin(session, 0)
    if session in store.reap():
        store.end(session)
    counts = [store.count(queue) for queue in queues]
    return sum(count.ready for count in counts) == total and not any(c.claimed for c in counts)


def test_processes_that_do_everything_at_once_get_no_error(
    alias: str, queue: str, token: str
) -> None:
    """As `database is locked`, or a deadlock; also in transactions of the application's."""
    close_shared()
    connections.close_all()

    def work(name: str) -> None:
        connection = shared_connection(alias)
        channel = connection.channel()
        for number in range(40):
            with transaction.atomic(using=alias):
                Group.objects.using(alias).create(name=f"{token}-{name}-{number}")
                publish(f"{name}-{number}", queue, using=alias)
            publish(f"{name}+{number}", queue, using=alias)
            message = channel.basic_get(queue)
            if message is not None and number % 2:
                message.ack()
            elif message is not None:
                message.requeue()
        close_shared()
        connections.close_all()

    children = [fork(lambda name=name: work(name)) for name in "abc"]  # type: ignore[misc]
    assert [ended(child) for child in children] == [0, 0, 0]
    assert Group.objects.using(alias).filter(name__startswith=token).count() == 120
    assert 180 <= rows_of(alias, queue) <= 240


def test_garbage_in_a_row_goes_to_quarantine(
    alias: str, queue: str, connection: Connection
) -> None:
    for word in ("good", "bad", "better"):
        publish(word, queue, using=alias)
    row = Message.objects.using(alias).filter(queue=queue).order_by("id")[1]
    Message.objects.using(alias).filter(id=row.id).update(body=b"\xff garbage")
    assert taken(connection, queue) == ["good", "better"]
    kept = Message.objects.using(alias).filter(queue="kombu.quarantine").latest("id")
    assert b"\xff garbage" in bytes(kept.body)
    quarantine = Queue("kombu.quarantine")(connection)
    quarantine.declare()
    quarantine.delete()


@pytest.mark.parametrize("server_class", SERVERS)
def test_a_database_that_is_killed_under_load_loses_nothing(
    server_class: type[PrivateServer], token: str
) -> None:
    """Each row of the application's has its message, and none has two."""
    with server_class() as server:
        alias = f"killed_{server.name}"
        add_database(alias, **from_url(server.url))
        with Connection(f"django://{alias}") as consumer:
            consumer.SimpleQueue(token).close()
            confirmed: list[int] = []
            is_over = threading.Event()

            def produce() -> None:
                number = 0
                while not is_over.is_set():
                    number += 1
                    try:
                        with transaction.atomic(using=alias):
                            Group.objects.using(alias).create(name=f"{number}")
                            publish(f"{number}", token, using=alias)
                        confirmed.append(number)
                    except Exception:  # noqa: BLE001  (Django's or ours, while it is away)
                        connections[alias].close()

            thread = threading.Thread(target=in_thread, args=(produce,))
            thread.start()
            try:
                until(lambda: len(confirmed) > 20)
                server.kill()
                server.start()
                seen = len(confirmed)
                until(lambda: len(confirmed) > seen + 20, timeout=60)
            finally:
                is_over.set()
                thread.join()
            connections[alias].close()
            rows = set(Group.objects.using(alias).values_list("name", flat=True))
            found = until(lambda: _all_of(consumer, token), timeout=60)
            assert Counter(found) == Counter(rows)
            assert {str(number) for number in confirmed} <= rows
        close_shared()
        connections[alias].close()


@pytest.mark.parametrize("server_class", SERVERS)
def test_a_database_that_is_killed_under_a_worker_has_all_work_done_once(
    server_class: type[PrivateServer], token: str, start_worker: Callable[[str, str], int]
) -> None:
    with server_class() as server:
        alias = f"worked_{server.name}"
        add_database(alias, **from_url(server.url))
        _publish_names(alias, token, 300)
        worker = start_worker(alias, token)
        until(lambda: _done(alias, token) > 30, timeout=60)
        server.kill()
        server.start()
        connections[alias].close()
        until(lambda: _done(alias, token) == 300, timeout=60)
        assert rows_of(alias, token) == 0
        os.kill(worker, signal.SIGTERM)
        assert ended(worker) == 0
        close_shared()
        connections[alias].close()


def test_workers_that_are_killed_do_each_work_once(
    alias: str,
    queue: str,
    start_worker: Callable[[str, str], int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """While others publish; on SQLite all of them share one file."""
    close_shared()
    connections.close_all()
    publisher = fork(lambda: _publish_names(alias, queue, 150))
    workers = [start_worker(alias, queue) for _ in range(2)]
    for number in range(4):
        until(lambda n=number: _done(alias, queue) > 20 * n, timeout=60)  # type: ignore[misc]
        connections.close_all()
        os.kill(workers[0], signal.SIGKILL)
        assert ended(workers.pop(0)) == -signal.SIGKILL
        workers.append(start_worker(alias, queue))
    assert ended(publisher) == 0
    until(lambda: _done(alias, queue) == 150 and not rows_of(alias, queue), timeout=60)
    for worker in workers:
        os.kill(worker, signal.SIGTERM)
    assert [ended(worker) for worker in workers] == [0, 0]
    assert "locked" not in capfd.readouterr().err


def test_a_connection_that_breaks_under_a_handler_is_not_its_fault(
    alias: str, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As when an administrator ends it: the message comes again, and is not rejected."""
    if alias == "sqlite":
        pytest.skip("nobody can end it there")
    _publish_names(alias, queue, 1)
    seen = len(BROKEN)
    handler = "plugins.kombu_django.tests.handlers.break_once"
    call_command("kombu_consume", handler, queue, "--until-empty", database=alias)
    assert BROKEN[seen:] == [f"{queue}-0"]
    assert _done(alias, queue) == 1
    assert rows_of(alias, queue) == 0


def _publish_names(alias: str, queue: str, count: int) -> None:
    Queue(queue)(shared_connection(alias)).declare()
    for number in range(count):
        with transaction.atomic(using=alias):
            Group.objects.using(alias).create(name=f"ordered-{queue}-{number}")
            publish({"alias": alias, "name": f"{queue}-{number}"}, queue, using=alias)
    close_shared()
    connections.close_all()


@pytest.fixture
def start_worker() -> Iterator[Callable[[str, str], int]]:
    """Start a process that saves a row for each message; what is left of them is killed."""
    started: list[int] = []

    def start(alias: str, queue: str) -> int:
        handler = "plugins.kombu_django.tests.handlers.save_group"
        with override_settings(KOMBU={"OPTIONS": {"lease": 1.0}}):
            child = fork(lambda: call_command("kombu_consume", handler, queue, database=alias))
        started.append(child)
        return child

    yield start
    for child in started:
        with suppress(ChildProcessError):
            if os.waitpid(child, os.WNOHANG) == (0, 0):
                os.kill(child, signal.SIGKILL)
                ended(child)


def _done(alias: str, queue: str) -> int:
    found: int = Group.objects.using(alias).filter(name__startswith=f"{queue}-").count()
    return found


def _all_of(connection: Connection, queue: str) -> list[str]:
    try:
        connection.connect()
        return taken(connection, queue)
    except OperationalError:
        return []
