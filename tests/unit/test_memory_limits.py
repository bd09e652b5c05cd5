"""The clauses of the store contract, on the in-memory store: limits, and waiting."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from kombu_core.memory import MemoryStore, VirtualHost
from kombu_core.message import Envelope
from kombu_core.virtual.store import Batch, Claimed, Counts, Limit, Put, Release, Want

S = "session"


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore(VirtualHost("x"))
    store.begin(S, 1e9)
    return store


def put(store: MemoryStore, *bodies: str, delay: float = 0.0) -> None:
    store.commit(Batch([Put("q", Envelope(body.encode(), {}, {}), 0, delay) for body in bodies]))


def claim(store: MemoryStore) -> list[Claimed]:
    return store.claim([Want("q", 100)], S, 100)


def bodies(claimed: Sequence[Claimed]) -> list[str]:
    return [item.content.body.decode() for item in claimed if isinstance(item.content, Envelope)]


# -- waiting ---------------------------------------------------------------------------------


def test_wait_returns_at_once_if_something_is_ready_or_there_is_no_time(store: MemoryStore) -> None:
    assert not store.wait(["q"], 0.0)
    put(store, "1")
    assert store.wait(["other", "q"], 60.0)
    assert not store.wait(["other"], 0.001)


@pytest.mark.parametrize("wake", ["put", "release", "close"])
def test_wait_is_woken_by(wake: str, store: MemoryStore) -> None:
    put(store, "1")
    (owned,) = claim(store)
    answers: list[bool] = []
    waiter = threading.Thread(target=lambda: answers.append(store.wait(["q"], 60.0)))
    waiter.start()
    if wake == "put":
        put(store, "2")
    elif wake == "release":
        store.commit(Batch(releases=[Release(owned.claim)], session=S))
    else:
        store.close()
    waiter.join(10)
    assert answers == [True]


def test_wait_sees_a_delayed_message_become_ready() -> None:
    store = MemoryStore(VirtualHost("x"))
    put(store, "1", delay=0.01)
    assert store.wait(["q"], 60.0)


# -- limits ----------------------------------------------------------------------------------


def limited(store: MemoryStore, limit: Limit, *sent: str, queue: str = "q") -> tuple[object, ...]:
    puts = [Put(queue, Envelope(body.encode(), {}, {})) for body in sent]
    result = store.commit(Batch(puts, session=S, limits={queue: limit}))
    return list(result.rejected), bodies(result.dropped)


@pytest.mark.parametrize(
    ("limit", "rejected", "dropped", "left"),
    [
        (Limit(max_length=2), [], [], ["4", "55"]),
        (Limit(max_length=2, keep_dropped=True), [], ["1", "22", "333"], ["4", "55"]),
        (Limit(max_length=2, overflow="reject"), [2, 3, 4], [], ["1", "22"]),
        (Limit(max_bytes=3), [], [], ["4", "55"]),
        (Limit(max_bytes=3, overflow="reject"), [2, 3, 4], [], ["1", "22"]),
        (Limit(max_bytes=4, overflow="reject"), [2, 4], [], ["1", "22", "4"]),
        (Limit(max_length=0), [], [], []),
        (Limit(max_length=0, overflow="reject"), [0, 1, 2, 3, 4], [], []),
        (Limit(max_length=9, max_bytes=2, keep_dropped=True), [], ["1", "22", "333", "4"], ["55"]),
        (Limit(), [], [], ["1", "22", "333", "4", "55"]),
    ],
)
def test_limits(
    store: MemoryStore, limit: Limit, rejected: list[int], dropped: list[str], left: list[str]
) -> None:
    assert limited(store, limit, "1", "22", "333", "4", "55") == (rejected, dropped)
    assert bodies(claim(store)) == left


def test_what_is_claimed_does_not_count_for_a_limit(store: MemoryStore) -> None:
    put(store, "1", "2")
    claim(store)
    assert limited(store, Limit(max_length=1, overflow="reject"), "3") == ([], [])


def test_what_a_limit_pushed_out_is_claimed_for_the_session(store: MemoryStore) -> None:
    limited(store, Limit(max_length=1, keep_dropped=True), "1", "2")
    assert store.count("q") == Counts(1, 1, 0)
    store.end(S)
    store.begin(S, 1.0)
    assert [(item.deliveries, *bodies([item])) for item in claim(store)] == [(1, "1"), (0, "2")]
