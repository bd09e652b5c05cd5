"""The clauses of the store contract about sessions, on the in-memory store: leases, and loss."""

from __future__ import annotations

import gc

import pytest

from kombu_core import Connection, Queue
from kombu_core.exceptions import NotFoundError, SessionLostError
from kombu_core.memory import MemoryStore, VirtualHost
from kombu_core.message import Envelope
from kombu_core.virtual.store import Batch, Claim, Claimed, Counts, Drop, Put, Release, Want


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(VirtualHost("x"), clock=clock)


def put(store: MemoryStore, *bodies: str) -> None:
    store.commit(Batch([Put("q", Envelope(body.encode(), {}, {})) for body in bodies]))


def claim(store: MemoryStore, session: str, limit: int = 10) -> list[Claimed]:
    return store.claim([Want("q", limit)], session, limit)


def test_a_session_that_never_began_claims_nothing(store: MemoryStore) -> None:
    put(store, "1")
    with pytest.raises(SessionLostError):
        claim(store, "nobody")
    assert store.count("q") == Counts(1, 0, 0)


def test_a_session_claims_nothing_after_its_lease(store: MemoryStore, clock: Clock) -> None:
    put(store, "1")
    store.begin("a", 5.0)
    clock.now += 5
    with pytest.raises(SessionLostError):
        claim(store, "a")
    assert store.count("q") == Counts(1, 0, 0)


def test_a_renewed_session_lives_on(store: MemoryStore, clock: Clock) -> None:
    store.begin("a", 5.0)
    for _ in range(3):
        clock.now += 4
        assert store.renew("a", 5.0)
    assert store.reap() == []
    assert claim(store, "a") == []


def test_a_late_renewal_is_in_time_if_nobody_reaped(store: MemoryStore, clock: Clock) -> None:
    put(store, "1")
    store.begin("a", 5.0)
    (owned,) = claim(store, "a")
    clock.now += 60
    assert store.renew("a", 5.0)
    assert store.reap() == []
    assert store.commit(Batch(acks=[owned.claim], session="a")).lost == ()


def test_reaping_releases_claims_as_delivered_and_to_their_places(
    store: MemoryStore, clock: Clock
) -> None:
    put(store, "1", "2", "3")
    store.begin("dead", 5.0)
    store.begin("alive", 50.0)
    claim(store, "dead", 2)
    clock.now += 5
    assert store.count("q") == Counts(1, 2, 0)
    assert store.reap() == ["dead"]
    again = claim(store, "alive")
    assert [(item.content[0], item.deliveries) for item in again] == [
        (b"1", 1),
        (b"2", 1),
        (b"3", 0),
    ]


def test_a_reaped_session_is_named_until_it_is_ended(store: MemoryStore, clock: Clock) -> None:
    store.begin("a", 5.0)
    store.begin("b", 6.0)
    clock.now += 6
    assert sorted(store.reap()) == ["a", "b"]
    assert sorted(store.reap()) == ["a", "b"]
    for _ in range(2):
        store.end("a")
    assert store.reap() == ["b"]


def test_a_session_cannot_be_renewed_once_it_was_reaped(store: MemoryStore, clock: Clock) -> None:
    store.begin("a", 5.0)
    clock.now += 5
    store.reap()
    assert not store.renew("a", 5.0)
    assert not store.renew("nobody", 5.0)
    with pytest.raises(SessionLostError):
        claim(store, "a")


def test_ending_a_session_releases_its_claims_only(store: MemoryStore) -> None:
    put(store, "1", "2")
    store.begin("a", 5.0)
    store.begin("b", 5.0)
    claim(store, "a", 1)
    (other,) = claim(store, "b", 1)
    store.end("a")
    assert store.count("q") == Counts(1, 1, 0)
    assert store.commit(Batch(acks=[other.claim], session="b")).lost == ()


def test_a_settle_after_the_session_was_lost_applies_nothing(
    store: MemoryStore, clock: Clock
) -> None:
    put(store, "1", "2")
    store.begin("late", 5.0)
    first, second = claim(store, "late")
    clock.now += 5
    store.reap()
    batch = Batch(
        [Put("q", Envelope(b"3", {}, {}))],
        acks=[first.claim],
        releases=[Release(second.claim)],
        session="late",
    )
    assert store.commit(batch).lost == [first.claim, second.claim]
    assert store.count("q") == Counts(2, 0, 0)


def test_a_lost_claim_is_never_taken_from_its_next_owner(store: MemoryStore, clock: Clock) -> None:
    put(store, "1")
    store.begin("late", 5.0)
    (lost,) = claim(store, "late")
    clock.now += 5
    store.reap()
    store.begin("next", 5.0)
    claim(store, "next")
    for batch in (Batch(acks=[lost.claim]), Batch(releases=[Release(lost.claim)])):
        assert store.commit(batch._replace(session="late")).lost == [lost.claim]
    assert store.count("q") == Counts(0, 1, 0)


def test_a_claim_on_a_queue_that_was_dropped_is_no_loss_while_its_session_lives(
    store: MemoryStore,
) -> None:
    put(store, "1")
    store.begin("a", 5.0)
    (owned,) = claim(store, "a")
    store.write({}, (), [Drop("q")])
    put(store, "of the next queue")
    assert store.commit(Batch(acks=[owned.claim], session="a")).lost == ()
    assert store.count("q") == Counts(1, 0, 0)


def test_what_a_lost_session_had_of_a_dropped_queue_is_lost(
    store: MemoryStore, clock: Clock
) -> None:
    store.begin("a", 5.0)
    clock.now += 5
    store.reap()
    gone = Claim("nowhere", "1")
    assert store.commit(Batch(acks=[gone], session="a")).lost == [gone]


def test_closing_ends_no_session_and_can_be_repeated(store: MemoryStore) -> None:
    put(store, "1")
    store.begin("a", 5.0)
    claim(store, "a")
    store.close()
    store.close()
    assert store.count("q") == Counts(0, 1, 0)


def test_handles_on_one_host_share_everything(clock: Clock) -> None:
    host = VirtualHost("x")
    one, other = (MemoryStore(host, clock=clock) for _ in range(2))
    put(one, "1")
    one.write({"a": b"1"}, ())
    other.begin("b", 5.0)
    assert len(claim(other, "b")) == 1
    assert other.read(["a"])[0].value == b"1"


def test_a_virtual_host_ends_with_its_last_connection() -> None:
    kept, other = Connection("memory://ends"), Connection("memory://ends")
    queue = Queue("q", message_ttl=60.0)
    with kept:
        queue(kept).declare()
        with other:
            other.Producer().publish("1", "q")
        assert queue(kept).get() is not None
    gc.disable()  # It must not matter when what is left of it is collected.
    try:
        with kept, pytest.raises(NotFoundError):
            queue(kept).queue_declare(passive=True)
    finally:
        gc.enable()
