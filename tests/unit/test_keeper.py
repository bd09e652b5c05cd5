"""The keeper and what it keeps: the lease, late acks, the dead; and a fork while it runs."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Callable

import pytest

from kombu_core import Connection, Queue
from kombu_core.exceptions import ConnectionLostError, OperationalError, SessionLostError
from kombu_core.memory import MemoryStore, MemoryTransport, VirtualHost
from kombu_core.message import Envelope, Message
from kombu_core.transport import TransportParameters
from kombu_core.url import parse
from kombu_core.virtual.channel import VirtualChannel
from kombu_core.virtual.keeper import Keeper
from kombu_core.virtual.session import Session
from kombu_core.virtual.store import Batch, CommitResult, Put, Store

DEADLINE = 10.0


class Work:
    """Something to keep: says when to come again, and counts."""

    def __init__(self, *answers: float | Exception) -> None:
        self.answers = list(answers)
        self.times: list[float] = []
        self.is_done = threading.Event()

    def upkeep(self, now: float) -> float:
        self.times.append(now)
        answer = self.answers.pop(0)
        if not self.answers:
            self.is_done.set()
        if isinstance(answer, Exception):
            raise answer
        return now + answer


def test_a_keeper_comes_when_it_is_due_and_when_it_is_hurried() -> None:
    work = Work(0.0, 1000.0, 1000.0)
    keeper = Keeper(work, name="test")
    keeper.hurry(0.0)
    assert work.is_done.wait(DEADLINE) or len(work.times) == 2
    keeper.hurry(0.0)
    assert work.is_done.wait(DEADLINE)
    keeper.stop()
    assert work.times == sorted(work.times)


@pytest.mark.parametrize("error", [OperationalError("away"), RuntimeError("a defect")])
def test_a_keeper_survives_what_its_work_raises(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    work = Work(error, 1000.0)
    keeper = Keeper(work, name="test")
    assert work.is_done.wait(DEADLINE)
    keeper.stop()
    assert [record.name for record in caplog.records] == ["kombu_core.virtual.keeper"]
    assert bool(caplog.records[0].exc_info) is isinstance(error, RuntimeError)


def test_a_keeper_stops_with_its_work_or_when_it_is_told_to() -> None:
    before = threading.active_count()
    work = Work(1000.0)
    keeper = Keeper(work, name="test")
    assert work.is_done.wait(DEADLINE)
    keeper.stop()
    keeper.stop()
    assert threading.active_count() == before
    work = Work(1000.0)
    thread = Keeper(work, name="test")._thread
    assert work.is_done.wait(DEADLINE)
    del work
    gc.collect()
    thread.join(DEADLINE)
    assert not thread.is_alive()


# -- a transport's upkeep, called without its thread -------------------------------------------


class FailingStore(MemoryStore):
    """Raises what it is told to, once."""

    fails: dict[str, Exception]

    def commit(self, batch: Batch) -> CommitResult:
        if batch.acks and "ack" in self.fails:
            raise self.fails.pop("ack")
        return super().commit(batch)

    def renew(self, session: str, ttl: float) -> bool:
        if "renew" in self.fails:
            raise self.fails.pop("renew")
        return super().renew(session, ttl)


class Transport(MemoryTransport):
    """A transport on a store that fails, whose upkeep is called by the test alone."""

    def __init__(self, parameters: TransportParameters) -> None:
        super().__init__(parameters)
        self.clock = [1000.0]
        self.fails: dict[str, Exception] = {}

    def open_store(self) -> FailingStore:
        store = FailingStore(VirtualHost("x"), clock=lambda: self.clock[0])
        store.fails = self.fails
        return store

    def make_session(self, store: Store, id: str) -> Session:
        return KeptByHand(store, id, lease=self.lease, give_up=self.give_up)


class KeptByHand(Session):
    """A session whose keeper does nothing."""

    def begin(self) -> None:
        super().begin()
        if self.keeper is not None:
            self.keeper.stop()


@pytest.fixture
def transport() -> Transport:
    transport = Transport(TransportParameters(parse("memory://"), {}))
    transport.connect()
    return transport


@pytest.fixture
def channel(transport: Transport) -> VirtualChannel:
    channel = transport.channel()
    channel.queue_declare("q")
    return channel


def receive(channel: VirtualChannel) -> Message:
    channel.basic_publish(Envelope(b"x", {}, {}, "", "q"))
    message = channel.basic_get("q")
    assert message is not None
    return message


def claimed(transport: Transport) -> int:
    return transport.parts.broker.store.count("q").claimed


def test_upkeep_sends_late_acks(transport: Transport, channel: VirtualChannel) -> None:
    receive(channel).ack()
    assert claimed(transport) == 1
    transport.parts.session.upkeep(0.0)
    assert claimed(transport) == 0


def test_acks_that_could_not_be_sent_cost_no_lease(
    transport: Transport, channel: VirtualChannel
) -> None:
    receive(channel).ack()
    transport.clock[0] += 20
    transport.fails["ack"] = OperationalError("busy")
    with pytest.raises(OperationalError):
        transport.parts.session.upkeep(1e9)
    transport.clock[0] += 20
    assert transport.parts.broker.store.reap() == []
    transport.parts.session.upkeep(1e9)
    assert claimed(transport) == 0


def test_a_lease_that_ran_out_ends_the_connection(
    transport: Transport, channel: VirtualChannel
) -> None:
    message = receive(channel)
    transport.clock[0] += 1000
    transport.parts.broker.store.reap()
    with pytest.raises(SessionLostError):
        transport.parts.session.upkeep(1e9)
    assert not transport.is_connected
    assert not channel.is_open
    for call in (message.requeue, lambda: transport.drain_events(0)):
        with pytest.raises(ConnectionLostError):
            call()
    transport.close()


def test_a_heartbeat_check_finds_the_lease_that_ran_out(
    transport: Transport, channel: VirtualChannel
) -> None:
    receive(channel)
    transport.heartbeat_check()
    transport.clock[0] += 1000
    transport.parts.broker.store.reap()
    session = transport.parts.session
    session._leased_until = session._renew_at = 0.0
    with pytest.raises(SessionLostError):
        transport.heartbeat_check()


def test_a_closed_transport_can_connect_again(transport: Transport) -> None:
    for _ in range(2):
        channel = transport.channel()
        channel.queue_declare("q", exclusive=True)
        receive(channel).ack()
        transport.close()
        assert not transport.is_connected
        assert not channel.is_open
        transport.connect()


def test_an_expired_message_is_dead_lettered_though_nobody_consumes(
    transport: Transport, channel: VirtualChannel
) -> None:
    channel.queue_declare("dead")
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    channel.queue_declare("mortal", arguments={**arguments, "x-message-ttl": 1000})
    store = transport.parts.broker.store
    store.commit(Batch([Put("mortal", Envelope(b"", {}, {}), ttl=1.0)] * 250))
    transport.clock[0] += 1
    for call in range(1, 10):
        transport.parts.session.upkeep(1e9 + call)
        if not store.count("mortal").ready:
            break
    assert call == 3, "so many at once that the lease is renewed in between"
    assert store.count("dead").ready == 250
    assert store.count("mortal").claimed == 0


def test_queues_that_are_gone_are_watched_no_more(
    transport: Transport, channel: VirtualChannel
) -> None:
    for queue in ("kept", "gone"):
        channel.queue_declare(queue, arguments={"x-message-ttl": 1000})
    channel.queue_delete("gone")
    transport.parts.session.upkeep(1e9)
    assert transport.parts.session.expiring == {"kept"}


# -- fork ------------------------------------------------------------------------------------


def in_child(check: Callable[[], object]) -> None:
    """Run `check` in a forked child; it must succeed there."""
    logging.getLogger().handlers.clear()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            check()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_a_child_opens_its_own_connection_and_leaves_the_parents_alone() -> None:
    with Connection("memory://forks", transport_options={"lease": 0.5}) as connection:
        queue = Queue("q")(connection)
        queue.declare()
        connection.Producer().publish("1", "q")
        message = queue.get()
        assert message is not None

        def check() -> None:
            assert connection.connected
            assert queue.get() is None  # Its own session; the parent holds the message.
            threads = [threading.Thread(target=connection.channel) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(DEADLINE)
            connection.release()

        in_child(check)
        message.ack()


def test_a_child_of_a_lost_connection_does_not_end_the_parents_session() -> None:
    with Connection("memory://forks-lost") as connection:
        transport = connection.transport
        assert isinstance(transport, MemoryTransport)
        session = transport.parts.session
        session.begin()

        def lose() -> None:
            raise ConnectionLostError("cut")

        with pytest.raises(ConnectionLostError):
            session.claiming(lose)

        def check() -> None:
            assert transport._given_up is None
            assert not transport.is_connected
            transport.close()

        in_child(check)
        assert transport._given_up is not None
