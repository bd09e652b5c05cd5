"""Forks: a child makes its own connection, and the parent's is untouched."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable

import pytest

from kombu_core.capabilities import Capabilities
from kombu_core.testing.contract.fixtures import ContractFixtures
from kombu_core.testing.harness import (
    DEADLINE,
    POLL,
    ContractConnection,
    Inbox,
    Names,
    drain_until,
    fetch,
    publish,
    take,
)
from kombu_core.transport import Channel


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
class ForkContract(ContractFixtures):
    """os.fork with a connection in use."""

    def test_children_of_a_connected_parent_publish(
        self, connection: ContractConnection, capabilities: Capabilities, name: Names
    ) -> None:
        channel = connection.channel()
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "before")

        def child(number: int) -> None:
            own = connection.channel()
            own.queue_declare(queue)
            for _ in range(20):
                publish(own, "", queue, str(number))

        _fork_and_wait(*(lambda number=number: child(number) for number in range(3)))
        publish(channel, "", queue, "after")
        if not capabilities.shared:
            assert take(channel, queue, 2) == ["before", "after"]
            return
        bodies = take(channel, queue, 62)
        assert bodies[0] == "before"
        assert bodies[-1] == "after"
        assert sorted(bodies[1:-1]) == sorted(str(number) for number in range(3) for _ in range(20))

    def test_a_child_leaves_the_parents_deliveries_alone(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())
        publish(channel, "", queue, "1", "2", "3")
        held = fetch(channel, queue)
        inbox = Inbox(ack=True)
        channel.basic_consume(queue, inbox)

        def child() -> None:
            own = connection.channel()
            own.queue_declare(queue)
            connection.release()

        _fork_and_wait(child)
        drain_until(connection, lambda: len(inbox) == 2)
        assert inbox.bodies == ["2", "3"]
        held.ack()
        assert take(channel, queue, 0) == []

    def test_an_inherited_channel_is_not_the_childs(
        self, connection: ContractConnection, channel: Channel, name: Names
    ) -> None:
        channel.queue_declare(queue := name())

        def child() -> None:
            try:
                publish(channel, "", queue, "by an inherited channel")
            except Exception:  # noqa: BLE001  (refusing is right, so is a way that works)
                return

        _fork_and_wait(child)
        publish(channel, "", queue, "by the parent")
        bodies = [message.body for message in iter(lambda: channel.basic_get(queue), None)]
        assert bodies[-1] == b"by the parent"


def _fork_and_wait(*children: Callable[[], object]) -> None:
    """Run each function in a child of its own; all must end well, and within the deadline."""
    pids = [_fork(child) for child in children]
    deadline = time.monotonic() + 2 * DEADLINE
    codes: dict[int, int] = {}
    while len(codes) < len(pids):
        for pid in pids:
            done, status = (0, 0) if pid in codes else os.waitpid(pid, os.WNOHANG)
            if done:
                codes[pid] = os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            for pid in set(pids) - set(codes):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            raise AssertionError("a child hangs")
        time.sleep(POLL)
    assert set(codes.values()) == {0}


def _fork(child: Callable[[], object]) -> int:
    sys.stdout.flush()
    with warnings.catch_warnings():
        # Forking with threads around is what the test is about.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        child()
        code = 0
    except BaseException:  # noqa: BLE001  (nothing of the test may go on in the child)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
