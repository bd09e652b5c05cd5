"""The patterns on the public API: simple queues, pools, RPC, mailboxes, workers, retries."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from kombu_core import Connection, Consumer, Exchange, Message, Queue
from kombu_core.exceptions import ConnectionLimitExceededError, OperationTimeoutError
from kombu_core.idempotence import MemorySeen, idempotent
from kombu_core.mixins import ConsumerMixin
from kombu_core.patterns import Broadcast, eventloop, itermessages, maybe_declare, send_reply
from kombu_core.pidbox import Mailbox
from kombu_core.pools import ProducerPool
from kombu_core.retries import RetryingConsumer, RetryPolicy, attempts_of
from kombu_core.retry import Backoff
from kombu_core.rpc import RPCClient, RPCError, RPCServer
from kombu_core.testing.contract.fixtures import Connect, ContractFixtures
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import (
    DEADLINE,
    BrokerUnderTest,
    Names,
    drain_until,
    exists,
    ready,
    take,
)
from kombu_core.topology_plan import Topology, TopologyConflictError
from kombu_core.transport import Channel

#: Seconds between two looks at whether a thread of a test shall end.
_LOOK: Final = 0.02


class PatternContract(ContractFixtures):
    """What applications build on; through `kombu_core.Connection`."""

    @pytest.fixture
    def program(self, broker: BrokerUnderTest, connect: Connect) -> Connection:
        """A connection as a program has it."""
        connection = connect()
        assert isinstance(connection, Connection)
        return connection

    # -- simple queues ---------------------------------------------------------------------

    def test_a_simple_queue_is_a_queue(self, program: Connection, name: Names) -> None:
        with program.SimpleQueue(name()) as simple:
            for number in range(3):
                simple.put({"number": number})
            assert simple.qsize() == 3
            for number in range(2):
                message = simple.get(timeout=DEADLINE)
                assert message.payload == {"number": number}
                message.ack()
            assert simple.clear() == 1
            with pytest.raises(queue.Empty):
                simple.get(timeout=0.02)
            with pytest.raises(queue.Empty):
                simple.get_nowait()

    def test_a_simple_queue_waits_for_what_comes(
        self, program: Connection, connect: Connect, name: Names
    ) -> None:
        label = name()
        simple = program.SimpleQueue(label)
        elsewhere = connect()
        assert isinstance(elsewhere, Connection)

        def put() -> None:
            for number in range(3):
                elsewhere.SimpleQueue(label).put(number)

        with _thread(put):
            messages = [simple.get(timeout=DEADLINE) for _ in range(3)]
        assert [message.payload for message in messages] == [0, 1, 2]
        for message in messages:
            message.ack()
        assert simple.qsize() == 0
        simple.close()

    @requires("exclusive_queues", "auto_delete")
    def test_a_simple_buffer_goes_with_its_connection(
        self, program: Connection, connect: Connect, name: Names
    ) -> None:
        label = name()
        with program.SimpleBuffer(label) as simple:
            simple.put("gone")
            simple.put("got")
            assert [simple.get(timeout=DEADLINE).payload for _ in range(2)] == ["gone", "got"]
        program.release()
        assert not exists(connect(), label)

    # -- pools -----------------------------------------------------------------------------

    def test_a_pool_is_bounded_and_shared_by_threads(
        self, program: Connection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(label := name(), durable=True)
        with program.Pool(2) as pool, ProducerPool(pool) as producers:

            def work(worker: int) -> None:
                for number in range(5):
                    with producers.acquire(block=True, timeout=DEADLINE) as producer:
                        producer.publish(f"{worker}:{number}", label)

            with ThreadPoolExecutor(4) as threads:
                list(threads.map(work, range(4)))
            taken = [pool.acquire(), pool.acquire()]
            with pytest.raises(ConnectionLimitExceededError):
                pool.acquire(block=True, timeout=0.01)
            for connection in taken:
                connection.release()
        assert len(take(channel, label, 20)) == 20

    def test_a_pool_hands_out_no_broken_connection(self, program: Connection, name: Names) -> None:
        with program.Pool(1, preload=1, check_after=0) as pool:
            with pool.acquire() as first:
                first.channel().queue_declare(name())
            with pool.acquire() as same:
                assert same is first
            first.transport.close()
            with pool.acquire() as other:
                assert other is not first
                other.channel().queue_declare(name())

    # -- RPC -------------------------------------------------------------------------------

    @requires("exclusive_queues")
    def test_calls_are_answered(self, program: Connection, name: Names) -> None:
        server = RPCServer(program, label := name())

        @server.procedure
        def add(a: int, b: int) -> int:
            if a < 0:
                raise ValueError("too small")
            return a + b

        with _server(server), RPCClient(program, label, timeout=DEADLINE) as client:
            assert client.call("add", 1, b=2) == 3
            with pytest.raises(RPCError, match="ValueError: too small"):
                client.call("add", -1, 2)
            with ThreadPoolExecutor(4) as threads:
                sums = list(threads.map(lambda n: client.call("add", n, n), range(20)))
            assert sums == [2 * n for n in range(20)]
            futures = [client.submit("add", [n, 1]) for n in range(20)]
            assert [future.result(DEADLINE) for future in futures] == [*range(1, 21)]
            assert client.late_replies == 0

    @requires("exclusive_queues")
    def test_a_dead_server_is_a_timeout(self, program: Connection, name: Names) -> None:
        with RPCClient(program, name()) as client:
            with pytest.raises(OperationTimeoutError):
                client.call("add", 1, 2, timeout=0.3)
            assert "0 calls" in repr(client)

    def test_a_reply_goes_where_it_is_wanted(self, program: Connection, name: Names) -> None:
        asked, replies = Queue(name()), Queue(name())
        producer = program.Producer()
        producer.publish(
            {"n": 1},
            asked.name,
            declare=[asked, replies],
            reply_to=replies.name,
            correlation_id="c-1",
        )
        for body, message in itermessages(program, None, asked, timeout=DEADLINE):
            send_reply("", message, body["n"] + 1)
            message.ack()
        ((answer, message),) = itermessages(program, None, replies, timeout=DEADLINE, no_ack=True)
        assert answer == 2
        assert message.properties["correlation_id"] == "c-1"

    # -- mailboxes -------------------------------------------------------------------------

    @requires("exclusive_queues", "auto_delete", "queue_expires")
    @pytest.mark.parametrize("kind", ["direct", "fanout"])
    def test_nodes_of_a_mailbox_obey_and_reply(
        self, program: Connection, connect: Connect, name: Names, kind: str
    ) -> None:
        mailbox = Mailbox(name("box"), type=kind)
        name.made += [mailbox.exchange.name, mailbox.reply_exchange.name]
        log: list[str] = []
        elsewhere = connect()
        assert isinstance(elsewhere, Connection)
        channel = elsewhere.channel()
        for label in ("one", "two"):
            node = mailbox(elsewhere).Node(label, state=label, channel=channel)

            @node.handler
            def ping(state: str, text: str) -> str:
                log.append(state)
                return text * 2

            node.listen()
        with _draining(elsewhere):
            bound = mailbox(program)
            assert bound.call(["two"], "ping", {"text": "ab"}, timeout=DEADLINE) == [
                {"two": "abab"}
            ]
            replies = bound.multi_call("ping", {"text": "c"}, timeout=DEADLINE, limit=2)
            assert sorted(label for reply in replies for label in reply) == ["one", "two"]
            bound.abcast("ping", {"text": ""})
            bound.call(["one", "two"], "ping", {"text": ""}, timeout=DEADLINE)
        assert sorted(log) == ["one"] * 3 + ["two"] * 4

    @requires("auto_delete")
    def test_everybody_gets_a_broadcast(self, program: Connection, name: Names) -> None:
        label = name("news")
        queues = [Broadcast(label), Broadcast(label)]
        bodies: list[Any] = []
        with program.Consumer(queues, callbacks=[lambda body, message: bodies.append(body)]):
            program.Producer().publish("hello", exchange=Exchange(label, "fanout"))
            drain_until(program, lambda: len(bodies) == 2)
        assert bodies == ["hello", "hello"]

    # -- workers ---------------------------------------------------------------------------

    def test_a_worker_comes_back_after_a_loss(self, program: Connection, name: Names) -> None:
        work = Queue(name())
        program.Producer().publish("1", work.name, declare=[work])
        worker = _Worker(program, work)
        worker.run(safety_interval=_LOOK)
        assert worker.bodies == ["1", "2"]
        assert worker.connected == 2

    @requires("delay")
    def test_failures_come_again_and_end_as_dead_letters(
        self, program: Connection, name: Names
    ) -> None:
        work, dead = Queue(name()), Queue(name())
        policy = RetryPolicy(max_retries=1, delay=0.05, jitter=0.0, dead_letters=dead)
        attempts: list[tuple[str, int]] = []

        def handle(body: str, message: Message) -> None:
            attempts.append((body, attempts_of(message)))
            if body == "never" or not attempts_of(message):
                raise ValueError(body)

        producer = program.Producer()
        for body in ("second", "never"):
            producer.publish(body, work.name, declare=[work])
        with RetryingConsumer(program, work, handle, policy):
            drain_until(program, lambda: len(attempts) == 4)
        assert sorted(attempts) == [("never", 0), ("never", 1), ("second", 0), ("second", 1)]
        channel = program.default_channel
        assert ready(channel, work.name) == 0
        assert take(channel, dead.name, 1) == ["never"]

    def test_a_message_is_handled_once(self, program: Connection, name: Names) -> None:
        work = Queue(name())
        handled: list[str] = []
        duplicates: list[str] = []
        once = idempotent(
            MemorySeen(),
            on_duplicate=lambda body, message: duplicates.append(body),
        )(lambda body, message: handled.append(body))
        for ident in ("a", "b", "a"):
            program.Producer().publish(ident, work.name, message_id=ident, declare=[work])
        with program.Consumer([work], callbacks=[once], no_ack=True):
            drain_until(program, lambda: duplicates)
        assert (handled, duplicates) == (["a", "b"], ["a"])

    # -- declaring -------------------------------------------------------------------------

    def test_a_topology_is_compared_and_applied(
        self, program: Connection, channel: Channel, name: Names
    ) -> None:
        source = Exchange(name("x"), "topic")
        first, second = Queue(name(), source, "a.*"), Queue(name(), source, "#")
        topology = Topology(first, second)
        states = [found.state for found in topology.diff(program)]
        assert states == ["missing"] * 3 + ["unknown"] * 2
        assert len(topology.apply(program)) == 5
        assert {found.state for found in topology.apply(program)} == {"unknown"}
        maybe_declare(first, program)
        assert not maybe_declare(first, program)
        program.Producer().publish("1", "a.b", exchange=source)
        program.Producer().publish("2", "c", exchange=source)
        assert take(channel, first.name, 1) == ["1"]
        assert take(channel, second.name, 2) == ["1", "2"]
        assert topology.route(source.name, "a.b").queues == (first.name, second.name)
        assert topology.route(source.name, "c").queues == (second.name,)
        with pytest.raises(TopologyConflictError):
            Topology(Exchange(source.name, "fanout")).apply(program)


class _Worker(ConsumerMixin):
    """Loses its connection after the first message, and stops after the second."""

    restart_backoff = Backoff(start=0.0, step=0.01, maximum=0.1)

    def __init__(self, connection: Connection, work: Queue) -> None:
        self.connection = connection
        self.work = work
        self.bodies: list[str] = []
        self.connected = 0

    def get_consumers(
        self,
        Consumer: Callable[..., Consumer],  # noqa: N803
        channel: Channel,
    ) -> list[Consumer]:
        return [Consumer([self.work], callbacks=[self.on_work], prefetch_count=1)]

    def on_work(self, body: str, message: Message) -> None:
        self.bodies.append(body)
        message.ack()
        if len(self.bodies) == 1:
            self.connection.Producer().publish("2", self.work.name)
            message.channel.transport.close()
        self.should_stop = len(self.bodies) == 2

    def on_connection_revived(self) -> None:
        self.connected += 1


class _thread:  # noqa: N801 (used like a function)
    """Runs something in a thread while a `with` block lasts, and waits for its end."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._thread = threading.Thread(target=work, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "a thread hangs"


class _server(_thread):  # noqa: N801
    """Runs an RPC server while a `with` block lasts."""

    def __init__(self, server: RPCServer) -> None:
        super().__init__(lambda: server.run(safety_interval=_LOOK))
        self._server = server

    def __exit__(self, *error: object) -> None:
        self._server.stop()
        super().__exit__(*error)


class _draining(_thread):  # noqa: N801
    """Drains a connection's events while a `with` block lasts."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(self._drain)
        self._connection = connection
        self._stopped = False

    def _drain(self) -> None:
        for _ in eventloop(self._connection, timeout=_LOOK, ignore_timeouts=True):
            if self._stopped:
                return

    def __exit__(self, *error: object) -> None:
        self._stopped = True
        super().__exit__(*error)
