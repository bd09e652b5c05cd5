"""The clauses of the store contract, on the in-memory store: documents and queues."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kombu_core.memory import MemoryStore, VirtualHost
from kombu_core.message import Envelope
from kombu_core.virtual.store import (
    Batch,
    Claimed,
    Conflict,
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


def test_an_absent_document_has_version_0_and_no_value(store: MemoryStore) -> None:
    assert store.read(["a", "b"]) == [("a", 0, b""), ("b", 0, b"")]


def test_documents_are_read_in_the_order_of_the_keys(store: MemoryStore) -> None:
    versions, _ = store.write({"a": b"1", "b": b""}, ())
    assert store.read(["b", "a"]) == [("b", versions["b"], b""), ("a", versions["a"], b"1")]
    assert 0 not in versions.values()


def test_a_write_that_expects_what_moved_changes_nothing(store: MemoryStore) -> None:
    first = store.write({"a": b"1", "b": b"1"}, ()).versions
    store.write({"a": b"2"}, [("a", first["a"])])
    put(store, "kept")
    with pytest.raises(Conflict) as conflict:
        expect = [("a", first["a"]), ("b", first["b"]), ("c", 7)]
        store.write({"b": None, "d": b"4"}, expect, [Drop("q")])
    assert conflict.value.keys == ("a", "c")
    assert [document.value for document in store.read(["a", "b", "d"])] == [b"2", b"1", b""]
    assert store.count("q").ready == 1


def test_a_document_that_must_be_absent_is_expected_as_version_0(store: MemoryStore) -> None:
    store.write({"a": b"1"}, [("a", 0)])
    with pytest.raises(Conflict):
        store.write({"a": b"2"}, [("a", 0)])


def test_no_version_is_used_twice_not_even_after_a_delete(store: MemoryStore) -> None:
    seen = set()
    for _ in range(5):
        seen.add(store.write({"a": b"1"}, ()).versions["a"])
        assert store.write({"a": None}, ()).versions == {"a": 0}
    assert len(seen) == 5
    assert store.write({"never there": None}, ()).versions == {"never there": 0}


def test_scan_names_the_keys_of_a_prefix_sorted(store: MemoryStore) -> None:
    store.write(dict.fromkeys(("b/2", "a", "b/", "b/1", "b", "c", "b/\U0010ffff"), b""), ())
    store.write({"b/1": None}, ())
    assert store.scan("b/") == ["b/", "b/2", "b/\U0010ffff"]
    assert store.scan("") == ["a", "b", "b/", "b/2", "b/\U0010ffff", "c"]
    assert store.scan("z") == []


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


def test_a_commit_that_was_routed_by_what_moved_applies_nothing(store: MemoryStore) -> None:
    version = store.write({"a": b"1"}, ()).versions["a"]
    put(store, "old")
    (owned,) = claim(store)
    batch = Batch([Put("q", Envelope(b"new", {}, {}))], [owned.claim], (), [("a", version)], S)
    store.write({"a": b"2"}, ())
    with pytest.raises(Conflict) as conflict:
        store.commit(batch)
    assert conflict.value.keys == ("a",)
    assert store.count("q") == Counts(0, 1, 0)


def test_messages_come_by_priority_then_by_age(store: MemoryStore) -> None:
    put(store, "a", "b")
    put(store, "x", "y", priority=7)
    put(store, "c")
    claimed = claim(store)
    assert bodies(claimed) == ["x", "y", "a", "b", "c"]
    assert [item.priority for item in claimed] == [7, 7, 0, 0, 0]
    assert claim(store) == []


def test_a_claim_serves_its_wants_in_order_up_to_its_limit(store: MemoryStore) -> None:
    put(store, "a1", "a2", "a3", queue="a")
    put(store, "b1", "b2", queue="b")
    wants = [Want("b", 1), Want("nowhere", 5), Want("a", 9)]
    assert bodies(store.claim(wants, S, 3)) == ["b1", "a1", "a2"]
    assert store.claim(wants, S, 0) == []


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


def test_an_acknowledged_message_is_gone(store: MemoryStore) -> None:
    put(store, "1", "2")
    first, second = claim(store)
    for _ in range(2):
        assert store.commit(Batch(acks=[first.claim, second.claim], session=S)).lost == ()
    assert store.count("q") == Counts(0, 0, 0)


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
