"""A child that is forked while other threads hold every lock there is works all the same."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from kombu_core import Connection, Queue
from kombu_core.forking import tell_of_forks
from kombu_core.plugins import default_plugins

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
    pytest.mark.timeout(20),
]


def in_child(check: Callable[[], None]) -> int:
    """Run `check` in a forked child and return the child's exit code."""
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # It must not stay, should it hang.
        status = 1
        try:
            check()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def another_thread_in(enter: Callable[[ExitStack], object]) -> Iterator[None]:
    """Let another thread enter something, and stay there."""
    is_in, may_go = threading.Event(), threading.Event()

    def stay() -> None:
        with ExitStack() as stack:
            enter(stack)
            is_in.set()
            may_go.wait()

    thread = threading.Thread(target=stay)
    thread.start()
    is_in.wait()
    try:
        yield
    finally:
        may_go.set()
        thread.join()


def test_locks_that_other_threads_hold_do_not_stop_a_child() -> None:
    connection = Connection("memory://forking")
    locks = (connection._lock, connection.recovery._lock, default_plugins._lock)

    def use() -> None:
        with connection:
            queue = Queue("q")
            connection.Producer().publish("x", "q", declare=[queue])
            assert queue(connection).get() is not None

    with another_thread_in(lambda stack: [stack.enter_context(lock) for lock in locks]):
        assert in_child(use) == 0


def test_what_nobody_holds_is_not_told() -> None:
    class Told:
        def forked(self) -> None:
            os._exit(3)

    held = Told()
    tell_of_forks(held)
    assert in_child(lambda: None) == 3
    del held
    assert in_child(lambda: None) == 0
