"""Sessions and their leases: `begin`, `renew`, `end`, `reap`, and what is lost with one."""

from __future__ import annotations

import time

import pytest

from kombu_core.exceptions import SessionLostError
from kombu_core.message import Envelope
from kombu_core.testing.harness import until
from kombu_core.testing.store.fixtures import LONG, ME, ack, bodies, claim, put
from kombu_core.virtual.store import Batch, Put, Release, Store, Want

#: A lease that a test waits out (seconds). Too short to do something within it.
SHORT = 0.01
#: One that lasts for a call.
LASTS = 0.25


def let_lapse(store: Store, session: str) -> None:
    """Let a session's lease run out now, and wait until it was noticed."""
    store.begin(session, SHORT)
    until(lambda: session in store.reap(), f"the end of session {session!r}, named by `reap`")


class SessionContract:
    """Who has what, and for how long."""

    def test_a_session_that_never_began_claims_nothing(self, store: Store) -> None:
        put(store, "1")
        with pytest.raises(SessionLostError):
            claim(store, session="nobody")
        assert store.count("q") == (1, 0, 0)

    def test_a_session_whose_lease_ran_out_claims_nothing(self, store: Store) -> None:
        put(store, "1")
        store.begin("a", SHORT)
        time.sleep(2 * SHORT)
        for wants in ([Want("q", 1)], [Want("p", 1), Want("q", 1)]):
            with pytest.raises(SessionLostError):
                store.claim(wants, "a", 2)
        assert store.count("q") == (1, 0, 0)

    def test_a_session_that_is_renewed_lives_on(self, store: Store) -> None:
        put(store, "1")
        store.begin("a", LASTS)
        assert store.renew("a", LONG)
        claimed = claim(store, session="a")
        time.sleep(LASTS)
        let_lapse(store, "b")
        assert "a" not in store.reap()
        assert claim(store, session="a") == []
        assert not ack(store, *claimed, session="a").lost
        assert store.count("q") == (0, 0, 0)

    def test_a_lapsed_session_gives_its_claims_back_as_delivered(self, store: Store) -> None:
        put(store, "1", "2", "3")
        put(store, "4", queue="p")
        store.begin("dead", LONG)
        assert bodies(claim(store, 2, session="dead")) == ["1", "2"]
        assert bodies(claim(store, queue="p", session="dead")) == ["4"]
        assert not store.reap()
        let_lapse(store, "dead")
        again = store.claim([Want("q", 9), Want("p", 9)], ME, 9)
        assert bodies(again) == ["1", "2", "3", "4"]
        assert [each.deliveries for each in again] == [1, 1, 0, 1]
        assert not ack(store, *again).lost

    def test_a_lapsed_session_is_named_until_it_is_ended(self, store: Store, other: Store) -> None:
        let_lapse(store, "b")
        let_lapse(store, "a")
        until(lambda: sorted(other.reap()) == ["a", "b"], "the same, as another handle sees it,")
        assert sorted(store.reap()) == ["a", "b"]
        for _ in range(2):
            other.end("a")
        assert list(store.reap()) == ["b"]
        store.end("b")
        assert not store.reap()

    def test_a_lapsed_session_can_neither_be_renewed_nor_claim(self, store: Store) -> None:
        put(store, "1")
        let_lapse(store, "a")
        assert not store.renew("a", LONG)
        assert not store.renew("nobody", LONG)
        with pytest.raises(SessionLostError):
            claim(store, session="a")

    @pytest.mark.parametrize("is_ended", [False, True])
    def test_a_lapsed_session_may_begin_anew(self, store: Store, is_ended: bool) -> None:
        let_lapse(store, "a")
        if is_ended:
            store.end("a")
        store.begin("a", LONG)
        assert store.renew("a", LONG)
        put(store, "1")
        assert bodies(claim(store, session="a")) == ["1"]
        assert not store.reap()

    def test_an_ended_session_gives_its_claims_back_and_no_others(self, store: Store) -> None:
        put(store, "1", "2", "3")
        store.begin("a", LONG)
        claim(store, 1, session="a")
        mine = claim(store, 1)
        for _ in range(2):
            store.end("a")
        assert store.count("q") == (2, 1, 0)
        assert not store.renew("a", LONG)
        assert not ack(store, *mine).lost
        assert [each.deliveries for each in claim(store)] == [1, 0]

    @pytest.mark.parametrize("how", ["lapsed", "ended", "unknown"])
    def test_a_settle_after_the_session_was_lost_applies_nothing(
        self, store: Store, other: Store, how: str
    ) -> None:
        put(store, "1", "2")
        store.begin("late", LONG)
        first, second = claim(store, session="late")
        if how == "lapsed":
            let_lapse(store, "late")
        elif how == "ended":
            store.end("late")
        session = "nobody" if how == "unknown" else "late"
        puts = [Put("q", Envelope(b"3", {}, {}))]
        batch = Batch(puts, [first.claim], [Release(second.claim)], session=session)
        assert list(other.commit(batch).lost) == [first.claim, second.claim]
        assert store.count("q") == ((0, 2, 0) if how == "unknown" else (2, 0, 0))

    def test_a_lost_claim_is_never_taken_from_its_next_owner(self, store: Store) -> None:
        put(store, "1")
        store.begin("late", LONG)
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
        if store.capabilities.releases_on_close:
            until(lambda: other.count("q") == (1, 0, 0), "the return of what was claimed")
        else:
            assert other.count("q") == (0, 1, 0)
        assert ME not in other.reap()
