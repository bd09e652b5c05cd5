"""How long a queue may grow: `Batch.limits`."""

from __future__ import annotations

from typing import Literal

import pytest

from kombu_core.message import Envelope
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import until
from kombu_core.testing.store.fixtures import ME, ack, bodies, claim, put
from kombu_core.virtual.store import Batch, Limit, Put, Release, Store


def put_limited(store: Store, limit: Limit, *texts: str) -> tuple[list[int], list[str]]:
    """Put bodies under a limit; which were refused, and what was pushed out."""
    puts = [Put("q", Envelope(text.encode(), {}, {})) for text in texts]
    result = store.commit(Batch(puts, session=ME, limits={"q": limit}))
    return list(result.rejected), bodies(result.dropped)


def in_bytes(limit: Limit) -> object:
    """Mark a parameter as one for stores that count bytes."""
    return pytest.param(limit, marks=requires("max_length_bytes"))


class StoreLimitContract:
    """Drop the head, or refuse."""

    @requires("max_length")
    @pytest.mark.parametrize("limit", [Limit(max_length=2), in_bytes(Limit(max_bytes=5))])
    def test_a_full_queue_drops_its_head(self, store: Store, limit: Limit) -> None:
        assert put_limited(store, limit, "1.", "2.", "3.", "4.") == ([], [])
        assert put_limited(store, limit, "5.") == ([], [])
        assert bodies(claim(store)) == ["4.", "5."]
        assert store.count("q") == (0, 2, 0)

    @requires("max_length", "priorities")
    def test_the_head_is_what_has_the_highest_priority(self, store: Store) -> None:
        put(store, "high", priority=9)
        put(store, "a", "b", "c", priority=1)
        put_limited(store, Limit(3), "low")
        assert bodies(claim(store)) == ["b", "c", "low"]

    @requires("max_length")
    def test_a_queue_of_length_0_keeps_nothing(self, store: Store) -> None:
        assert put_limited(store, Limit(0), "1", "2") == ([], [])
        assert store.count("q") == (0, 0, 0)

    @requires("max_length", "max_length_bytes")
    @pytest.mark.parametrize("overflow", ["drop-head", "reject"])
    def test_the_bytes_of_bodies_count(
        self, store: Store, overflow: Literal["drop-head", "reject"]
    ) -> None:
        put(store, "12345")
        limit = Limit(max_bytes=12, overflow=overflow)
        assert put_limited(store, limit, "67890") == ([], [])
        rejected, _ = put_limited(store, limit, "abc", "d")
        assert rejected == ([0] if overflow == "reject" else [])
        left = ["12345", "67890", "d"] if overflow == "reject" else ["67890", "abc", "d"]
        assert bodies(claim(store)) == left

    @requires("max_length")
    def test_what_is_dropped_and_kept_is_claimed(self, store: Store) -> None:
        limit = Limit(max_length=1, keep_dropped=True)
        assert put_limited(store, limit, "1", "2", "3") == ([], ["1", "2"])
        assert store.count("q") == (1, 2, 0)
        store.end(ME)
        assert store.count("q") == (3, 0, 0)

    @requires("max_length", "priorities")
    def test_what_is_dropped_and_kept_is_settled_as_any_claim(self, store: Store) -> None:
        put(store, "1", priority=4)
        puts = [Put("q", Envelope(text, {}, {})) for text in (b"2", b"3")]
        limit = Limit(max_length=1, keep_dropped=True)
        dropped = store.commit(Batch(puts, session=ME, limits={"q": limit})).dropped
        assert bodies(dropped) == ["1", "2"]
        assert [each.priority for each in dropped] == [4, 0]
        assert not ack(store, *dropped).lost
        assert store.count("q") == (1, 0, 0)

    @requires("max_length")
    def test_what_is_kept_for_a_session_that_is_over_comes_back(self, store: Store) -> None:
        put(store, "1")
        puts = [Put("q", Envelope(b"2", {}, {}))]
        limits = {"q": Limit(max_length=1, keep_dropped=True)}
        result = store.commit(Batch(puts, session="gone", limits=limits))
        assert bodies(result.dropped) == ["1"]

        def is_back() -> bool:
            for session in store.reap():
                store.end(session)
            return store.count("q").ready == 2

        until(is_back, "the return of what nobody settled")
        assert bodies(claim(store)) == ["1", "2"]

    @requires("max_length")
    @pytest.mark.parametrize(
        "limit",
        [Limit(2, overflow="reject"), in_bytes(Limit(max_bytes=5, overflow="reject"))],
    )
    def test_a_full_queue_may_refuse(self, store: Store, limit: Limit) -> None:
        assert put_limited(store, limit, "1.", "2.", "3.") == ([2], [])
        ack(store, *claim(store, 1))
        assert put_limited(store, limit, "4.") == ([], [])
        assert bodies(claim(store)) == ["2.", "4."]

    @requires("max_length")
    def test_what_is_refused_is_named_by_its_position(self, store: Store) -> None:
        puts = [Put("p", Envelope(b"x", {}, {}))]
        puts += [Put(q, Envelope(f"{q}{n}".encode(), {}, {})) for n in range(3) for q in "qp"]
        limits = {"q": Limit(2, overflow="reject"), "p": Limit(3, overflow="reject")}
        assert list(store.commit(Batch(puts, limits=limits)).rejected) == [5, 6]
        assert bodies(claim(store)) == ["q0", "q1"]
        assert bodies(claim(store, queue="p")) == ["x", "p0", "p1"]

    @requires("max_length")
    def test_the_claimed_do_not_count_until_they_are_released(self, store: Store) -> None:
        put_limited(store, Limit(2), "1", "2")
        claimed = claim(store)
        put_limited(store, Limit(2), "3", "4")
        assert store.count("q") == (2, 2, 0)
        releases = [Release(each.claim) for each in claimed]
        assert not any(store.commit(Batch(releases=releases, session=ME, limits={"q": Limit(2)})))
        assert bodies(claim(store)) == ["3", "4"]
