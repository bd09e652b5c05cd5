"""Sessions: who hangs, who is dead, and what goes with them."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest
from greenstalk import Client

from kombu_beanstalk.layout import Layout
from kombu_beanstalk.lock import Locks
from kombu_beanstalk.store import BeanstalkStore
from kombu_beanstalk.table import Root
from kombu_core import Connection
from kombu_core.exceptions import ConnectError, NotFoundError
from kombu_core.testing.brokers import BrokerServer
from kombu_core.testing.harness import until
from kombu_core.virtual.store import Batch, Counts, Drop, Limit, Put
from plugins.kombu_beanstalk.tests.steps import claim, envelope, put

OpenStore = Callable[..., BeanstalkStore]


def tubes_of(raw: Client[bytes], start: str) -> list[str]:
    return [tube for tube in raw.tubes() if tube.startswith(start)]


def is_gone(connection: Connection, queue: str) -> bool:
    try:
        connection.channel().queue_declare(queue, passive=True)
    except NotFoundError:
        return True
    return False


@contextmanager
def no_more_files() -> Iterator[None]:
    """This process can open nothing."""
    os.close(free := os.dup(0))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class TestHanging:
    def test_claims_of_a_session_that_is_over_run_out(self, open_store: OpenStore) -> None:
        """All of them, though the server by itself would overlook more than half."""
        stores = [open_store(lease=1) for _ in range(40)]
        claims = []
        for number, store in enumerate(stores):
            store.begin(f"s{number}", 1)
            put(store, "a", queue=str(number))
            claims.append(claim(store, session=f"s{number}", queue=str(number))[0].claim)
        other = open_store(lease=1)
        until(lambda: len(other.reap()) == len(stores), timeout=5)

        def are_back() -> bool:
            return all(other.count(one.queue) == Counts(1, 0, 0) for one in claims)

        until(are_back, timeout=5)
        for number, (store, one) in enumerate(zip(stores, claims, strict=True)):
            batch = Batch([Put("dead", envelope("x"))], [one], session=f"s{number}")
            assert store.commit(batch).lost == [one]
            other.begin("me", 60)
            assert claim(other, queue=one.queue)[0].deliveries == 1
        assert other.count("dead") == Counts(0, 0, 0)

    def test_the_locks_of_a_process_that_hangs_come_back(
        self, open_store: OpenStore, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All of them, once somebody waited for one in vain, and went on without."""
        monkeypatch.setattr("kombu_beanstalk.lock.LOCK_TTR", 3)
        monkeypatch.setattr("kombu_beanstalk.lock._PATIENCE", 1)
        store = open_store()
        limits = [{f"q{number}": Limit(5)} for number in range(20)]

        def put_limited(one: dict[str, Limit]) -> float:
            began = time.monotonic()
            (queue,) = one
            store.commit(Batch([Put(queue, envelope("a"))], limits=one))
            return time.monotonic() - began

        child = os.fork()
        if child == 0:
            hanging = open_store()
            with ExitStack() as stack:
                for one in limits:
                    tube = Layout.of(token, "default").limit(*one)
                    stack.enter_context(Locks(hanging._wires, hangs=list).held(tube))
                os.kill(os.getpid(), signal.SIGSTOP)
            os._exit(0)
        try:
            assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
            assert put_limited(limits[0]) >= 1
            until(lambda: not any(put_limited(one) > 0.9 for one in limits), timeout=30)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def test_what_slows_the_server_down_ends_by_itself(
        self, open_store: OpenStore, raw: Client[bytes], token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kombu_beanstalk.store.LOCK_TTR", 1)
        dead, hanging, other = (open_store(lease=1) for _ in range(3))

        def brakes() -> int:
            return len(tubes_of(raw, f"{token}/default/brake/"))

        dead.begin("dead", 1)
        claim(dead, session="dead")
        dead.close()
        until(lambda: other.reap() == ["dead"], timeout=5)
        other.end("dead")
        time.sleep(0.1)
        assert not brakes()  # The server had all of it back at once.
        hanging.begin("hanging", 1)
        claim(hanging, session="hanging")
        until(lambda: other.reap() == ["hanging"], timeout=5)
        until(lambda: brakes() >= 1000)
        other.end("hanging")
        until(lambda: not brakes(), timeout=6)

    def test_a_queue_that_expires_slows_nothing_down(
        self, beanstalkd_server: BrokerServer, raw: Client[bytes], token: str
    ) -> None:
        """Nor does any session that never claimed, though who began it is connected."""
        options = {"prefix": token}
        with Connection(beanstalkd_server.url, transport_options=options) as connection:
            channel = connection.channel()
            for number in range(3):
                name = f"q{number}"
                channel.queue_declare(name, arguments={"x-expires": 500})
                channel.basic_get(name)
                until(partial(is_gone, connection, name), timeout=10)
                assert not tubes_of(raw, f"{token}/default/brake/")

    def test_who_cannot_slow_the_server_down_tries_again(
        self, open_store: OpenStore, raw: Client[bytes], token: str
    ) -> None:
        hanging, other = open_store(lease=1), open_store(lease=1)
        hanging.begin("hanging", 1)
        claim(hanging, session="hanging")
        other.reap()
        time.sleep(2.1)
        with no_more_files(), pytest.raises(ConnectError):
            other.reap()
        assert not tubes_of(raw, f"{token}/default/brake/")
        assert other.reap() == ["hanging"]
        until(lambda: len(tubes_of(raw, f"{token}/default/brake/")) >= 1000)

    def test_sessions_end_on_any_connection(
        self, store: BeanstalkStore, raw: Client[bytes], token: str
    ) -> None:
        """And leave nothing behind on that where they began."""
        for number in range(20):
            name = f"s{number}"
            store.begin(name, 60)
            claim(store, session=name)
            with store._wires.lent("talk"):
                store.end(name)
        # What a connection talked of last is there as long as it is.
        assert len(tubes_of(raw, f"{token}/default/session/")) <= 2
        assert len(tubes_of(raw, f"{token}/default/holder/")) == 1
        store.close()
        until(lambda: not tubes_of(raw, f"{token}/default/holder/"))

    def test_a_lease_is_renewed_while_a_long_tube_is_emptied(
        self, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kombu_beanstalk.sessions.CLEAN_DELAY", 0)
        store, other = open_store(), open_store()
        store.begin("me", 60)
        other.begin("dead", 0.5)
        other.close()
        time.sleep(1.1)
        store._sessions.clean_later([("q", "tube")])
        is_cleaning, is_renewed = threading.Event(), threading.Event()

        def clean(*_: object) -> bool:
            is_cleaning.set()
            return is_renewed.wait(30)

        monkeypatch.setattr("kombu_beanstalk.sessions.CLEAN_DELAY", 5)
        over: list[str] = []
        thread = threading.Thread(target=lambda: over.extend(store._sessions.reap(clean)))
        thread.start()
        assert is_cleaning.wait(10)
        assert store.renew("me", 60)
        # Nor does it keep the others from the alarms.
        assert open_store().reap() == ["dead"]
        is_renewed.set()
        thread.join()
        assert over == ["dead"]

    def test_what_is_left_of_a_long_queue_goes_in_pieces(
        self, store: BeanstalkStore, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kombu_beanstalk.sessions.CLEAN_DELAY", 0)
        monkeypatch.setattr("kombu_beanstalk.sessions._CLEAN_SECONDS", 0.05)
        tube = Layout.of(token, "default").queue("q", 7)
        for _ in range(10):
            store._queues.put(
                [tube] * 1000, store._queues.encode([Put("q", envelope("a"))] * 1000), Root()
            )
        store._sessions.clean_later([("q", tube)])
        monkeypatch.setattr("kombu_beanstalk.sessions.CLEAN_DELAY", 1)
        store.reap()
        assert 0 < store._queues.count(tube).ready < 10_000

        def is_empty() -> bool:
            store.reap()
            return store._queues.count(tube) == Counts(0, 0, 0)

        until(is_empty, timeout=60)

    def test_a_session_that_nobody_renews_is_reaped_by_any(self, open_store: OpenStore) -> None:
        dead, first, second = open_store(), open_store(), open_store()
        dead.begin("dead", 0.5)
        dead.begin("alive", 60)
        dead.begin("alive", 60)
        assert first.reap() == []
        until(lambda: first.reap() == ["dead"], timeout=5)
        assert first.reap() == second.reap() == ["dead"]
        first.close()
        assert second.reap() == ["dead"]
        second.end("dead")
        assert second.reap() == dead.reap() == []

    def test_the_tubes_of_the_dead_go(
        self, open_store: OpenStore, raw: Client[bytes], token: str
    ) -> None:
        store = open_store()
        for number in range(5):
            store.begin(f"s{number}", 60)
            store.write({f"queue/q{number}": b"{}"}, [])
            put(store, "a", queue=f"q{number}")
            store.write({f"queue/q{number}": None}, [], [Drop(f"q{number}")])
            store.end(f"s{number}")
        store.close()
        ours = [tube for tube in raw.tubes() if tube.startswith(f"{token}/default/")]
        assert not [tube for tube in ours if "/queue/" in tube or "/session/" in tube]
