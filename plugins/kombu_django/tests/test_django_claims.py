"""What a store finds in its queues, and what that does not depend on: other messages."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from kombu_core.message import Envelope
from kombu_core.testing.harness import until
from kombu_core.virtual.store import Batch, Counts, Put, Want
from kombu_core.virtual.tables import Bound
from kombu_django.store import DjangoStore
from plugins.kombu_django.tests.databases import as_envelope, open_store


@pytest.fixture
def store(alias: str, token: str) -> Iterator[DjangoStore]:
    """A store with a session."""
    opened = open_store(alias)
    opened.begin(token, 60)
    yield opened
    opened.end(token)
    opened.close()


def put(queue: str, body: str, delay: float = 0, ttl: float | None = None) -> Put:
    return Put(queue, Envelope(body.encode(), {}, {}, "", queue), 0, delay, ttl)


def is_due(store: DjangoStore, queue: str) -> bool:
    (state,) = store.database.run(lambda using: store.queries.peek(using, [queue]))
    return state.due is not None and state.due <= 0


def test_messages_that_become_due_all_the_time_hold_up_nobody(
    store: DjangoStore, token: str
) -> None:
    total = 1500
    store.commit(Batch([put(token, str(n), 0.5 + n / 1000) for n in range(total)]))
    empty = 0
    bodies: list[bytes] = []
    while len(bodies) < total:
        assert store.wait([token], 10)
        found = store.claim([Want(token, 10)], token, 10)
        empty += not found
        bodies += [as_envelope(one).body for one in found]
        if found:
            store.commit(Batch(acks=[one.claim for one in found], session=token))
    assert bodies == [str(n).encode() for n in range(total)]
    assert empty < 15


def test_what_was_due_before_is_not_overtaken(store: DjangoStore, token: str) -> None:
    store.commit(Batch([put(token, "first", 0.001)]))
    until(lambda: is_due(store, token))
    store.commit(Batch([put(token, "second")]))
    found = store.claim([Want(token, 5)], token, 5)
    assert [as_envelope(one).body for one in found] == [b"first", b"second"]


def test_what_expired_is_taken_from_the_head_only(store: DjangoStore, token: str) -> None:
    short, puts = 0.001, []
    for number, ttl in enumerate((short, short, short, None, short, short)):
        puts.append(put(token, str(number), ttl=ttl))
    store.commit(Batch(puts))

    def head(limit: int) -> list[bytes]:
        found = store.claim([Want(token, limit, expired_only=True)], token, limit)
        assert all(one.is_expired for one in found)
        return [as_envelope(one).body for one in found]

    until(lambda: store.database.run(lambda using: store.queries.heads(using, [token])))
    assert head(2) == [b"0", b"1"]
    assert head(9) == [b"2"]
    assert head(9) == []
    end = Bound(0, 0, 0)
    taken = store.database.transact(
        lambda using: store.queries.claim(using, token, token, 9, before=end)
    )
    assert taken == []


def test_of_many_queues_each_is_told_apart(store: DjangoStore, token: str) -> None:
    """More than one statement of SQLite may name."""
    names = [f"{token}-{number}" for number in range(1201)]
    ready, due, later, expired = names[0], names[600], names[900], names[1200]
    store.commit(
        Batch([put(ready, "x"), put(due, "x", 0.001), put(later, "x", 60), put(expired, "x", 0, 0)])
    )
    until(lambda: is_due(store, due))
    states = store.database.run(lambda using: store.queries.peek(using, names))
    assert [state.queue for state in states] == names
    assert [state.queue for state in states if state.is_ready] == [ready, expired]
    assert [state.queue for state in states if state.due is not None] == [due, later]
    heads = store.database.run(lambda using: store.queries.heads(using, names))
    assert heads == [due, expired]
    for name in (ready, due, later, expired):
        store.purge(name)
    assert store.count(later) == Counts(0, 0, 1)
    store.database.run(lambda using: store.queries.drop(using, [later]))


def test_a_purge_takes_what_is_ready_and_what_is_due(store: DjangoStore, token: str) -> None:
    store.commit(Batch([put(token, "due", 0.001), put(token, "later", 60), put(token, "mine")]))
    until(lambda: is_due(store, token))
    store.claim([Want(token, 1)], token, 1)
    store.commit(Batch([put(token, "ready"), put(token, "ready")]))
    assert store.purge(token) == 3
    assert store.count(token) == Counts(0, 1, 1)
    store.database.run(lambda using: store.queries.drop(using, [token]))


def test_few_connections_stay_open_that_nobody_uses(alias: str) -> None:
    store = open_store(alias, pool_size=2)
    all_there = threading.Barrier(12)
    opened = []

    def work() -> None:
        ours = store.database.take()
        opened.append(ours)
        all_there.wait(30)
        store.database._give_back(ours)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 12
    assert sum(ours.connection is not None for ours in opened) == 2
    assert store.database.run(lambda using: store.queries.heads(using, ["none"])) == []
    store.close()
    assert not any(ours.connection for ours in opened)
