"""What breaks: servers, links, processes. Nothing is lost, nothing is done twice by itself."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from kombu_core.exceptions import (
    ConnectError,
    ConnectionLimitExceededError,
    ConnectionLostError,
    OperationalError,
)
from kombu_core.testing.brokers import BrokerServer, RedisServer
from kombu_core.testing.harness import until
from kombu_core.testing.proxy import TcpProxy
from kombu_core.virtual.store import Batch, Counts, Release
from kombu_redis.store import RedisStore
from plugins.kombu_redis.tests.steps import claim, put, words

OpenStore = Callable[..., RedisStore]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of the test's own, which keeps what it confirmed."""
    with RedisServer(appendonly="always") as server:
        yield server


@pytest.fixture
def proxy(redis_server: BrokerServer) -> Iterator[TcpProxy]:
    with TcpProxy(redis_server.port) as proxy:
        yield proxy


class TestServer:
    def test_it_forgets_the_scripts(self, server: RedisServer, open_store: OpenStore) -> None:
        store = open_store(server.url)
        store.begin("me", 60)
        admin = Redis(port=server.port)
        for i in range(5):
            admin.script_flush()
            put(store, str(i))
            admin.script_flush()
            (item,) = claim(store)
            admin.script_flush()
            assert not store.commit(Batch(acks=[item.claim], session="me")).lost
        assert store.count("q") == Counts(0, 0, 0)

    @pytest.mark.parametrize("how", ["restart", "kill"])
    def test_it_comes_back_with_all_that_it_confirmed(
        self, server: RedisServer, open_store: OpenStore, how: str
    ) -> None:
        store = open_store(server.url)
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
        assert store.count("q") == Counts(90, 5, 1)
        assert store.read(["a"])[0].value == b"1"
        store.commit(Batch(releases=[Release(item.claim) for item in held[5:]], session="me"))
        assert words(claim(store, 6)) == ["5", "6", "7", "8", "9", "10"]

    def test_it_dies_under_a_publisher(self, server: RedisServer, open_store: OpenStore) -> None:
        store = open_store(server.url)
        confirmed = 0
        killer = threading.Timer(0.2, server.kill)
        killer.start()
        with pytest.raises(ConnectionLostError):
            while True:
                put(store, str(confirmed))
                confirmed += 1
        killer.join()
        with pytest.raises(ConnectError):
            put(store, "nobody listens")
        server.start()
        # The one that was on its way when it died may be there or not.
        assert store.count("q").ready in (confirmed, confirmed + 1)
        assert confirmed > 10

    def test_it_dies_under_those_who_wait(self, server: RedisServer, open_store: OpenStore) -> None:
        store = open_store(server.url)
        timer = threading.Timer(0.1, server.kill)
        timer.start()
        begun = time.monotonic()
        with pytest.raises(ConnectionLostError):
            store.wait(["q"], 30)
        assert time.monotonic() - begun < 2
        timer.join()

    def test_it_becomes_a_replica(self, server: RedisServer, open_store: OpenStore) -> None:
        store = open_store(server.url)
        admin = Redis(port=server.port)
        admin.replicaof("127.0.0.1", "1")
        with pytest.raises(ConnectionLostError):
            put(store, "a")
        admin.replicaof("NO", "ONE")
        put(store, "a")
        assert store.count("q").ready == 1

    def test_it_becomes_a_replica_under_those_who_wait(
        self, server: RedisServer, open_store: OpenStore
    ) -> None:
        store = open_store(server.url)
        timer = threading.Timer(0.1, Redis(port=server.port).replicaof, ["127.0.0.1", "1"])
        timer.start()
        with pytest.raises(ConnectionLostError):
            store.wait(["q"], 30)
        timer.join()

    def test_its_memory_is_full(self, server: RedisServer, open_store: OpenStore) -> None:
        """Nothing of a batch is applied; settling what is there still works."""
        store = open_store(server.url)
        store.begin("me", 60)
        put(store, "a", "b")
        held = claim(store, 1)
        admin = Redis(port=server.port)
        admin.config_set("maxmemory", 1)
        with pytest.raises(OperationalError) as caught:
            put(store, *"cd")
        assert caught.value.is_retryable
        assert not isinstance(caught.value, ConnectionLostError)
        assert not store.commit(Batch(acks=[held[0].claim], session="me")).lost
        admin.config_set("maxmemory", 0)
        assert store.count("q") == Counts(1, 0, 0)
        assert words(claim(store)) == ["b"]

    def test_it_closes_idle_connections(self, server: RedisServer, open_store: OpenStore) -> None:
        store = open_store(server.url, health_check_interval=0.02)
        for _ in range(3):
            put(store, "a")
            Redis(port=server.port).client_kill_filter(_type="normal", skipme=True)
            time.sleep(0.03)
        assert store.count("q").ready == 3


class TestLink:
    def test_it_is_cut(
        self, proxy: TcpProxy, redis_server: BrokerServer, open_store: OpenStore
    ) -> None:
        store = open_store(proxy.rewrite(redis_server.url))
        put(store, "a")
        proxy.cut()
        with pytest.raises(ConnectionLostError):
            put(store, "b")
        put(store, "c")
        assert store.count("q").ready == 2

    def test_an_answer_that_never_comes_is_no_second_question(
        self, proxy: TcpProxy, redis_server: BrokerServer, open_store: OpenStore
    ) -> None:
        direct = open_store()
        store = open_store(proxy.rewrite(redis_server.url), socket_timeout=0.3)
        put(store, "a")
        proxy.pause("to_client")
        begun = time.monotonic()
        with pytest.raises(ConnectionLostError):
            put(store, "b")
        assert time.monotonic() - begun < 5
        assert direct.count("q").ready == 2
        proxy.restore()
        put(store, "c")
        assert direct.count("q").ready == 3

    def test_a_silent_link_ends_a_wait(
        self, proxy: TcpProxy, redis_server: BrokerServer, open_store: OpenStore
    ) -> None:
        store = open_store(proxy.rewrite(redis_server.url), socket_timeout=0.4)
        proxy.pause()
        with pytest.raises(ConnectionLostError):
            store.wait(["q"], 30)

    def test_an_interrupted_command_leaves_no_answer_behind(self, open_store: OpenStore) -> None:
        store = open_store()

        def interrupt(number: int, frame: object) -> None:
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(KeyboardInterrupt):
                store.wait(["q"], 30)
        finally:
            signal.signal(signal.SIGALRM, before)
        put(store, "a")
        assert store.count("q") == Counts(1, 0, 0)


class TestThreadsAndForks:
    def test_threads_share_a_store(self, store: RedisStore) -> None:
        store.begin("me", 60)
        taken: list[str] = []

        def work(name: int) -> None:
            for i in range(50):
                put(store, f"{name}-{i}")
                claimed = claim(store, 1)
                taken.extend(words(claimed))
                store.commit(Batch(acks=[item.claim for item in claimed], session="me"))

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == len(set(taken)) == 400
        assert store.count("q") == Counts(0, 0, 0)

    def test_connections_are_limited(
        self, redis_server: BrokerServer, open_store: OpenStore, token: str
    ) -> None:
        store = open_store(max_connections=3, client_name=token)
        waiters = [threading.Thread(target=store.wait, args=(["q"], 1)) for _ in range(2)]
        workers = [
            threading.Thread(target=put, args=(store, *"abc"), kwargs={"queue": "other"})
            for _ in range(6)
        ]
        for thread in waiters + workers:
            thread.start()
        time.sleep(0.1)
        clients = Redis.from_url(redis_server.url).client_list()
        assert [client["name"] for client in clients].count(token) == 3
        for thread in waiters + workers:
            thread.join()
        assert store.count("other").ready == 18

    def test_a_limit_that_stays_reached(
        self, redis_server: BrokerServer, proxy: TcpProxy, open_store: OpenStore
    ) -> None:
        store = open_store(proxy.rewrite(redis_server.url), max_connections=2, socket_timeout=0.5)

        def wait() -> None:
            with pytest.raises(ConnectionLostError):
                store.wait(["q"], 5)

        waiters = [threading.Thread(target=wait) for _ in range(2)]
        for waiter in waiters:
            waiter.start()
        time.sleep(0.1)
        proxy.pause()
        connections = store._connections
        connections._patience = 0.05
        with pytest.raises(ConnectionLimitExceededError):
            put(store, "x")
        for waiter in waiters:
            waiter.join()
        proxy.restore()
        put(store, "x")

    def test_a_forked_child_opens_its_own(self, store: RedisStore) -> None:
        put(store, "parent")
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    for i in range(50):
                        put(store, str(i))
                    store.close()
                    status = 0
                finally:
                    os._exit(status)
            children.append(child)
        for i in range(50):
            put(store, str(i))
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
        assert store.count("q").ready == 201


_WORKER = """
import os, random, sys
from kombu_core.message import Envelope
from kombu_core.transport import TransportParameters
from kombu_core.url import parse
from kombu_core.virtual.store import Batch, Put, Release, Want
from kombu_redis.transport import RedisTransport

url, prefix, session = sys.argv[1:]
store = RedisTransport(TransportParameters(parse(url), {"prefix": prefix})).open_store()
store.begin(session, 60)
print("ready", flush=True)
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


def bury(store: RedisStore, session: str) -> None:
    """Let the lease of a dead worker run out, and clean up after it."""
    store.begin(session, 0.001)
    until(lambda: session in store.reap(), "the session is over")
    store.end(session)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_workers_that_die_lose_and_double_nothing(
    store: RedisStore, redis_server: BrokerServer, token: str, sign: signal.Signals
) -> None:
    """Each moves messages atomically from one queue to the other until it is killed anywhere.

    A stopped one is killed later, after a message was put for which it may be waiting.
    """
    total = 0
    rounds = 8
    for number in range(rounds):
        session = f"worker-{number}"
        with subprocess.Popen(
            [sys.executable, "-c", _WORKER, redis_server.url, token, session],
            stdout=subprocess.PIPE,
            text=True,
        ) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
            deadline = time.monotonic() + random.uniform(0.01, 0.12)
            while time.monotonic() < deadline:
                put(store, str(total), queue="in")
                total += 1
            worker.send_signal(sign)
            put(store, str(total), queue="in")
            total += 1
            worker.kill()
        bury(store, session)
        left, moved = store.count("in"), store.count("out")
        assert left.ready + moved.ready == total
        assert left.claimed == moved.claimed == 0
    store.begin("me", 60)
    found: Counter[str] = Counter()
    for queue in ("in", "out"):
        while claimed := claim(store, 1000, queue=queue):
            found.update(words(claimed))
    assert found == Counter(str(i) for i in range(total))
