"""Sessions and their leases: `begin`, `renew`, `end`, `reap`, and what is lost with one."""

from __future__ import annotations

import pytest

from kombu_core.exceptions import SessionLostError
from kombu_core.message import Envelope
from kombu_core.testing.harness import until
from kombu_core.testing.store.fixtures import LONG, ME, ack, bodies, claim, put
from kombu_core.virtual.store import Batch, Put, Release, Store

#: A lease that a test waits out (seconds).
SHORT = 0.1


def let_lapse(store: Store, session: str) -> None:
    """Wait until a session's lease ran out and was noticed."""
    until(lambda: session in store.reap(), f"the end of session {session!r}, named by `reap`")


class SessionContract:
    """Who has what, and for how long."""

    def test_a_session_that_never_began_claims_nothing(self, store: Store) -> None:
        put(store, "1")
        with pytest.raises(SessionLostError):
            claim(store, session="nobody")
        assert store.count("q") == (1, 0, 0)

    def test_a_session_that_is_renewed_lives_on(self, store: Store) -> None:
        store.begin("a", SHORT)
        assert store.renew("a", 60.0)
        store.begin("b", SHORT)
        let_lapse(store, "b")
        assert "a" not in store.reap()
        assert claim(store, session="a") == []

    def test_a_lapsed_session_gives_its_claims_back_as_delivered(self, store: Store) -> None:
        put(store, "1", "2", "3")
        store.begin("dead", SHORT)
        assert bodies(claim(store, 2, session="dead")) == ["1", "2"]
        let_lapse(store, "dead")
        again = claim(store)
        assert bodies(again) == ["1", "2", "3"]
        assert [each.deliveries for each in again] == [1, 1, 0]

    def test_a_lapsed_session_is_named_until_it_is_ended(self, store: Store, other: Store) -> None:
        store.begin("a", SHORT)
        let_lapse(store, "a")
        assert list(other.reap()) == list(store.reap()) == ["a"]
        for _ in range(2):
            other.end("a")
        assert not store.reap()

    def test_a_lapsed_session_can_neither_be_renewed_nor_claim(self, store: Store) -> None:
        put(store, "1")
        store.begin("a", SHORT)
        let_lapse(store, "a")
        assert not store.renew("a", 60.0)
        assert not store.renew("nobody", 60.0)
        with pytest.raises(SessionLostError):
            claim(store, session="a")

    def test_a_session_whose_lease_ran_out_claims_nothing_though_nobody_reaped_it(
        self, store: Store
    ) -> None:
        store.begin("late", SHORT)

        def refuses() -> bool:
            try:
                claim(store, session="late")
            except SessionLostError:
                return True
            return False

        until(refuses, "the end of a lease, seen by `claim`")

    def test_a_lapsed_session_may_begin_anew(self, store: Store) -> None:
        put(store, "1")
        store.begin("a", SHORT)
        let_lapse(store, "a")
        store.begin("a", LONG)
        assert store.renew("a", LONG)
        assert bodies(claim(store, session="a")) == ["1"]

    def test_an_ended_session_gives_its_claims_back_and_no_others(self, store: Store) -> None:
        put(store, "1", "2")
        store.begin("a", 60.0)
        claim(store, 1, session="a")
        mine = claim(store, 1)
        store.end("a")
        assert store.count("q") == (1, 1, 0)
        assert not ack(store, *mine).lost

    def test_a_settle_after_the_session_was_lost_applies_nothing(self, store: Store) -> None:
        put(store, "1", "2")
        store.begin("late", SHORT)
        first, second = claim(store, session="late")
        let_lapse(store, "late")
        puts = [Put("q", Envelope(b"3", {}, {}))]
        batch = Batch(puts, [first.claim], [Release(second.claim)], session="late")
        assert list(store.commit(batch).lost) == [first.claim, second.claim]
        assert store.count("q") == (2, 0, 0)

    def test_a_lost_claim_is_never_taken_from_its_next_owner(self, store: Store) -> None:
        put(store, "1")
        store.begin("late", SHORT)
        (lost,) = claim(store, session="late")
        let_lapse(store, "late")
        assert len(claim(store, session=ME)) == 1
        assert list(ack(store, lost, session="late").lost) == [lost.claim]
        released = store.commit(Batch(releases=[Release(lost.claim)], session="late"))
        assert list(released.lost) == [lost.claim]
        assert store.count("q") == (0, 1, 0)

    def test_closing_ends_no_session_and_can_be_repeated(self, store: Store, other: Store) -> None:
        put(store, "1")
        claim(store)
        store.close()
        store.close()
        assert other.count("q") == (0, 1, 0)
