"""Mailboxes: commands to nodes and their replies."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from kombu_core import Connection, Exchange
from kombu_core.exceptions import ConfigurationError, ResourceLockedError
from kombu_core.patterns import eventloop
from kombu_core.pidbox import Mailbox, Node
from kombu_core.pools import ProducerPool

#: What anybody may send to a mailbox.
STRANGE = [
    b"{",
    b"[1]",
    b'{"method": 1}',
    b'{"method": "ping", "destination": 5}',
    b'{"method": "ping", "arguments": [1]}',
    b'{"method": "ping", "pattern": {}, "matcher": "glob"}',
    b'{"method": "ping", "reply_to": "me"}',
    b'{"method": "ping", "reply_to": {"exchange": 1}}',
]


@pytest.fixture
def connection(token: str) -> Iterator[Connection]:
    with Connection(f"memory://{token}") as connection:
        connection.connect()
        yield connection


class Running:
    """A node in a thread, with a connection of its own."""

    def __init__(self, mailbox: Mailbox, connection: Connection, name: str) -> None:
        self.log: list[Any] = []
        self._stop = threading.Event()
        self._connection = connection.clone()
        self.mailbox = mailbox(self._connection)
        self.node = self.mailbox.Node(name, state=self, channel=self._connection.channel())

        @self.node.handler
        def ping(state: Running, **arguments: Any) -> dict[str, Any]:
            state.log.append(arguments)
            return {"pong": arguments}

        @self.node.handler
        def fail(state: Running) -> None:
            raise ValueError("no")

        self.node.listen()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for _ in eventloop(self._connection, timeout=0.02, ignore_timeouts=True):
            if self._stop.is_set():
                return

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)
        self._connection.release()


@pytest.fixture(params=["direct", "fanout"])
def mailbox(request: pytest.FixtureRequest) -> Mailbox:
    return Mailbox("test", type=request.param)


@pytest.fixture
def nodes(mailbox: Mailbox, connection: Connection) -> Iterator[list[Running]]:
    nodes = [Running(mailbox, connection, name) for name in ("one", "two")]
    yield nodes
    for node in nodes:
        node.stop()


def test_a_call_gets_the_replies_of_those_it_names(
    mailbox: Mailbox, connection: Connection, nodes: list[Running]
) -> None:
    bound = mailbox(connection)
    seen: list[Any] = []
    replies = bound.call(["one"], "ping", {"a": 1}, timeout=10, callback=seen.append)
    assert replies == seen == [{"one": {"pong": {"a": 1}}}]
    assert nodes[1].log == []
    replies = bound.call(("one", "two"), "ping", timeout=10)
    assert sorted(key for reply in replies for key in reply) == ["one", "two"]
    assert bound.clock.value > 4
    assert bound.unclaimed == {}


def test_a_multi_call_gets_what_comes_in_time(
    mailbox: Mailbox, connection: Connection, nodes: list[Running]
) -> None:
    bound = mailbox(connection)
    assert len(bound.multi_call("ping", timeout=10, limit=2)) == 2
    assert len(bound.multi_call("ping", timeout=0.3)) == 2
    chosen = bound.broadcast("ping", reply=True, timeout=10, limit=1, pattern="t*")
    assert [*chosen[0]] == ["two"]
    chosen = bound.broadcast("ping", reply=True, limit=1, pattern="o.e", matcher="pcre")
    assert [*chosen[0]] == ["one"]
    assert bound.broadcast("ping", reply=True, timeout=0.1, pattern="x", matcher="magic") == []


def test_casts_are_executed_and_not_answered(
    mailbox: Mailbox, connection: Connection, nodes: list[Running]
) -> None:
    bound = mailbox(connection)
    bound.cast(["two"], "ping", {"n": 1})
    bound.abcast("ping", {"n": 2})
    bound.call(["one", "two"], "ping", timeout=10)
    assert nodes[0].log == [{"n": 2}, {}]
    assert nodes[1].log == [{"n": 1}, {"n": 2}, {}]


def test_a_failing_command_replies_with_its_error(
    mailbox: Mailbox,
    connection: Connection,
    nodes: list[Running],
    caplog: pytest.LogCaptureFixture,
) -> None:
    bound = mailbox(connection)
    assert bound.call(["one"], "fail", timeout=10) == [{"one": {"error": "ValueError('no')"}}]
    assert bound.call(["one"], "nothing", timeout=10) == [{"one": {"error": "KeyError('nothing')"}}]
    assert bound.call(["one"], "ping", {"state": 1}, timeout=10)[0]["one"]["error"]


def test_nobody_there_is_an_empty_answer(mailbox: Mailbox, connection: Connection) -> None:
    assert mailbox(connection).call(["nobody"], "ping", timeout=0.05) == []


def test_what_is_no_command_is_logged(
    mailbox: Mailbox,
    connection: Connection,
    nodes: list[Running],
    caplog: pytest.LogCaptureFixture,
) -> None:
    producer = connection.Producer(exchange=mailbox.exchange)
    with caplog.at_level(logging.ERROR):
        for body in STRANGE:
            producer.publish(body, content_type="application/json")
        producer.publish("text")
        assert mailbox(connection).call(["one", "two"], "ping", timeout=10)
    assert caplog.text.count("Not a command") == 2 * (len(STRANGE) + 1)


def test_a_reply_goes_nowhere_strange(
    mailbox: Mailbox,
    connection: Connection,
    nodes: list[Running],
    caplog: pytest.LogCaptureFixture,
) -> None:
    Exchange("precious", "topic")(connection).declare()
    producer = connection.Producer(exchange=mailbox.exchange, serializer="json")
    reply_to = {"exchange": "precious", "routing_key": "x"}
    producer.publish({"method": "ping", "reply_to": reply_to})
    producer.publish({"method": "ping", "pattern": "(", "matcher": "pcre"})
    assert len(mailbox(connection).call(["one", "two"], "ping", timeout=10)) == 2
    assert [node.log for node in nodes] == [[{}, {}], [{}, {}]]
    assert caplog.text.count("strange exchange") == 2


def test_a_reply_that_cannot_be_sent_is_an_error(
    mailbox: Mailbox, connection: Connection, nodes: list[Running]
) -> None:
    nodes[0].node.handlers["odd"] = lambda state: object()
    (reply,) = mailbox(connection).call(["one"], "odd", timeout=10)
    assert "EncodeError" in reply["one"]["error"]


def test_a_name_is_for_one_node(
    mailbox: Mailbox, connection: Connection, nodes: list[Running]
) -> None:
    with pytest.raises(ResourceLockedError, match="one"):
        mailbox(connection).Node("one", channel=connection.channel()).listen()
    shared = Mailbox("shared", queue_exclusive=False)
    channel = connection.channel()
    shared.Node("same", channel=channel).listen()
    with pytest.warns(UserWarning, match="same"):
        shared.Node("same", channel=connection.channel()).listen()


def test_a_mailbox_says_how_its_queues_live() -> None:
    mailbox = Mailbox("m", queue_ttl=3, queue_expires=4, reply_queue_ttl=5, accept=["text"])
    queue = mailbox.get_queue("host")
    assert queue.name == "host.m.pidbox"
    assert queue.declare_arguments == {"x-message-ttl": 3000, "x-expires": 4000}
    assert queue.exclusive
    assert not queue.durable
    reply = mailbox.get_reply_queue()
    assert reply.declare_arguments == {"x-message-ttl": 5000, "x-expires": 10_000}
    assert reply.routing_key == mailbox.oid
    assert reply == mailbox.reply_queue
    assert mailbox.accept == ["text"]
    assert mailbox.Node().hostname
    assert isinstance(mailbox.Node("n"), Node)


def test_what_makes_no_sense_is_refused(connection: Connection) -> None:
    with pytest.raises(ConfigurationError, match="durable"):
        Mailbox("m", queue_durable=True)
    mailbox = Mailbox("m")
    with pytest.raises(ConfigurationError, match="not bound"):
        mailbox.abcast("ping")
    with pytest.raises(ConfigurationError, match="list"):
        mailbox(connection).call("host", "ping")
    with pytest.raises(ConfigurationError, match="channel"):
        mailbox.Node("n").listen()


def test_producers_may_come_from_a_pool(mailbox: Mailbox, connection: Connection) -> None:
    with connection.Pool(1) as pool, ProducerPool(pool) as producers:
        pooled = Mailbox("test", type=mailbox.type, producer_pool=producers)(connection)
        node = pooled.Node("me", channel=connection.channel())
        node.handlers["echo"] = lambda state, text: text
        node.listen()
        assert pooled.call(["me"], "echo", {"text": "hi"}, timeout=10) == [{"me": "hi"}]
