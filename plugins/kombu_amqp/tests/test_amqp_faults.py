"""What can happen to a connection, with a proxy in between and a server that is killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from kombu_core import Connection
from kombu_core.exceptions import ConnectionLostError, KombuError, OperationTimeoutError
from kombu_core.message import PERSISTENT, Message
from kombu_core.testing.brokers import BrokerServer, RabbitMQServer
from kombu_core.testing.harness import Inbox, drain_until, envelope, publish, until
from kombu_core.testing.proxy import TcpProxy
from plugins.kombu_amqp.tests.conftest import Open


@pytest.fixture
def proxy(rabbitmq_server: BrokerServer) -> Iterator[TcpProxy]:
    """A proxy in front of the server."""
    with TcpProxy(rabbitmq_server.port) as proxy:
        yield proxy


def test_heartbeats_go_on_while_a_handler_works(open_connection: Open, queue: str) -> None:
    connection = open_connection(heartbeat=1)
    channel = connection.channel()
    handled: list[Message] = []

    def handle(message: Message) -> None:
        time.sleep(3.2)
        message.ack()
        handled.append(message)

    channel.basic_consume(queue, handle)
    publish(channel, "", queue, "1", "2")
    drain_until(connection, lambda: handled)
    assert not handled[0].redelivered
    publish(channel, "", queue, "3")


def test_an_idle_connection_stays(open_connection: Open, queue: str) -> None:
    channel = open_connection(heartbeat=1).channel()
    time.sleep(3.2)
    publish(channel, "", queue, "1")


@pytest.mark.parametrize("timeout", [None, 10.0])
def test_a_half_open_link_is_noticed_while_waiting(
    open_connection: Open, proxy: TcpProxy, rabbitmq_server: BrokerServer, timeout: float | None
) -> None:
    connection = open_connection(proxy.rewrite(rabbitmq_server.url), heartbeat=1)
    channel = connection.channel()
    proxy.pause()
    begin = time.monotonic()
    with pytest.raises(ConnectionLostError, match="silent"):
        connection.drain_events(timeout)
    assert time.monotonic() - begin < 2.2
    assert not connection.connected
    assert not channel.is_open
    with pytest.raises(ConnectionLostError):
        channel.queue_declare("")


def test_a_half_open_link_is_noticed_while_publishing(
    open_connection: Open, proxy: TcpProxy, rabbitmq_server: BrokerServer, queue: str
) -> None:
    channel = open_connection(proxy.rewrite(rabbitmq_server.url), heartbeat=1).channel()
    publish(channel, "", queue, "1")
    proxy.pause("to_client")
    begin = time.monotonic()
    with pytest.raises(ConnectionLostError):
        publish(channel, "", queue, "2")
    assert time.monotonic() - begin < 2.2


def test_a_publish_ends_at_its_deadline(
    open_connection: Open, proxy: TcpProxy, rabbitmq_server: BrokerServer, queue: str
) -> None:
    channel = open_connection(proxy.rewrite(rabbitmq_server.url)).channel()
    publish(channel, "", queue, "1")
    proxy.pause()
    for body in (b"small", b"large" * 8_000_000):
        begin = time.monotonic()
        with pytest.raises(OperationTimeoutError):
            channel.basic_publish(envelope("", queue, body), timeout=0.3)
        assert time.monotonic() - begin < 1.0
    proxy.restore()
    channel.basic_publish(envelope("", queue, "after"), timeout=20)


def test_a_first_publish_ends_at_its_deadline(
    open_connection: Open, proxy: TcpProxy, rabbitmq_server: BrokerServer, queue: str
) -> None:
    """Though the channel has to ask for confirms before."""
    channel = open_connection(proxy.rewrite(rabbitmq_server.url)).channel()
    proxy.pause()
    begin = time.monotonic()
    with pytest.raises(OperationTimeoutError):
        channel.basic_publish(envelope("", queue, "x"), timeout=0.3)
    assert time.monotonic() - begin < 1.0
    proxy.cut()


def test_a_cut_wakes_everybody_at_once(
    open_connection: Open, proxy: TcpProxy, rabbitmq_server: BrokerServer, queue: str
) -> None:
    connection = open_connection(proxy.rewrite(rabbitmq_server.url))
    channel = connection.channel()
    transport = connection.transport
    channel.basic_consume(queue, Inbox())
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            transport.drain_events(None)
        except KombuError as error:
            errors.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    proxy.cut()
    for thread in threads:
        thread.join(5)
    assert [type(error) for error in errors] == [ConnectionLostError] * 3
    assert not transport.is_connected
    assert not channel.is_open
    publish(connection.channel(), "", queue, "on a new connection")


def test_a_lost_connection_fails_a_batch_by_position(
    open_connection: Open, proxy: TcpProxy, rabbitmq_server: BrokerServer, queue: str
) -> None:
    connection = open_connection(proxy.rewrite(rabbitmq_server.url))
    producer = connection.Producer(connection.channel())
    threading.Timer(0.05, proxy.cut).start()
    with pytest.raises((ConnectionLostError, KombuError)) as caught:
        producer.publish_many(range(200_000), queue)
    failed = getattr(caught.value, "failed", {})
    assert all(isinstance(error, ConnectionLostError) for error in failed.values())


def test_nothing_confirmed_is_lost_when_the_broker_is_killed(
    open_connection: Open, rabbitmq_server: BrokerServer, queue: str
) -> None:
    if not rabbitmq_server.is_private:
        pytest.skip("the broker is not ours to kill")
    connection = open_connection()
    # Only the next change of its topology makes RabbitMQ write that the one before was committed.
    connection.default_channel.queue_declare(f"{queue}-next", durable=True)
    confirmed: list[str] = []
    stop = threading.Event()

    def load() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                publish(
                    connection.default_channel, "", queue, str(number), delivery_mode=PERSISTENT
                )
            except KombuError:
                time.sleep(0.05)
            else:
                confirmed.append(str(number))

    thread = threading.Thread(target=load)
    thread.start()
    until(lambda: len(confirmed) > 50)
    rabbitmq_server.kill()
    rabbitmq_server.restart()
    before = len(confirmed)
    until(lambda: len(confirmed) > before + 50, timeout=60)
    stop.set()
    thread.join(30)
    channel = open_connection().channel()
    stored = {
        message.body.decode()
        for message in iter(lambda: channel.basic_get(queue, no_ack=True), None)
    }
    channel.queue_delete(f"{queue}-next")
    assert set(confirmed) <= stored


def test_a_blocked_connection_says_so(scheme: str) -> None:
    with RabbitMQServer(config={"vm_memory_high_watermark.relative": "0.0001"}) as server:
        url = server.url.replace("amqp", scheme, 1)
        with Connection(url) as connection:
            channel = connection.channel()
            channel.queue_declare("q")
            message = envelope("", "q", "x")
            for _ in range(2):
                begin = time.monotonic()
                with pytest.raises(OperationTimeoutError, match=r"blocked.*memory"):
                    channel.basic_publish(message, timeout=0.5)
                assert time.monotonic() - begin < 2
            begin = time.monotonic()
        assert time.monotonic() - begin < 2, "it says goodbye to a broker that does not listen"
