"""What breaks: servers, links, processes. Nothing is lost, nothing is done twice by itself."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection

from kombu_core.exceptions import (
    ConnectError,
    ConnectionLimitExceededError,
    ConnectionLostError,
    OperationalError,
)
from kombu_core.testing.brokers import MariaDBServer, PostgresServer, PrivateServer
from kombu_core.testing.harness import until
from kombu_core.testing.proxy import TcpProxy
from kombu_core.virtual.store import Batch, Counts, Release
from kombu_sqlalchemy.store import SQLAlchemyStore
from plugins.kombu_sqlalchemy.tests.steps import claim, put, rows, together, words

OpenStore = Callable[..., SQLAlchemyStore]

SERVERS = [
    pytest.param(PostgresServer, marks=pytest.mark.broker("postgres")),
    pytest.param(MariaDBServer, marks=pytest.mark.broker("mariadb")),
]


class _TimeIsUp(Exception):
    """What a handler of signals may raise."""


class TestServer:
    @pytest.fixture(params=SERVERS)
    def server(self, request: pytest.FixtureRequest) -> Iterator[PrivateServer]:
        """A server of the test's own."""
        with request.param() as server:
            yield server

    @pytest.fixture
    def url(self, server: PrivateServer) -> str:
        return f"sqlalchemy+{server.url}"

    @pytest.mark.parametrize("how", ["restart", "kill"])
    def test_it_comes_back_with_all_that_it_confirmed(
        self, server: PrivateServer, open_store: OpenStore, how: str
    ) -> None:
        store = open_store()
        store.begin("me", 60)
        store.write({"a": b"1"}, [])
        put(store, *(str(i) for i in range(100)))
        put(store, "late", delay=60)
        held = claim(store, 10)
        store.commit(Batch(acks=[item.claim for item in held[:5]], session="me"))
        if how == "kill":
            server.kill()
            server.start()
        else:
            server.restart()
        with pytest.raises(ConnectionLostError):
            store.count("q")
        assert until(lambda: _counted(store), "it recovers") == Counts(90, 5, 1)
        assert store.read(["a"])[0].value == b"1"
        store.commit(Batch(releases=[Release(item.claim) for item in held[5:]], session="me"))
        assert words(claim(store, 6)) == ["5", "6", "7", "8", "9", "10"]

    def test_it_dies_under_a_publisher(self, server: PrivateServer, open_store: OpenStore) -> None:
        store = open_store()
        confirmed = 0
        killer = threading.Thread(target=server.kill)
        with pytest.raises(OperationalError) as caught:
            while True:
                put(store, str(confirmed))
                confirmed += 1
                if confirmed == 20:
                    killer.start()
        assert caught.value.is_retryable
        killer.join()
        with pytest.raises(ConnectError):
            put(store, "nobody listens")
        server.start()
        # The one that was on its way when it died may be there or not.
        counted = until(lambda: _counted(store), "it recovers")
        assert counted is not None
        assert counted.ready in (confirmed, confirmed + 1)

    def test_it_dies_after_the_work_was_done(
        self, server: PrivateServer, open_store: OpenStore
    ) -> None:
        """Giving the connection back fails then, which is no error of the work."""
        store = open_store()

        def work(connection: Connection) -> int:
            connection.exec_driver_sql("SELECT 1")
            server.kill()
            return 42

        assert store.database.run(work) == 42

    def test_it_dies_under_those_who_wait(
        self, server: PrivateServer, open_store: OpenStore
    ) -> None:
        store = open_store()
        timer = threading.Timer(0.1, server.kill)
        timer.start()
        begun = time.monotonic()
        with pytest.raises(OperationalError):
            store.wait(["q"], 30)
        assert time.monotonic() - begun < 5
        timer.join()

    def test_the_link_is_cut(self, server: PrivateServer, open_store: OpenStore, url: str) -> None:
        with TcpProxy(server.port) as proxy:
            store = open_store(f"sqlalchemy+{proxy.rewrite(server.url)}")
            put(store, "a")
            proxy.cut()
            with pytest.raises(ConnectionLostError):
                put(store, "b")
            put(store, "c")
            assert store.count("q").ready == 2

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, _TimeIsUp])
    def test_an_interrupted_statement_leaves_no_answer_behind(
        self, open_store: OpenStore, kind: type[BaseException]
    ) -> None:
        store = open_store()

        def interrupt(number: int, frame: object) -> None:
            raise kind

        sleep = "pg_sleep" if store.database.engine.name == "postgresql" else "sleep"

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(kind):
                store.wait(["q"], 30)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(kind):
                while True:
                    put(store, "x")
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(kind):
                store.database.transact(
                    lambda connection: connection.exec_driver_sql(f"SELECT {sleep}(10)")
                )
        finally:
            signal.signal(signal.SIGALRM, before)
        ready = store.count("q").ready
        put(store, "a")
        assert store.count("q") == Counts(ready + 1, 0, 0)


def _counted(store: SQLAlchemyStore) -> Counts | None:
    try:
        return store.count("q")
    except OperationalError:
        return None


class TestThreadsAndForks:
    def test_threads_share_a_store(self, store: SQLAlchemyStore) -> None:
        store.begin("me", 60)
        taken: list[str] = []

        def work(name: int) -> None:
            for i in range(30):
                put(store, f"{name}-{i}")
                claimed = claim(store, 1)
                taken.extend(words(claimed))
                store.commit(Batch(acks=[item.claim for item in claimed], session="me"))

        together(*(lambda name=name: work(name) for name in range(6)))
        while claimed := claim(store):
            taken.extend(words(claimed))
        assert len(taken) == len(set(taken)) == 180

    def test_connections_are_limited(self, open_store: OpenStore) -> None:
        store = open_store(pool_size=2, max_overflow=0, socket_timeout=0.2)
        held = [store.database.connect() for _ in range(2)]
        with pytest.raises(ConnectionLimitExceededError):
            put(store, "x")
        for connection in held:
            connection.close()
        put(store, "x")

    def test_a_forked_child_opens_its_own(self, store: SQLAlchemyStore) -> None:
        put(store, "parent")
        store.wait(["q"], 0)
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    store.wait(["q"], 0)
                    for i in range(50):
                        put(store, str(i))
                    store.close()
                    status = 0
                finally:
                    os._exit(status)
            children.append(child)
        for i in range(50):
            put(store, str(i))
        store.wait(["none"], 0.1)
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
        assert store.count("q").ready == 201


_PRELUDE = """
import json, random, sys
from kombu_core.message import Envelope
from kombu_core.transport import TransportParameters
from kombu_core.url import parse
from kombu_core.virtual.store import Batch, Put, Release, Want
from kombu_sqlalchemy.transport import SQLAlchemyTransport

url, options, session = sys.argv[1:]
parameters = TransportParameters(parse(url, opaque=True), json.loads(options))
store = SQLAlchemyTransport(parameters).open_store()
store.begin(session, 60)
print("ready", flush=True)
"""

_MOVER = (
    _PRELUDE
    + """
while True:
    claimed = store.claim([Want("in", random.randint(1, 9))], session, 9)
    if not claimed:
        store.wait(["in"], 1)
        continue
    back = claimed[::5]
    done = [item for item in claimed if item not in back]
    puts = [Put("out", item.content) for item in done]
    acks = [item.claim for item in done]
    store.commit(Batch(puts, acks, [Release(item.claim) for item in back], (), session))
"""
)

_BUSY = (
    _PRELUDE
    + """
for number in range(300):
    store.commit(Batch([Put("q", Envelope(f"{session}-{number}".encode(), {}, {}))]))
    claimed = store.claim([Want("q", 2)], session, 2)
    store.commit(Batch(acks=[item.claim for item in claimed[:1]], session=session))
    store.commit(Batch(releases=[Release(item.claim) for item in claimed[1:]], session=session))
    store.write({f"k{number % 7}": session.encode()}, ())
    store.count("q")
"""
)


def _start(program: str, url: str, options: dict[str, Any], session: str) -> subprocess.Popen[str]:
    worker = subprocess.Popen(
        [sys.executable, "-c", program, url, json.dumps(options), session],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    return worker


def _bury(store: SQLAlchemyStore, session: str) -> None:
    """Let the lease of a dead worker run out, and clean up after it."""
    store.begin(session, 0.001)
    until(lambda: session in store.reap(), "the session is over")
    store.end(session)


def test_workers_that_are_killed_lose_and_double_nothing(
    store: SQLAlchemyStore, url: str, options: dict[str, Any]
) -> None:
    """Each moves messages atomically from one queue to the other until it is killed anywhere."""
    total = 0
    for number in range(8):
        session = f"worker-{number}"
        with _start(_MOVER, url, options, session) as worker:
            deadline = time.monotonic() + random.uniform(0.01, 0.12)
            while time.monotonic() < deadline:
                put(store, str(total), queue="in")
                total += 1
            worker.kill()
        # Its last transaction may be undone only after a while.
        until(partial(_is_buried, store, session, total), f"{total} messages")
    store.begin("me", 60)
    found: Counter[str] = Counter()
    for queue in ("in", "out"):
        while claimed := claim(store, 1000, queue=queue):
            found.update(words(claimed))
    assert found == Counter(str(i) for i in range(total))


def _is_buried(store: SQLAlchemyStore, session: str, total: int) -> bool:
    _bury(store, session)
    left, moved = store.count("in"), store.count("out")
    return left.ready + moved.ready == total and left.claimed == moved.claimed == 0


def test_processes_that_do_everything_at_once_get_no_error(
    store: SQLAlchemyStore, url: str, options: dict[str, Any]
) -> None:
    """As `database is locked`, or a deadlock."""
    workers = [_start(_BUSY, url, options, f"w{number}") for number in range(3)]
    for worker in workers:
        _, errors = worker.communicate(timeout=90)
        assert (worker.returncode, errors) == (0, "")
    for number in range(3):
        store.end(f"w{number}")
    left = store.count("q")
    assert (left.claimed, left.ready) == (0, rows(store))


def test_a_held_lock_is_an_error_that_may_be_tried_again(
    open_store: OpenStore, backend: str
) -> None:
    """Another transaction, as the application's own, that takes too long."""
    store, other = open_store(lock_timeout=1), open_store()
    version = store.write({"a": b"1"}, []).versions["a"]
    with other.database.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if backend == "sqlite" else "BEGIN")
        other.queries.versions(connection, ["a"], lock=other.queries.update)
        begun = time.monotonic()
        with pytest.raises(OperationalError) as caught:
            store.write({"a": b"2"}, [("a", version)])
        assert caught.value.is_retryable
        assert time.monotonic() - begun < 5
        connection.exec_driver_sql("ROLLBACK")
    store.write({"a": b"2"}, [("a", version)])
