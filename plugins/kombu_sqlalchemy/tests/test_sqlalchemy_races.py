"""The store contract on each database: guards, limits, sessions, and what happens at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from kombu_core.exceptions import SessionLostError
from kombu_core.virtual.store import (
    Batch,
    Conflict,
    Counts,
    Drop,
    Limit,
    Put,
    Want,
)
from kombu_sqlalchemy.store import SQLAlchemyStore
from plugins.kombu_sqlalchemy.tests.steps import (
    claim,
    envelope,
    put,
    settle,
    together,
    words,
)

OpenStore = Callable[..., SQLAlchemyStore]


class TestGuards:
    """Who publishes and who changes the topology, at the same moment."""

    def test_writers_of_one_document_follow_each_other(self, open_store: OpenStore) -> None:
        stores = [open_store() for _ in range(4)]
        stores[0].write({"n": b"0"}, [])

        def count(store: SQLAlchemyStore) -> None:
            for _ in range(25):
                while True:
                    (there,) = store.read(["n"])
                    try:
                        store.write({"n": b"%d" % (int(there.value) + 1)}, [("n", there.version)])
                    except Conflict:
                        continue
                    break

        together(*(lambda store=store: count(store) for store in stores))
        assert stores[0].read(["n"])[0].value == b"100"

    def test_of_two_who_create_one_wins(self, open_store: OpenStore) -> None:
        stores = [open_store() for _ in range(4)]
        for number in range(20):
            won: list[int] = []

            def create(store: SQLAlchemyStore, key: str, won: list[int]) -> None:
                try:
                    store.write({key: b"x"}, [(key, 0), ("other", 0)])
                except Conflict:
                    return
                won.append(1)

            key = f"k{number}"
            together(*(lambda s=s, k=key, w=won: create(s, k, w) for s in stores))
            assert len(won) == 1

    def test_what_is_not_there_guards_too(self, open_store: OpenStore) -> None:
        """Each of two writers is sure that the document of the other one is not there."""
        one, two = open_store(), open_store()
        for number in range(20):
            a, b = f"a{number}", f"b{number}"
            done: list[str] = []

            def create(store: SQLAlchemyStore, mine: str, other: str, done: list[str]) -> None:
                try:
                    store.write({mine: b"x"}, [(other, 0)])
                except Conflict:
                    return
                done.append(mine)

            together(partial(create, one, a, b, done), partial(create, two, b, a, done))
            assert len(done) == 1

    def test_no_put_outlives_the_queue_that_it_was_for(self, open_store: OpenStore) -> None:
        """Dropped and declared again all the time: what was confirmed for an old one is gone."""
        admin, *publishers = [open_store() for _ in range(4)]
        admin.write({"queue/q": b"0"}, [])
        is_over = threading.Event()

        def publish(store: SQLAlchemyStore) -> None:
            while not is_over.is_set():
                (there,) = store.read(["queue/q"])
                if there.version:
                    word = there.value.decode()
                    expect = [("queue/q", there.version)]
                    try:
                        store.commit(Batch([Put("q", envelope(word))] * 2, expect=expect))
                        store.commit(Batch([Put("q", envelope(word))], expect=expect))
                    except Conflict:
                        pass

        def declare() -> None:
            try:
                admin.begin("me", 60)
                for number in range(1, 40):
                    time.sleep(0.005)
                    admin.write({"queue/q": None}, [], [Drop("q")])
                    assert admin.count("q") == Counts(0, 0, 0)
                    admin.write({"queue/q": b"%d" % number}, [])
                    assert set(words(claim(admin))) <= {str(number)}
            finally:
                is_over.set()

        together(declare, *(lambda store=store: publish(store) for store in publishers))

    def test_a_publish_that_begins_later_sees_the_change(self, open_store: OpenStore) -> None:
        admin, publisher = open_store(), open_store()
        version = 0
        for number in range(30):
            stale = version
            version = admin.write({"exchange/x": b"%d" % number}, []).versions["exchange/x"]
            with pytest.raises(Conflict) as caught:
                publisher.commit(Batch([Put("q", envelope("x"))], expect=[("exchange/x", stale)]))
            assert caught.value.keys == ("exchange/x",)
            publisher.commit(Batch([Put("q", envelope("x"))], expect=[("exchange/x", version)]))
        assert publisher.count("q").ready == 30


class TestLimits:
    def test_the_head_leaves(self, me: SQLAlchemyStore) -> None:
        limits = {"q": Limit(max_length=2)}
        result = settle(me, puts=[Put("q", envelope(word)) for word in "abcd"], limits=limits)
        assert (result.rejected, result.dropped) == ([], [])
        assert words(claim(me)) == ["c", "d"]

    def test_what_left_is_the_sessions(self, me: SQLAlchemyStore) -> None:
        limits = {"q": Limit(max_length=1, keep_dropped=True)}
        result = settle(me, puts=[Put("q", envelope(word)) for word in "abc"], limits=limits)
        assert words(list(result.dropped)) == ["a", "b"]
        assert me.count("q") == Counts(1, 2, 0)
        me.end("me")
        assert me.count("q") == Counts(3, 0, 0)

    def test_what_left_for_nobody_is_found_by_who_reaps(self, store: SQLAlchemyStore) -> None:
        limits = {"q": Limit(max_length=1, keep_dropped=True)}
        settle(store, "ghost", puts=[Put("q", envelope(word)) for word in "ab"], limits=limits)
        assert store.reap() == ["ghost"]
        store.end("ghost")
        assert store.count("q") == Counts(2, 0, 0)

    def test_bytes_count(self, me: SQLAlchemyStore) -> None:
        limits = {"q": Limit(max_bytes=10)}
        settle(me, puts=[Put("q", envelope(word * 4)) for word in "abcd"], limits=limits)
        assert words(claim(me)) == ["cccc", "dddd"]
        limits = {"q": Limit(max_bytes=10, overflow="reject")}
        result = settle(me, puts=[Put("q", envelope(word * 4)) for word in "abc"], limits=limits)
        assert result.rejected == [2]

    def test_a_full_queue_refuses(self, me: SQLAlchemyStore) -> None:
        limits = {"q": Limit(max_length=2, overflow="reject")}
        puts = [Put("q", envelope("a")), Put("p", envelope("x")), Put("q", envelope("b"))]
        assert settle(me, puts=puts, limits=limits).rejected == []
        assert settle(me, puts=puts, limits=limits).rejected == [0, 2]
        assert (me.count("q").ready, me.count("p").ready) == (2, 2)

    def test_many_who_publish_keep_a_limit(self, open_store: OpenStore) -> None:
        stores = [open_store() for _ in range(4)]
        version = stores[0].write({"queue/q": b"1"}, []).versions["queue/q"]
        refused: list[int] = []

        def publish(store: SQLAlchemyStore) -> None:
            for _ in range(20):
                result = store.commit(
                    Batch(
                        [Put("q", envelope("x"))] * 3,
                        expect=[("queue/q", version)],
                        limits={"q": Limit(max_length=50, overflow="reject")},
                    )
                )
                refused.extend(result.rejected)

        together(*(lambda store=store: publish(store) for store in stores))
        assert stores[0].count("q").ready == 50
        assert len(refused) == 4 * 20 * 3 - 50


class TestSessions:
    def test_only_a_session_claims(self, store: SQLAlchemyStore) -> None:
        put(store, "a")
        with pytest.raises(SessionLostError):
            claim(store)
        with pytest.raises(SessionLostError):
            store.claim([Want("q", 1), Want("p", 1)], "me", 2)
        store.begin("me", 0.02)
        time.sleep(0.03)
        with pytest.raises(SessionLostError):
            claim(store)
        assert store.count("q") == Counts(1, 0, 0)

    def test_a_lease_that_nobody_reaped_is_renewed(self, store: SQLAlchemyStore) -> None:
        put(store, "a")
        store.begin("me", 0.5)
        (item,) = claim(store)
        time.sleep(0.51)
        assert store.renew("me", 60)
        assert not settle(store, acks=[item.claim]).lost

    def test_the_claims_of_the_dead_come_back(
        self, store: SQLAlchemyStore, open_store: OpenStore
    ) -> None:
        other = open_store()
        other.begin("you", 60)
        put(store, *"abc")
        put(store, "z", queue="p")
        store.begin("me", 0.5)
        held = claim(store, 2) + claim(store, queue="p")
        assert other.reap() == []
        time.sleep(0.51)
        assert other.reap() == ["me"]
        assert not store.renew("me", 60)
        with pytest.raises(SessionLostError):
            claim(store)
        again = other.claim([Want("q", 9), Want("p", 9)], "you", 9)
        assert words(again) == ["a", "b", "c", "z"]
        assert [item.deliveries for item in again] == [1, 1, 0, 1]
        claims = [item.claim for item in held]
        assert settle(store, acks=claims).lost == claims
        assert other.reap() == ["me"]
        other.end("me")
        assert other.reap() == []

    def test_end_gives_back_and_may_be_repeated(self, me: SQLAlchemyStore) -> None:
        put(me, *"ab")
        claim(me)
        me.end("me")
        me.end("me")
        assert me.count("q") == Counts(2, 0, 0)
        assert not me.renew("me", 1)

    def test_no_claim_outlives_its_session(self, open_store: OpenStore) -> None:
        """Claims and the end of the session they are for, at the same moment."""
        worker, admin = open_store(), open_store()
        put(admin, *(str(i) for i in range(200)))
        for _ in range(20):
            admin.begin("me", 60)

            def work() -> None:
                try:
                    while claim(worker, 3):
                        pass
                except SessionLostError:
                    pass

            def end() -> None:
                time.sleep(0.004)
                admin.end("me")

            together(work, end)
            assert admin.count("q") == Counts(200, 0, 0)

    def test_claims_are_exclusive(self, open_store: OpenStore) -> None:
        stores = [open_store() for _ in range(4)]
        put(stores[0], *(str(i) for i in range(1000)))
        found: list[str] = []

        def work(name: str, store: SQLAlchemyStore) -> None:
            store.begin(name, 60)
            while claimed := claim(store, 7, name):
                found.extend(words(claimed))
                settle(store, name, acks=[item.claim for item in claimed])

        together(*(lambda n=n, s=s: work(f"w{n}", s) for n, s in enumerate(stores)))
        # One may have found nothing while the others still had rows locked.
        stores[0].begin("last", 60)
        assert len(found) + len(claim(stores[0], 1000, "last")) == 1000
        assert len(set(found)) == len(found)
