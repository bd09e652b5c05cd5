"""Servers, clients, workers and pools go on after their broker was killed, and after a fork."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kombu_core import Connection, Consumer, Message, Queue, pools
from kombu_core.exceptions import KombuError, OperationTimeoutError
from kombu_core.mixins import ConsumerMixin
from kombu_core.pools import connections, producers
from kombu_core.retry import Backoff
from kombu_core.rpc import RPCClient, RPCServer
from kombu_core.testing.brokers import RedisServer
from kombu_core.transport import Channel

pytestmark = [pytest.mark.broker("redis"), pytest.mark.filterwarnings("ignore:.*fork")]

PATIENCE = 20.0


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def connection(server: RedisServer) -> Iterator[Connection]:
    with Connection(server.url, transport_options={"lease": 1.0}) as connection:
        yield connection
    pools.reset()


class Worker(ConsumerMixin):
    restart_backoff = Backoff(start=0.0, step=0.1, maximum=0.2)

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.bodies: list[Any] = []
        self.was_away = threading.Event()

    def get_consumers(
        self,
        Consumer: Callable[..., Consumer],  # noqa: N803
        channel: Channel,
    ) -> list[Consumer]:
        return [Consumer([Queue("work")], callbacks=[self.on_work])]

    def on_work(self, body: Any, message: Message) -> None:
        message.ack()
        self.bodies.append(body)

    def on_connection_error(self, exc: BaseException, interval: float) -> None:
        self.was_away.set()


def eventually(attempt: Callable[[], Any]) -> Any:
    """Try until the broker is back."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return attempt()
        except KombuError:
            if time.monotonic() > deadline:
                raise


def test_calls_work_again_after_the_broker_was_killed(
    server: RedisServer, connection: Connection
) -> None:
    answering = RPCServer(connection, "calls")
    answering.procedure(name="add")(lambda a, b: a + b)
    thread = threading.Thread(target=answering.run, kwargs={"safety_interval": 0.1}, daemon=True)
    thread.start()
    with RPCClient(connection, "calls", timeout=PATIENCE) as client:
        assert client.call("add", 1, 2) == 3
        server.kill()
        began = time.monotonic()
        with pytest.raises((KombuError, OperationTimeoutError)):
            client.call("add", 1, 2, timeout=1.0)
        assert time.monotonic() - began < PATIENCE
        server.start()
        assert eventually(lambda: client.call("add", 2, 2)) == 4
    answering.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_worker_goes_on_after_the_broker_was_killed(
    server: RedisServer, connection: Connection
) -> None:
    worker = Worker(connection)
    thread = threading.Thread(target=worker.run, kwargs={"safety_interval": 0.1}, daemon=True)
    thread.start()
    connection.Producer().publish("before", "work", declare=[Queue("work")])
    _until(lambda: worker.bodies == ["before"])
    server.kill()
    assert worker.was_away.wait(PATIENCE)
    server.start()

    def publish() -> None:
        with connection.clone() as fresh:
            fresh.Producer().publish("after", "work", declare=[Queue("work")])

    eventually(publish)
    _until(lambda: worker.bodies[-1] == "after")
    worker.should_stop = True
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_pool_notices_that_its_broker_was_killed(
    server: RedisServer, connection: Connection
) -> None:
    connections[connection].check_after = 0.0
    with producers[connection].acquire() as producer:
        producer.publish("before", "work", declare=[Queue("work")])
    with connections[connection].acquire() as former:
        assert former.connected
    server.restart()
    with connections[connection].acquire() as other:
        assert other is not former
    with producers[connection].acquire() as producer:
        producer.publish("after", "work", declare=[Queue("work")])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_process_has_pools_and_clients_of_its_own(connection: Connection) -> None:
    queue = Queue("work")
    with RPCClient(connection, "nobody") as client:
        with producers[connection].acquire() as producer:
            producer.publish("parent", queue.name, declare=[queue])
        with pytest.raises(OperationTimeoutError):
            client.call("nothing", timeout=0.1)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with producers[connection].acquire() as producer:
                    producer.publish("child", queue.name)
                try:
                    client.call("nothing", timeout=0.2)
                except OperationTimeoutError:
                    status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with producers[connection].acquire() as producer:
            producer.publish("parent again", queue.name)
    assert queue(connection).purge() == 3


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
