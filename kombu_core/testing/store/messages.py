"""Messages on their way through a queue: `commit`, `claim`, `count`, `purge`."""

from __future__ import annotations

import pytest

from kombu_core.message import Envelope
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.store.fixtures import LONG, ME, ack, bodies, claim, put, release
from kombu_core.virtual.store import Batch, Claimed, Conflict, Drop, Put, Release, Store, Want


class MessageContract:
    """Put, claimed, settled."""

    def test_what_is_claimed_is_what_was_put(self, store: Store, other: Store) -> None:
        envelope = Envelope(
            b"\x00\xff", {"priority": 3, "type": "t"}, {"h": [1, b"\x80"]}, "x", "r"
        )
        store.commit(Batch([Put("q", envelope)]))
        other.begin("you", LONG)
        (claimed,) = claim(other, session="you")
        assert claimed.content == envelope
        assert (claimed.claim.queue, claimed.deliveries, claimed.is_expired) == ("q", 0, False)

    def test_the_oldest_comes_first(self, store: Store) -> None:
        put(store, *"1234567890ab")
        put(store, "c")
        assert "".join(bodies(claim(store, 5) + claim(store))) == "1234567890abc"
        assert claim(store) == []

    def test_thousands_keep_their_order(self, store: Store) -> None:
        names = [str(number) for number in range(5000)]
        put(store, *names)
        claimed: list[Claimed] = []
        while more := claim(store, 2000):
            claimed += more
        assert bodies(claimed) == names
        assert not ack(store, *claimed).lost
        assert store.count("q") == (0, 0, 0)

    def test_each_queue_has_its_own_copy(self, store: Store) -> None:
        same = Envelope(b"same", {}, {})
        store.commit(Batch([Put("q", same), Put("p", same), Put("q", same)]))
        assert bodies(claim(store, queue="p")) == ["same"]
        assert bodies(claim(store)) == ["same", "same"]

    def test_a_large_body_comes_whole(self, store: Store) -> None:
        room = store.capabilities.max_message_bytes
        body = (bytes(range(256)) * 40_000)[: room and room // 2]
        store.commit(Batch([Put("q", Envelope(body, {}, {}))]))
        (claimed,) = claim(store)
        assert isinstance(claimed.content, Envelope)
        assert claimed.content.body == body

    @requires("priorities")
    def test_the_highest_priority_comes_first(self, store: Store) -> None:
        for body, priority in (("a", 0), ("x", 7), ("high", 255), ("b", 0), ("y", 7)):
            put(store, body, priority=priority)
        claimed = claim(store)
        assert bodies(claimed) == ["high", "x", "y", "a", "b"]
        assert [each.priority for each in claimed] == [255, 7, 7, 0, 0]

    def test_a_claim_serves_its_wants_in_order_up_to_its_limit(self, store: Store) -> None:
        put(store, "a1", "a2", "a3", queue="a")
        put(store, "b1", "b2", queue="b")
        wants = [Want("b", 1), Want("nowhere", 5), Want("a", 9)]
        assert bodies(store.claim(wants, ME, 3)) == ["b1", "a1", "a2"]
        assert store.claim(wants, ME, 0) == store.claim([], ME, 5) == []

    def test_what_is_claimed_is_nobody_elses(self, store: Store, other: Store) -> None:
        put(store, "1", "2", "3")
        other.begin("you", 60.0)
        assert bodies(claim(store, 2)) == ["1", "2"]
        assert bodies(claim(other, session="you")) == ["3"]
        assert store.count("q") == other.count("q") == (0, 3, 0)

    def test_an_acknowledged_message_is_gone(self, store: Store) -> None:
        put(store, "1", "2")
        claimed = claim(store)
        for _ in range(2):
            assert not ack(store, *claimed).lost
        assert store.count("q") == (0, 0, 0)

    @pytest.mark.parametrize(("is_delivered", "deliveries"), [(True, 1), (False, 0)])
    def test_a_release_goes_back_to_its_old_place(
        self, store: Store, is_delivered: bool, deliveries: int
    ) -> None:
        priority = 3 if store.capabilities.priorities else 0
        put(store, "1", "2", "3", "4", priority=priority)
        claimed = claim(store, 3)
        put(store, "5", priority=priority)
        for each in (claimed[2], claimed[0], claimed[1]):
            assert not release(store, each, is_delivered=is_delivered).lost
        again = claim(store)
        assert bodies(again) == ["1", "2", "3", "4", "5"]
        assert [each.deliveries for each in again] == [deliveries] * 3 + [0, 0]
        assert not release(store, *again).lost
        assert [each.deliveries for each in claim(store)] == [deliveries + 1] * 3 + [1, 1]

    def test_puts_acks_and_releases_go_in_one_step(self, store: Store) -> None:
        put(store, "1", "2")
        first, second = claim(store)
        puts = [Put("out", Envelope(b"done", {}, {}))]
        batch = Batch(puts, [first.claim], [Release(second.claim)], session=ME)
        assert not any(store.commit(batch))
        assert store.count("q") == (1, 0, 0)
        assert bodies(claim(store, queue="out")) == ["done"]

    def test_an_empty_batch_does_nothing(self, store: Store) -> None:
        assert not any(store.commit(Batch()))
        with pytest.raises(Conflict):
            store.commit(Batch(expect=[("a", 1)]))

    def test_a_claim_settled_twice_in_a_batch_is_settled_once(self, store: Store) -> None:
        put(store, "1")
        (owned,) = claim(store)
        acks, releases = [owned.claim, owned.claim], [Release(owned.claim)]
        assert not store.commit(Batch(acks=acks, releases=releases, session=ME)).lost
        assert store.count("q") == (0, 0, 0)
        assert claim(store) == []

    def test_a_session_that_lives_lost_nothing(self, store: Store, other: Store) -> None:
        """Not even what another session has, or what was dropped: to settle it does nothing."""
        put(store, "1", "2")
        put(store, "3", queue="dropped")
        first, second, third = claim(store) + claim(store, queue="dropped")
        store.write({}, (), [Drop("dropped")])
        other.begin("you", LONG)
        batch = Batch(acks=[first.claim, third.claim], releases=[Release(second.claim)])
        assert not any(other.commit(batch._replace(session="you")))
        assert store.count("q") == (0, 2, 0)
        assert not any(store.commit(batch._replace(session=ME)))
        assert store.count("q") == (1, 0, 0)

    def test_a_purge_deletes_what_is_ready_and_spares_the_claimed(self, store: Store) -> None:
        put(store, "claimed", "1", "2")
        owned = claim(store, 1)
        assert store.purge("q") == 2
        assert store.purge("q") == store.purge("nowhere") == 0
        assert store.count("q") == (0, 1, 0)
        release(store, *owned)
        put(store, "3")
        assert bodies(claim(store)) == ["claimed", "3"]

    def test_a_queue_that_was_never_used_is_empty(self, store: Store) -> None:
        assert store.count("nowhere") == (0, 0, 0)
        assert claim(store, queue="nowhere") == []
