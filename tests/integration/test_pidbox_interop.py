"""Mailboxes beside kombu 5: each one's nodes obey the other one's commands."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kombu_core import Connection
from kombu_core.pidbox import Mailbox
from kombu_core.testing.brokers import BrokerServer

kombu = pytest.importorskip("kombu")
their_pidbox = pytest.importorskip("kombu.pidbox")

TIMEOUT = 10.0


def echo(state: Any, **arguments: Any) -> dict[str, Any]:
    return {"state": state, "arguments": arguments}


@contextmanager
def draining(drain: Callable[[], object]) -> Iterator[None]:
    """Drain a connection in a thread while a block lasts."""
    stopped = threading.Event()

    def run() -> None:
        while not stopped.is_set():
            try:
                drain()
            except TimeoutError:
                continue

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(TIMEOUT)


@pytest.mark.parametrize("kind", ["direct", "fanout"])
def test_our_node_obeys_their_mailbox(rabbitmq_server: BrokerServer, token: str, kind: str) -> None:
    with (
        Connection(rabbitmq_server.url) as ours,
        kombu.Connection(rabbitmq_server.url) as theirs,
    ):
        mailbox = Mailbox(token, type=kind)
        mailbox(ours).Node("here", "mine", ours.channel(), {"echo": echo}).listen()
        with draining(lambda: ours.drain_events(timeout=0.1)):
            box = their_pidbox.Mailbox(token, type=kind, connection=theirs)
            replies = box.call(["here"], "echo", {"a": [1]}, timeout=TIMEOUT)
            assert replies == [{"here": {"state": "mine", "arguments": {"a": [1]}}}]
            replies = box.call(["here"], "nothing", timeout=TIMEOUT)
            assert replies == [{"here": {"error": "KeyError('nothing')"}}]


@pytest.mark.parametrize("kind", ["direct", "fanout"])
def test_their_node_obeys_our_mailbox(rabbitmq_server: BrokerServer, token: str, kind: str) -> None:
    with (
        Connection(rabbitmq_server.url) as ours,
        kombu.Connection(rabbitmq_server.url) as theirs,
    ):
        box = their_pidbox.Mailbox(token, type=kind, connection=theirs)
        box.Node("there", "theirs", theirs.channel(), {"echo": echo}).listen()
        with draining(lambda: theirs.drain_events(timeout=0.1)):
            mailbox = Mailbox(token, type=kind)(ours)
            replies = mailbox.call(["there"], "echo", {"b": None}, timeout=TIMEOUT)
            assert replies == [{"there": {"state": "theirs", "arguments": {"b": None}}}]
            replies = mailbox.broadcast("echo", reply=True, limit=1, pattern="th*", matcher="glob")
            assert [*replies[0]] == ["there"]
