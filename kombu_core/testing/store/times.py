"""Delay and time to live, by the store's own clock."""

from __future__ import annotations

import time

from kombu_core.message import Envelope
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import until
from kombu_core.testing.store.fixtures import LONG, ME, bodies, claim, put, release
from kombu_core.virtual.store import Batch, Put, Store, Want

#: What a test waits out (seconds), if something has to be done before it is over.
SHORT = 0.15
#: And if nothing has.
MOMENT = 0.02


class TimeContract:
    """`Put.delay` and `Put.ttl`."""

    @requires("delay")
    def test_a_delayed_message_takes_its_place_when_it_becomes_ready(self, store: Store) -> None:
        put(store, "soon", delay=MOMENT)
        put(store, "first")
        until(lambda: store.count("q").ready == 2, "the end of the delay")
        put(store, "last")
        assert bodies(claim(store)) == ["first", "soon", "last"]

    @requires("delay")
    def test_a_delayed_message_cannot_be_had_before(self, store: Store) -> None:
        put(store, "first")
        put(store, "later", delay=LONG)
        assert store.count("q") == (1, 0, 1)
        assert bodies(claim(store)) == ["first"]
        put(store, "soon", delay=MOMENT)
        until(lambda: store.count("q").ready == 1, "the end of the delay")
        put(store, "last")
        assert sorted(bodies(claim(store))) == ["last", "soon"]
        assert store.count("q") == (0, 3, 1)

    @requires("delay")
    def test_those_that_are_due_come_in_the_order_of_their_times(
        self, store: Store, step: float
    ) -> None:
        moment = max(MOMENT, step)
        delays = {"c": 3 * moment, "a": moment, "b": 2 * moment}
        puts = [Put("q", Envelope(k.encode(), {}, {}), delay=delays[k]) for k in delays]
        store.commit(Batch(puts))
        put(store, *"defghijklmno", delay=4 * moment)
        until(lambda: store.count("q").ready == 15, "the end of the delays")
        assert bodies(claim(store)) == [*"abcdefghijklmno"]

    @requires("delay", "priorities")
    def test_what_is_due_keeps_its_priority(self, store: Store, step: float) -> None:
        put(store, "plain")
        put(store, "urgent", delay=MOMENT, priority=9)
        put(store, "not so", delay=MOMENT, priority=5)
        time.sleep(step + 2 * MOMENT)
        assert bodies(claim(store, 1)) == ["urgent"]
        assert bodies(claim(store)) == ["not so", "plain"]

    @requires("delay")
    def test_a_purge_takes_what_is_due_and_spares_the_delayed(
        self, store: Store, step: float
    ) -> None:
        put(store, "1")
        put(store, "due", delay=MOMENT)
        put(store, "later", delay=LONG)
        time.sleep(step + 2 * MOMENT)
        assert store.purge("q") == 2
        assert store.count("q") == (0, 0, 1)

    @requires("delay", "message_ttl")
    def test_time_to_live_counts_from_the_end_of_the_delay(self, store: Store) -> None:
        put(store, "dead", delay=MOMENT, ttl=MOMENT)
        put(store, "alive", delay=3 * SHORT, ttl=2 * SHORT)
        until(lambda: store.count("q").ready == 2, "the end of the delay")
        time.sleep(2 * MOMENT)
        claimed = claim(store)
        assert bodies(claimed) == ["dead", "alive"]
        assert [each.is_expired for each in claimed] == [True, False]

    @requires("message_ttl")
    def test_what_is_out_of_time_is_claimed_and_flagged(self, store: Store) -> None:
        put(store, "dead", ttl=MOMENT)
        put(store, "alive", ttl=LONG)
        put(store, "for ever")
        time.sleep(2 * MOMENT)
        claimed = claim(store)
        assert bodies(claimed) == ["dead", "alive", "for ever"]
        assert [each.is_expired for each in claimed] == [True, False, False]

    @requires("message_ttl")
    def test_a_claim_of_the_expired_stops_at_the_first_that_lives(self, store: Store) -> None:
        put(store, "dead", "dead too", ttl=MOMENT)
        put(store, "alive", ttl=LONG)
        put(store, "dead behind it", ttl=MOMENT)
        time.sleep(2 * MOMENT)
        wants = [Want("q", 100, expired_only=True)]
        assert bodies(store.claim(wants, ME, 1)) == ["dead"]
        assert bodies(store.claim(wants, ME, 100)) == ["dead too"]
        assert store.claim(wants, ME, 100) == []
        assert store.claim([Want("nowhere", 100, expired_only=True)], ME, 100) == []
        assert bodies(claim(store)) == ["alive", "dead behind it"]

    @requires("message_ttl")
    def test_a_release_keeps_the_time_to_live_that_began(self, store: Store) -> None:
        put(store, "1", ttl=2 * SHORT)
        (owned,) = claim(store)
        assert not owned.is_expired
        time.sleep(2.2 * SHORT)
        assert not release(store, owned).lost
        assert claim(store)[0].is_expired
