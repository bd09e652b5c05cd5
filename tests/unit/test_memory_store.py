"""The in-memory store by a clock of its own: drops, releases, delays and times to live."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kombu_core.memory import MemoryStore, VirtualHost
from kombu_core.message import Envelope
from kombu_core.virtual.store import (
    Batch,
    Claimed,
    Counts,
    Drop,
    NotEmpty,
    Put,
    Release,
    Want,
)

S = "session"


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
    store = MemoryStore(VirtualHost("x"), clock=clock)
    store.begin(S, 1e9)
    return store


def put(store: MemoryStore, *bodies: str, queue: str = "q", **options: float) -> None:
    puts = [Put(queue, Envelope(body.encode(), {}, {}), **options) for body in bodies]  # type: ignore[arg-type]
    assert store.commit(Batch(puts)) == ((), (), ())


def claim(
    store: MemoryStore, limit: int = 100, queue: str = "q", session: str = S
) -> list[Claimed]:
    return store.claim([Want(queue, limit)], session, limit)


def bodies(claimed: Sequence[Claimed]) -> list[str]:
    return [item.content.body.decode() for item in claimed if isinstance(item.content, Envelope)]


# -- documents -------------------------------------------------------------------------------


def test_a_drop_deletes_all_of_a_queue_and_tells_how_many_were_ready(store: MemoryStore) -> None:
    put(store, "claimed", "1", "2")
    put(store, "delayed", delay=5.0)
    (owned,) = claim(store, 1)
    assert store.write({}, (), [Drop("q"), Drop("other")]).dropped == [2, 0]
    assert store.count("q") == Counts(0, 0, 0)
    assert store.commit(Batch(releases=[Release(owned.claim)], session=S)).lost == ()
    assert store.count("q") == Counts(0, 0, 0)


def test_a_drop_if_empty_is_refused_while_messages_are_ready(
    store: MemoryStore, clock: Clock
) -> None:
    put(store, "1", delay=5.0)
    clock.now += 5
    with pytest.raises(NotEmpty):
        store.write({"a": b"1"}, (), [Drop("empty"), Drop("q", if_empty=True)])
    assert store.read(["a"])[0].version == 0
    claim(store)
    assert store.write({"a": b"1"}, (), [Drop("q", if_empty=True)]).dropped == [0]


# -- putting and claiming --------------------------------------------------------------------


@pytest.mark.parametrize(("is_delivered", "deliveries"), [(True, 1), (False, 0)])
def test_a_release_goes_back_to_its_old_place(
    store: MemoryStore, is_delivered: bool, deliveries: int
) -> None:
    put(store, "1", "2", "3", "4")
    put(store, "high", priority=1)
    claimed = claim(store, 4)
    for item in (claimed[2], claimed[0], claimed[1]):
        store.commit(Batch(releases=[Release(item.claim, is_delivered)], session=S))
    put(store, "5")
    again = claim(store)
    assert bodies(again) == ["high", "1", "2", "4", "5"]
    assert [item.deliveries for item in again] == [deliveries] * 3 + [0, 0]
    assert store.count("q") == Counts(0, 6, 0)


def test_a_delayed_message_takes_its_place_when_it_becomes_ready(
    store: MemoryStore, clock: Clock
) -> None:
    put(store, "later", delay=2.0)
    put(store, "soon", delay=1.0)
    put(store, "first")
    assert store.count("q") == Counts(1, 0, 2)
    clock.now += 1
    put(store, "last")
    assert bodies(claim(store)) == ["first", "soon", "last"]
    clock.now += 1
    assert bodies(claim(store)) == ["later"]


def test_time_to_live_counts_from_the_end_of_the_delay(store: MemoryStore, clock: Clock) -> None:
    put(store, "1", delay=10.0, ttl=5.0)
    clock.now += 10
    assert store.count("q").ready == 1
    clock.now += 4.9
    (alive,) = claim(store)
    assert not alive.is_expired


def test_what_is_out_of_time_is_claimed_and_flagged(store: MemoryStore, clock: Clock) -> None:
    put(store, "dead", ttl=1.0)
    put(store, "alive", ttl=9.0)
    clock.now += 1
    assert [item.is_expired for item in claim(store)] == [True, False]


def test_a_claim_of_the_expired_stops_at_the_first_that_lives(
    store: MemoryStore, clock: Clock
) -> None:
    put(store, "dead", ttl=1.0)
    put(store, "alive")
    put(store, "dead behind it", ttl=1.0)
    clock.now += 1
    wants = [Want("q", 100, expired_only=True)]
    assert bodies(store.claim(wants, S, 100)) == ["dead"]
    assert store.claim(wants, S, 100) == []


def test_a_release_keeps_the_time_to_live_that_began(store: MemoryStore, clock: Clock) -> None:
    put(store, "1", ttl=5.0)
    (owned,) = claim(store)
    clock.now += 5
    store.commit(Batch(releases=[Release(owned.claim)], session=S))
    assert claim(store)[0].is_expired


def test_a_purge_spares_the_claimed_and_the_delayed(store: MemoryStore, clock: Clock) -> None:
    put(store, "claimed", "1", "2")
    claim(store, 1)
    put(store, "delayed", delay=5.0)
    assert store.purge("q") == 2
    assert store.purge("q") == store.purge("nowhere") == 0
    assert store.count("q") == Counts(0, 1, 1)
    clock.now += 5
    assert bodies(claim(store)) == ["delayed"]
