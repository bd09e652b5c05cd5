"""Connections that are inherited by forked children."""

from __future__ import annotations

import os
import time
import traceback
import warnings
from collections.abc import Callable

import pytest

from kombu_core.exceptions import KombuError
from kombu_core.testing.harness import Inbox, drain_until, fetch, publish, ready, take, until
from plugins.kombu_amqp.tests.conftest import Open


def fork(work: Callable[[], object]) -> int:
    """Do some work in a child, and return its process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there are threads
        pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001  (nothing of the test may go on in the child)
        traceback.print_exc()
    finally:
        os._exit(code)


def join(*pids: int) -> None:
    """All children end well, and in time."""
    deadline = time.monotonic() + 30
    left = set(pids)
    while left:
        for pid in sorted(left):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                assert os.waitstatus_to_exitcode(status) == 0
                left.discard(pid)
        assert time.monotonic() < deadline, "a child hangs"
        time.sleep(0.01)


def test_children_publish_by_an_inherited_producer(open_connection: Open, queue: str) -> None:
    connection = open_connection()
    producer = connection.Producer(connection.channel())
    producer.publish("before", queue)

    def work() -> None:
        for _ in range(300):
            producer.publish("x", queue)

    join(*(fork(work) for _ in range(3)))
    producer.publish("after", queue)
    assert ready(connection.channel(), queue) == 902


def test_the_parent_goes_on_meanwhile(open_connection: Open, queue: str) -> None:
    connection = open_connection(heartbeat=1)
    channel = connection.channel()
    publish(channel, "", queue, "held")
    held = fetch(channel, queue)
    inbox = Inbox(ack=True)
    channel.basic_consume(queue, inbox)

    def work() -> None:
        with pytest.raises(KombuError):
            held.ack()  # it is the parent's
        time.sleep(2.5)
        connection.release()

    child = fork(work)
    publish(channel, "", queue, *map(str, range(50)))
    drain_until(connection, lambda: len(inbox) == 50)
    join(child)
    held.ack()
    publish(channel, "", queue, "last")
    drain_until(connection, lambda: len(inbox) == 51)
    connection.release()
    assert take(open_connection().channel(), queue, 0) == []


def test_a_child_does_not_keep_the_parents_connection_alive(
    open_connection: Open, queue: str
) -> None:
    other = open_connection().channel()
    connection = open_connection()

    def parent() -> None:
        channel = connection.channel()
        publish(channel, "", queue, "held")
        fetch(channel, queue)
        fork(lambda: time.sleep(4))
        os._exit(0)

    join(fork(parent))
    until(lambda: ready(other, queue) == 1, timeout=2)
