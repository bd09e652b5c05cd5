"""What breaks: servers, links, processes. Nothing is lost, nothing is done twice by itself."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest
from greenstalk import Client

from kombu_beanstalk.claims import Claims
from kombu_beanstalk.kept import KeptWire
from kombu_beanstalk.layout import Layout
from kombu_beanstalk.queues import Queues
from kombu_beanstalk.store import BeanstalkStore
from kombu_beanstalk.wire import Reply
from kombu_core import Connection, Queue
from kombu_core.exceptions import ConnectError, ConnectionLostError, OperationalError
from kombu_core.message import Message
from kombu_core.testing.brokers import BeanstalkdServer, BrokerServer
from kombu_core.testing.harness import drain_quiet, drain_until, until
from kombu_core.testing.proxy import TcpProxy
from kombu_core.transport import Channel
from kombu_core.virtual.store import Batch, Counts, Put
from kombu_core.virtual.topology import queue_key
from plugins.kombu_beanstalk.tests.steps import claim, envelope, put, settle, words

OpenStore = Callable[..., BeanstalkStore]


@pytest.fixture
def server() -> Iterator[BeanstalkdServer]:
    """A server of the test's own, which keeps what it confirmed."""
    with BeanstalkdServer() as server:
        yield server


@pytest.mark.broker("beanstalkd")
class TestServer:
    @pytest.mark.parametrize("how", ["restart", "kill"])
    def test_it_comes_back_with_all_that_it_confirmed(
        self, server: BeanstalkdServer, open_store: OpenStore, how: str
    ) -> None:
        """Under load: many publish, some consume, and then it is gone."""
        store = open_store(server.url)
        store.write({"a": b"1"}, [])
        put(store, "late", delay=60)
        confirmed: list[str] = []
        attempted: list[str] = []
        acknowledged: list[str] = []
        settled: list[str] = []

        def publish(number: int) -> None:
            mine = open_store(server.url)
            with pytest.raises(OperationalError):
                for i in range(10_000):
                    attempted.append(f"{number}-{i}")
                    put(mine, f"{number}-{i}")
                    confirmed.append(f"{number}-{i}")

        def consume() -> None:
            mine = open_store(server.url)
            mine.begin("consumer", 60)
            with pytest.raises(OperationalError):
                while True:
                    mine.wait(["q"], 1)
                    claimed = claim(mine, 5, "consumer")
                    settled.extend(words(claimed))
                    settle(mine, "consumer", acks=[item.claim for item in claimed])
                    acknowledged.extend(words(claimed))

        threads = [threading.Thread(target=publish, args=(number,)) for number in range(3)]
        threads.append(threading.Thread(target=consume))
        for thread in threads:
            thread.start()
        until(lambda: len(confirmed) > 150 and len(acknowledged) > 50)
        server.kill() if how == "kill" else server.stop()
        for thread in threads:
            thread.join()
        server.start()
        after = open_store(server.url)
        after.begin("me", 60)
        assert after.read(["a"])[0].value == b"1"
        assert after.count("q").delayed == 1
        left: list[str] = []
        while claimed := claim(after, 256):
            left += words(claimed)
            settle(after, acks=[item.claim for item in claimed])
        assert set(confirmed) - set(settled) <= set(left)
        assert not set(left) & set(acknowledged)
        assert set(left) <= set(attempted)
        assert len(left) == len(set(left))

    def test_it_dies_under_those_who_wait(
        self, server: BeanstalkdServer, open_store: OpenStore
    ) -> None:
        store = open_store(server.url)
        timer = threading.Timer(0.1, server.kill)
        timer.start()
        began = time.monotonic()
        with pytest.raises(ConnectionLostError):
            store.wait(["q"], 30)
        assert time.monotonic() - began < 2
        timer.join()
        with pytest.raises(ConnectError):
            put(store, "nobody listens")

    def test_a_claim_of_before_settles_nothing_after(
        self, server: BeanstalkdServer, open_store: OpenStore
    ) -> None:
        store = open_store(server.url)
        store.begin("me", 60)
        put(store, "a")
        (held,) = claim(store)
        server.restart()
        with pytest.raises(ConnectionLostError):
            settle(store, acks=[held.claim])
        assert settle(store, acks=[held.claim]).lost == [held.claim]
        assert not store.renew("me", 60)
        store.begin("new", 60)
        # The server does not remember that it had handed it out.
        assert words(claim(store, session="new")) == ["a"]

    def test_it_takes_no_more(self, server: BeanstalkdServer, open_store: OpenStore) -> None:
        store = open_store(server.url)
        store.begin("me", 60)
        put(store, "a")
        os.kill(server.pid, signal.SIGUSR1)
        with pytest.raises(OperationalError, match="drain") as caught:
            until(lambda: put(store, "b"))
        assert caught.value.is_retryable
        assert not isinstance(caught.value, ConnectionLostError)
        assert words(claim(store))[0] == "a"

    def test_a_link_is_cut(self, server: BeanstalkdServer, open_store: OpenStore) -> None:
        with TcpProxy(server.port) as proxy:
            far = open_store(f"beanstalk://127.0.0.1:{proxy.port}")
            near = open_store(server.url)
            far.begin("far", 60)
            put(far, "a")
            claim(far, session="far")
            proxy.cut()
            near.begin("near", 60)
            assert words(until(lambda: claim(near, session="near"))) == ["a"]
            with pytest.raises(ConnectionLostError):
                far.renew("far", 60)
            assert not far.renew("far", 60)


class TestProcesses:
    def test_a_killed_consumer_gives_its_messages_back_at_once(
        self, me: BeanstalkStore, open_store: OpenStore
    ) -> None:
        """Without waiting for any lease: those of its claims, and the one that it waited for."""
        put(me, *"abc")
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            victim = open_store()
            victim.begin("victim", 60)
            claim(victim, 2, "victim")
            victim.wait(["q"], 5)
            os.write(writer, b".")
            time.sleep(60)
        assert os.read(reader, 1) == b"."
        assert me.count("q") == Counts(0, 3, 0)
        os.kill(child, signal.SIGKILL)
        began = time.monotonic()
        os.waitpid(child, 0)
        until(lambda: me.count("q") == Counts(3, 0, 0))
        assert time.monotonic() - began < 1
        assert words(claim(me)) == ["a", "b", "c"]
        os.close(reader)
        os.close(writer)

    def test_a_consumer_is_killed_while_it_moves_a_message(
        self, me: BeanstalkStore, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is buried then, and whoever claims from the queue finds it."""
        put(me, *"ab")
        child = os.fork()
        if child == 0:
            ask = KeptWire.ask

            def die(self: KeptWire, commands: Sequence[bytes]) -> list[Reply]:
                if commands[0].startswith(b"reserve-job"):
                    os.kill(os.getpid(), signal.SIGKILL)
                return ask(self, commands)

            monkeypatch.setattr(KeptWire, "ask", die)
            victim = open_store()
            victim.begin("victim", 60)
            claim(victim, 1, "victim")
            victim.wait(["q"], 5)
            claim(victim, 1, "victim")
            os._exit(1)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        assert words(until(lambda: claim(me))) == ["a"]
        me.reap()
        assert words(claim(me)) == ["b"]

    def test_what_was_put_is_there_though_the_ack_was_not_sent(
        self, me: BeanstalkStore, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A dead letter: puts come before acks, so that a crash duplicates."""
        put(me, "a")
        child = os.fork()
        if child == 0:
            victim = open_store()
            victim.begin("victim", 60)
            (held,) = claim(victim, 1, "victim")
            Claims.settle = lambda *_: os.kill(os.getpid(), 9)  # type: ignore[assignment,method-assign]
            puts = [Put("dead", envelope("a"))]
            victim.commit(Batch(puts, [held.claim], session="victim"))
        os.waitpid(child, 0)
        assert words(until(lambda: claim(me))) == ["a"]
        assert words(claim(me, queue="dead")) == ["a"]

    def test_a_slow_handler_keeps_its_message(
        self, beanstalkd_server: BrokerServer, token: str
    ) -> None:
        """The keeper touches it, for longer than its time to run."""
        options = {"lease": 1.0, "prefix": token}
        seen: list[str] = []

        def handle(message: Message) -> None:
            with (
                Connection(beanstalkd_server.url, transport_options=options) as rival,
                rival.Consumer([Queue("q")], on_message=lambda _: seen.append("rival")),
            ):
                drain_quiet(rival, 2.5)
            seen.append("handled")
            message.ack()

        with Connection(beanstalkd_server.url, transport_options=options) as connection:
            with connection.Consumer([Queue("q")], on_message=handle):
                connection.Producer().publish("x", "q")
                drain_until(connection, lambda: seen, timeout=20)
            assert seen == ["handled"]
            assert connection.channel().queue_declare("q", passive=True).message_count == 0


class TestSleepers:
    """A publisher sleeps when he has looked where to put, and the world moves on."""

    @pytest.fixture
    def channel(self, beanstalkd_server: BrokerServer, token: str) -> Iterator[Channel]:
        with Connection(beanstalkd_server.url, transport_options={"prefix": token}) as connection:
            yield connection.channel()

    @contextmanager
    def asleep(self, url: str, token: str) -> Iterator[None]:
        """A process that publishes to exchange `x`, stopped before the put leaves it."""
        child = os.fork()
        if child == 0:
            publish_asleep(url, token)
        assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
        try:
            yield
        finally:
            os.kill(child, signal.SIGCONT)
            status = os.waitpid(child, 0)[1]
        assert os.waitstatus_to_exitcode(status) == 0

    @pytest.mark.parametrize("arguments", [{}, {"x-max-length": 5}], ids=["plain", "limited"])
    @pytest.mark.parametrize("change", ["unbind", "delete", "declare anew"])
    def test_the_message_goes_where_it_belongs_when_it_is_put(
        self,
        channel: Channel,
        beanstalkd_server: BrokerServer,
        token: str,
        change: str,
        arguments: dict[str, int],
    ) -> None:
        channel.exchange_declare("x", "direct")
        for queue in ("old", "new"):
            channel.queue_declare(queue, arguments=arguments)
        channel.queue_bind("old", "x", "k")
        with self.asleep(beanstalkd_server.url, token):
            channel.queue_bind("new", "x", "k")
            if change == "unbind":
                channel.queue_unbind("old", "x", "k")
            else:
                channel.queue_delete("old")
            if change == "declare anew":
                channel.queue_declare("old", arguments=arguments)
                channel.queue_bind("old", "x", "k")
        assert channel.queue_declare("new", passive=True).message_count == 1
        if change != "delete":
            there = channel.queue_declare("old", passive=True).message_count
            assert there == (1 if change == "declare anew" else 0)

    def test_what_somebody_had_at_once_is_there_twice(
        self,
        channel: Channel,
        beanstalkd_server: BrokerServer,
        token: str,
        open_store: OpenStore,
        raw: Client[bytes],
    ) -> None:
        """It cannot be taken back: at least once."""
        channel.exchange_declare("x", "direct")
        for queue in ("old", "new"):
            channel.queue_declare(queue)
        (document,) = (store := open_store()).read([queue_key("old")])
        channel.queue_bind("old", "x", "k")
        tube = Layout.of(token, "default").queue("old", document.version)
        with self.asleep(beanstalkd_server.url, token):
            channel.queue_unbind("old", "x", "k")
            channel.queue_bind("new", "x", "k")
            waiting = threading.Thread(target=store.wait, args=(["old"], 30))
            waiting.start()
            until(lambda: tube in raw.tubes() and raw.stats_tube(tube)["current-waiting"] == 1)
        waiting.join()
        assert store.count("old").ready == store.count("new").ready == 1


def publish_asleep(url: str, token: str) -> NoReturn:
    """Publish to exchange `x`, and stop before the put is sent; ends the process."""
    send = Queues.put

    def stop(self: Queues, *args: Any) -> list[int]:
        Queues.put = send  # type: ignore[method-assign]
        os.kill(os.getpid(), signal.SIGSTOP)
        return send(self, *args)

    try:
        Queues.put = stop  # type: ignore[method-assign,assignment]
        with Connection(url, transport_options={"prefix": token}) as connection:
            connection.channel().basic_publish(
                envelope("a")._replace(exchange="x", routing_key="k")
            )
        os._exit(0)
    finally:
        os._exit(1)


class TestFairness:
    def test_no_queue_starves_another(self, beanstalkd_server: BrokerServer, token: str) -> None:
        """A queue with an older and longer backlog leaves room for the others."""
        names = [f"q{number}" for number in range(8)]
        seen: list[str] = []

        def handle(message: Message) -> None:
            seen.append(message.envelope.routing_key)
            message.ack()

        options = {"prefix": token}
        with Connection(beanstalkd_server.url, transport_options=options) as connection:
            queues = [Queue(name)(connection) for name in names]
            for queue in queues:
                queue.declare()
            producer = connection.Producer()
            with producer.batch():
                for name in ["q0"] * 300 + names[1:] * 5:
                    producer.publish("x", name)
            with connection.Consumer(queues, on_message=handle, prefetch_count=10):
                drain_until(connection, lambda: len(seen) >= 120)
        assert set(seen[:120]) == set(names)
        assert seen[:120].count("q0") < 100
