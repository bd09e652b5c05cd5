"""Pools of connections and channels: bounded, shared by threads, and never giving a broken one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from kombu_core import Connection
from kombu_core.exceptions import (
    ChannelLimitExceededError,
    ConfigurationError,
    ConnectionLimitExceededError,
    LimitExceededError,
    NotFoundError,
)
from kombu_core.resource import Resource


class Numbers(Resource[dict[str, int]]):
    """A pool of things that cannot get a `release`."""

    made = 0

    def new(self, timeout: float | None) -> dict[str, int]:
        self.made += 1
        return {"number": self.made}

    def close_resource(self, resource: dict[str, int]) -> None:
        resource.clear()


@pytest.fixture
def connection(token: str) -> Iterator[Connection]:
    with Connection(f"memory://{token}") as connection:
        yield connection


def test_the_limit_holds_and_waiting_has_an_end(connection: Connection) -> None:
    with connection.Pool(2) as pool:
        first, second = pool.acquire(), pool.acquire(block=True)
        assert first is not second
        with pytest.raises(ConnectionLimitExceededError, match="All 2"):
            pool.acquire()
        with pytest.raises(LimitExceededError):
            pool.acquire(block=True, timeout=0.02)
        first.connect()
        first.release()
        first.release()
        assert pool.acquire() is first
        first.release()
        second.release()


def test_leaving_a_with_block_gives_a_connection_back(connection: Connection) -> None:
    with connection.Pool(1) as pool:
        with pool.acquire() as taken:
            taken.connect()
        with pool.borrow(timeout=0) as again:
            assert again is taken
            assert again.connected
        assert pool.acquire_channel()[0] is taken
    assert not taken.connected


def test_a_broken_connection_is_replaced(connection: Connection) -> None:
    with connection.Pool(1, check_after=0) as pool:
        with pool.acquire() as lost:
            lost.connect()
        lost.transport.close()
        with pool.acquire() as other:
            assert other is not lost
            other.connect()
        with pool.acquire() as broken_in_use:
            assert broken_in_use is other
            broken_in_use.transport.close()
        with pool.acquire() as fresh:
            assert fresh not in (lost, other)
            pool.replace(fresh)
        assert pool.acquire() is not fresh


def test_a_member_that_cannot_be_made_takes_no_place() -> None:
    class Failing(Numbers):
        def new(self, timeout: float | None) -> dict[str, int]:
            raise OSError("no")

    pool = Failing(1)
    for _ in range(3):
        with pytest.raises(OSError, match="no"):
            pool.acquire()


def test_waiting_threads_get_their_turn() -> None:
    pool = Numbers(2)
    inside, most, total = 0, 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal inside, most, total
        for _ in range(100):
            with pool.borrow(timeout=10):
                with lock:
                    inside += 1
                    most = max(most, inside)
                    total += 1
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total == 600
    assert most <= 2
    assert pool.made <= 2


def test_resizing_closes_what_is_too_many() -> None:
    pool = Numbers(3)
    taken = [pool.acquire() for _ in range(3)]
    pool.limit = 1
    assert pool.limit == 1
    for each in taken:
        pool.release(each)
    assert [bool(each) for each in taken] == [False, False, True]
    pool.resize(5)
    more = [pool.acquire() for _ in range(5)]
    assert more[0] is taken[2]
    for each in more:
        pool.release(each)
    pool.resize(5, reset=True)
    assert not any(more)
    for wrong in (True, -1):
        with pytest.raises(ConfigurationError):
            pool.resize(wrong)


def test_without_a_limit_nothing_is_kept() -> None:
    pool = Numbers()
    taken = [pool.acquire() for _ in range(20)]
    for each in taken:
        pool.release(each)
    assert not any(taken)


def test_a_closed_pool_hands_out_nothing() -> None:
    pool = Numbers(2, preload=1)
    assert pool.made == 1
    taken = pool.acquire()
    waiting = threading.Thread(target=lambda: pool.force_close_all())
    waiting.start()
    waiting.join()
    assert not taken
    pool.release(taken)
    with pytest.raises(RuntimeError, match="closed"):
        pool.acquire()


def test_preloaded_connections_are_connected(connection: Connection) -> None:
    with connection.Pool(2, preload=2) as pool, pool.acquire() as first, pool.acquire() as second:
        assert first.connected
        assert second.connected


def test_channels_are_shared_out_and_replaced(connection: Connection) -> None:
    with connection.ChannelPool(1) as pool:
        with pool.borrow() as channel:
            with pytest.raises(ChannelLimitExceededError):
                pool.acquire()
            with pytest.raises(NotFoundError):
                channel.queue_declare("none", passive=True)
        with pool.borrow() as other:
            assert other is not channel
            other.queue_declare("some")
        connection.transport.close()
        with pool.borrow() as third:
            assert third is not other
            third.queue_declare("some")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_begins_with_an_empty_pool() -> None:
    pool = Numbers(1)
    kept = pool.acquire()
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if pool.acquire() is not kept else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with pytest.raises(LimitExceededError):
        pool.acquire()
