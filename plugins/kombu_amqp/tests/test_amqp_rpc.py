"""Remote procedure calls by RabbitMQ's direct replies: no queue, and one channel for both ways."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kombu_core import Connection, Consumer, Message, Queue
from kombu_core.capabilities import DIRECT_REPLY_QUEUE
from kombu_core.exceptions import ConnectionLostError, PreconditionFailedError
from kombu_core.rpc import RPCClient, RPCServer
from kombu_core.testing.harness import until
from plugins.kombu_amqp.tests.conftest import Open


class Calculator(RPCServer):
    """Remembers where its answers go."""

    def __init__(self, connection: Connection, queue: Queue | str) -> None:
        super().__init__(connection, queue)
        self.reply_queues: set[str] = set()
        self.procedure(self.add)

    def add(self, a: int, b: int) -> int:
        return a + b

    def _answer(self, message: Message, answer: Any) -> None:
        self.reply_queues.add(message.properties["reply_to"])
        super()._answer(message, answer)


@pytest.fixture
def server(open_connection: Open, queue: str) -> Iterator[Calculator]:
    server = Calculator(open_connection(), queue)
    thread = threading.Thread(target=server.run, kwargs={"safety_interval": 0.05})
    thread.start()
    yield server
    server.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_answers_need_no_queue(open_connection: Open, queue: str, server: Calculator) -> None:
    with RPCClient(open_connection(), queue, timeout=10) as client, ThreadPoolExecutor(8) as pool:
        sums = list(pool.map(lambda n: client.call("add", n, n), range(200)))
    assert sums == [2 * n for n in range(200)]
    # One for the channel of the client: RabbitMQ makes an address of the name.
    (address,) = server.reply_queues
    assert address.startswith(f"{DIRECT_REPLY_QUEUE}.")


def test_an_answer_to_nobody_is_dropped(
    open_connection: Open, queue: str, server: Calculator
) -> None:
    with RPCClient(open_connection(), queue, timeout=10) as client:
        assert client.call("add", 1, 1) == 2
    (gone,) = server.reply_queues
    open_connection().Producer().publish(
        {"args": [1, 2], "kwargs": {}}, queue, type="add", reply_to=gone, correlation_id="x"
    )
    with RPCClient(open_connection(), queue, timeout=10) as client:
        assert client.call("add", 2, 2) == 4


def test_a_call_that_closes_the_channel_ends_the_others_and_not_the_client(
    open_connection: Open, queue: str, token: str
) -> None:
    wrong = Queue(queue, durable=False)
    with RPCClient(open_connection(), queue, timeout=10) as client:
        waiting = client.submit("add", [1, 2])
        client.queue = wrong
        with pytest.raises(PreconditionFailedError):
            client.call("add", 1, 2)
        with pytest.raises(ConnectionLostError):
            waiting.result(10)
        client.queue = Queue(queue)
        server = Calculator(open_connection(), queue)
        thread = threading.Thread(target=server.run, kwargs={"safety_interval": 0.05})
        thread.start()
        try:
            until(lambda: _answers(client))
        finally:
            server.stop()
            thread.join(10)


def _answers(client: RPCClient) -> bool:
    try:
        return bool(client.call("add", 1, 2) == 3)
    except ConnectionLostError:
        return False


def test_direct_replies_by_hand(open_connection: Open, queue: str) -> None:
    connection = open_connection()
    channel = connection.channel()
    received: list[Any] = []
    consumer = Consumer(
        channel,
        [Queue(DIRECT_REPLY_QUEUE, no_declare=True)],
        callbacks=[lambda body, message: received.append(body)],
        no_ack=True,
    )
    with consumer:
        connection.Producer(channel).publish("ping", queue, reply_to=DIRECT_REPLY_QUEUE)
        call = Queue(queue)(open_connection().channel()).get(no_ack=True)
        assert call is not None
        open_connection().Producer().publish("pong", call.properties["reply_to"])
        connection.drain_events(timeout=10)
    assert received == ["pong"]
