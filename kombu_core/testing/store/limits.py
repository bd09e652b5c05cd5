"""How long a queue may grow: `Batch.limits`."""

from __future__ import annotations

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
        assert put_limited(store, limit, "1.", "2.", "3.") == ([], [])
        assert bodies(claim(store)) == ["2.", "3."]
        assert store.count("q") == (0, 2, 0)

    @requires("max_length")
    def test_what_is_dropped_and_kept_is_claimed(self, store: Store) -> None:
        limit = Limit(max_length=1, keep_dropped=True)
        assert put_limited(store, limit, "1", "2", "3") == ([], ["1", "2"])
        assert store.count("q") == (1, 2, 0)

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
    def test_a_release_may_push_out_the_head(self, store: Store) -> None:
        put(store, "1")
        (owned,) = claim(store)
        put(store, "2")
        batch = Batch(releases=[Release(owned.claim)], session=ME, limits={"q": Limit(1)})
        assert not any(store.commit(batch))
        assert bodies(claim(store)) == ["2"]
