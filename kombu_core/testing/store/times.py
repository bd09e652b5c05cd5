"""Delay and time to live, by the store's own clock."""

from __future__ import annotations

import time

from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import until
from kombu_core.testing.store.fixtures import ME, bodies, claim, put
from kombu_core.virtual.store import Batch, Release, Store, Want

#: What a test waits out (seconds).
SHORT = 0.15


class TimeContract:
    """`Put.delay` and `Put.ttl`."""

    @requires("delay")
    def test_a_delayed_message_takes_its_place_when_it_becomes_ready(self, store: Store) -> None:
        put(store, "later", delay=60.0)
        put(store, "soon", delay=SHORT)
        put(store, "first")
        assert store.count("q") == (1, 0, 2)
        until(lambda: store.count("q").ready == 2, "the end of the delay")
        put(store, "last")
        assert bodies(claim(store)) == ["first", "soon", "last"]
        assert store.count("q") == (0, 3, 1)

    @requires("delay")
    def test_a_purge_spares_the_delayed(self, store: Store) -> None:
        put(store, "1")
        put(store, "later", delay=60.0)
        assert store.purge("q") == 1
        assert store.count("q") == (0, 0, 1)

    @requires("delay", "message_ttl")
    def test_time_to_live_counts_from_the_end_of_the_delay(self, store: Store) -> None:
        put(store, "1", delay=3 * SHORT, ttl=2 * SHORT)
        until(lambda: store.count("q").ready == 1, "the end of the delay")
        (alive,) = claim(store)
        assert not alive.is_expired

    @requires("message_ttl")
    def test_what_is_out_of_time_is_claimed_and_flagged(self, store: Store) -> None:
        put(store, "dead", ttl=SHORT)
        put(store, "alive", ttl=60.0)
        time.sleep(1.2 * SHORT)
        assert [each.is_expired for each in claim(store)] == [True, False]

    @requires("message_ttl")
    def test_a_claim_of_the_expired_stops_at_the_first_that_lives(self, store: Store) -> None:
        put(store, "dead", ttl=SHORT)
        put(store, "alive")
        put(store, "dead behind it", ttl=SHORT)
        time.sleep(1.2 * SHORT)
        wants = [Want("q", 100, expired_only=True)]
        assert bodies(store.claim(wants, ME, 100)) == ["dead"]
        assert store.claim(wants, ME, 100) == []

    @requires("message_ttl")
    def test_a_release_keeps_the_time_to_live_that_began(self, store: Store) -> None:
        put(store, "1", ttl=SHORT)
        (owned,) = claim(store)
        time.sleep(1.2 * SHORT)
        store.commit(Batch(releases=[Release(owned.claim)], session=ME))
        assert claim(store)[0].is_expired
