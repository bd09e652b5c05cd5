"""The store contract on beanstalkd: queues, claims, waiting, delay, limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from greenstalk import Client

from kombu_beanstalk.layout import Layout
from kombu_beanstalk.store import BeanstalkStore
from kombu_core.exceptions import SessionLostError, UnsupportedError
from kombu_core.message import Malformed
from kombu_core.testing.harness import until
from kombu_core.virtual.store import (
    Batch,
    Claim,
    CommitResult,
    Counts,
    Drop,
    Limit,
    NotEmpty,
    Put,
    Release,
    Want,
)
from kombu_core.virtual.topology import queue_key
from plugins.kombu_beanstalk.tests.steps import claim, envelope, give_back, put, settle, words

OpenStore = Callable[..., BeanstalkStore]


class TestClaims:
    def test_the_highest_first_then_the_oldest(self, me: BeanstalkStore) -> None:
        for word, priority in (("a", 1), ("b", 9), ("c", 255), ("d", 9), ("e", 0)):
            put(me, word, priority=priority)
        claimed = claim(me)
        assert words(claimed) == ["c", "b", "d", "a", "e"]
        assert [item.priority for item in claimed] == [255, 9, 9, 1, 0]

    def test_what_comes_back_has_its_old_place(self, me: BeanstalkStore) -> None:
        put(me, *"abcd")
        held = claim(me, 3)
        give_back(me, [held[2], held[0]])
        put(me, "e")
        again = claim(me)
        assert words(again) == ["a", "c", "d", "e"]
        assert [item.deliveries for item in again] == [1, 1, 0, 0]

    def test_what_nobody_saw_is_not_counted(self, me: BeanstalkStore) -> None:
        put(me, *"ab")
        give_back(me, claim(me), is_delivered=False)
        give_back(me, claim(me, 1))
        give_back(me, claim(me), is_delivered=False)
        assert [item.deliveries for item in claim(me)] == [1, 0]

    def test_a_lost_connection_counts(self, me: BeanstalkStore, open_store: OpenStore) -> None:
        other = open_store()
        other.begin("other", 60)
        put(me, "a")
        claim(other, session="other")
        other.close()
        assert until(lambda: claim(me))[0].deliveries == 1

    def test_many_are_claimed_in_order_and_within_the_limits(self, me: BeanstalkStore) -> None:
        put(me, *map(str, range(700)))
        put(me, "x", "y", queue="p")
        seen: list[str] = []
        while claimed := me.claim([Want("q", 150), Want("p", 1)], "me", 100):
            assert len(claimed) <= 100
            seen += [word for word in words(claimed) if word.isdigit()]
            settle(me, acks=[item.claim for item in claimed])
        assert seen == [str(number) for number in range(700)]

    def test_a_wish_is_served_after_one_that_finds_nothing(self, me: BeanstalkStore) -> None:
        for number in range(60):
            put(me, str(number), queue=f"q{number}")
        empty = [Want(f"empty{number}", 100) for number in range(60)]
        full = [Want(f"q{number}", 100) for number in range(60)]
        claimed = me.claim(empty + full, "me", 256)
        assert words(claimed) == [str(number) for number in range(60)]

    def test_a_session_must_have_begun(self, store: BeanstalkStore) -> None:
        with pytest.raises(SessionLostError):
            claim(store, session="nobody")

    def test_a_settled_claim_cannot_hurt_another(self, me: BeanstalkStore) -> None:
        put(me, "a")
        (held,) = claim(me)
        give_back(me, [held])
        assert settle(me, acks=[held.claim]) == CommitResult()
        assert words(claim(me)) == ["a"]
        assert settle(me, "stranger", acks=[Claim("q", "1")]).lost

    def test_a_session_that_is_over_claims_nothing_and_is_not_renewed(
        self, store: BeanstalkStore
    ) -> None:
        store.begin("me", 0.05)
        put(store, "a", "b")
        held = claim(store, 1)
        time.sleep(1.01)
        with pytest.raises(SessionLostError):
            claim(store)
        assert not store.renew("me", 1)
        # Its job is still reserved, so it is nobody else's.
        assert not settle(store, acks=[held[0].claim]).lost
        assert store.count("q") == Counts(1, 0, 0)

    def test_bytes_that_are_no_envelope(self, me: BeanstalkStore, token: str, raw: Any) -> None:
        raw.use(Layout.of(token, "default").queue("q", 0))
        raw.put(b"hello")
        (item,) = claim(me)
        assert isinstance(item.content, Malformed)
        assert item.content.raw == b"hello"

    @pytest.mark.parametrize(
        "name", ["a b/c;d$e", "ünï☃", "-x", "x" * 250, "ü" * 120, "x" * 249 + "y", "a;late"]
    )
    def test_names_of_any_kind(self, me: BeanstalkStore, name: str) -> None:
        put(me, "mine", queue=name)
        put(me, "other", queue=name + "!")
        put(me, "late", queue=name, delay=30)
        assert me.count(name) == Counts(1, 0, 1)
        assert words(claim(me, queue=name)) == ["mine"]


class TestWaiting:
    def test_it_wakes_for_a_put_and_claims_it(self, me: BeanstalkStore) -> None:
        timer = threading.Timer(0.05, put, (me, "a"))
        timer.start()
        began = time.monotonic()
        assert me.wait(["p", "q"], 30)
        assert time.monotonic() - began < 1
        timer.join()
        (item,) = me.claim([Want("p", 5), Want("q", 5)], "me", 5)
        assert words([item]) == ["a"]
        assert item.deliveries == 0
        assert not settle(me, acks=[item.claim]).lost
        assert me.count("q") == Counts(0, 0, 0)

    def test_what_it_got_joins_what_is_held(self, me: BeanstalkStore) -> None:
        put(me, "a")
        first = claim(me)
        put(me, "b", "c")
        assert me.wait(["q"], 5)
        assert me.count("q") == Counts(2, 1, 0)
        second = claim(me)
        assert words(second) == ["b", "c"]
        assert [item.deliveries for item in second] == [0, 0]
        give_back(me, second)
        assert [item.deliveries for item in claim(me)] == [1, 1]
        assert not settle(me, acks=[first[0].claim]).lost

    def test_what_it_got_goes_back_if_nobody_wants_it(
        self, me: BeanstalkStore, open_store: OpenStore
    ) -> None:
        other = open_store()
        other.begin("other", 60)
        put(me, "a")
        assert me.wait(["q"], 5)
        assert me.claim([Want("p", 1)], "me", 1) == []
        assert claim(other, session="other")[0].deliveries == 0
        other.end("other")
        assert me.wait(["q"], 5)
        me.close()
        other.begin("other", 60)
        assert until(lambda: claim(other, session="other"))[0].deliveries == 1

    def test_a_short_wait_is_short(self, me: BeanstalkStore) -> None:
        began = time.monotonic()
        assert not me.wait(["q"], 0.05)
        assert time.monotonic() - began < 0.5
        assert not me.wait([], 0.01)
        assert not me.wait(["q"], 0)

    def test_it_blocks_nobody(self, me: BeanstalkStore) -> None:
        put(me, "a")
        (held,) = claim(me)
        thread = threading.Thread(target=me.wait, args=(["p"], 30))
        thread.start()
        began = time.monotonic()
        put(me, "b")
        assert me.renew("me", 60)
        assert not settle(me, acks=[held.claim]).lost
        assert words(claim(me)) == ["b"]
        me.write({"a": b"1"}, [])
        assert time.monotonic() - began < 1
        me.close()
        thread.join(timeout=5)
        assert not thread.is_alive()

    def test_two_who_hold_something_do_not_take_turns_for_ever(self, open_store: OpenStore) -> None:
        got: list[str] = []
        done = threading.Event()

        def work(store: BeanstalkStore, session: str) -> None:
            claim(store, queue="held", limit=1, session=session)
            while not done.is_set():
                store.wait(["q"], 1)
                got.extend(words(claim(store, session=session)))

        stores = [open_store() for _ in range(3)]
        put(stores[0], *"abc", queue="held")
        threads = []
        for number, store in enumerate(stores):
            store.begin(str(number), 60)
            threads.append(threading.Thread(target=work, args=(store, str(number))))
            threads[-1].start()
        for number in range(30):
            put(stores[0], str(number))
            until(lambda: len(got) > number, timeout=2)  # noqa: B023
        done.set()
        for thread in threads:
            thread.join()
        assert sorted(got, key=int) == [str(number) for number in range(30)]


class TestTime:
    def test_a_delayed_message_takes_its_place_when_it_is_due(self, me: BeanstalkStore) -> None:
        put(me, "late", delay=0.3, priority=2)
        put(me, "first", priority=2)
        assert me.count("q") == Counts(1, 0, 1)
        until(lambda: me.count("q") == Counts(2, 0, 0))
        put(me, "third", priority=2)
        claimed = claim(me)
        assert words(claimed) == ["first", "late", "third"]
        assert [item.priority for item in claimed] == [2, 2, 2]

    def test_who_waits_wakes_when_it_is_due(self, me: BeanstalkStore) -> None:
        put(me, "late", delay=0.3)
        began = time.monotonic()
        while not (found := claim(me)):
            me.wait(["q"], 10)
        assert words(found) == ["late"]
        assert 0.3 <= time.monotonic() - began < 3

    def test_purging_and_dropping_mean_delayed_ones_too(self, me: BeanstalkStore) -> None:
        put(me, "due", delay=0.1)
        put(me, "far", delay=60)
        until(lambda: me.count("q") == Counts(1, 0, 1))
        assert me.purge("q") == 1
        assert me.count("q") == Counts(0, 0, 1)
        me.write({}, [], [Drop("q")])
        assert me.count("q") == Counts(0, 0, 0)

    def test_out_of_time(self, me: BeanstalkStore) -> None:
        put(me, "a", "b", ttl=0.001)
        put(me, "stays", ttl=60)
        put(me, "c", ttl=0.001)
        time.sleep(0.01)
        expired = [Want("q", 10, expired_only=True)]
        assert words(me.claim(expired, "me", 1)) == ["a"]
        assert words(me.claim(expired, "me", 10)) == ["b"]
        assert me.claim(expired, "me", 10) == []
        claimed = claim(me)
        assert words(claimed) == ["stays", "c"]
        assert [item.is_expired for item in claimed] == [False, True]


class TestDropping:
    def declare(self, store: BeanstalkStore) -> None:
        store.write({queue_key("q"): b"{}"}, [])

    def test_what_somebody_has_of_a_dropped_queue_is_in_nobodys_way(
        self, me: BeanstalkStore, open_store: OpenStore, raw: Client[bytes], token: str
    ) -> None:
        other = open_store()
        other.begin("other", 60)
        self.declare(me)
        put(me, *"abcd")
        mine, _theirs = claim(me, 1), claim(other, 1, "other")
        dropped = other.write({queue_key("q"): None}, [], [Drop("q")]).dropped
        assert dropped == [2]
        self.declare(other)
        put(other, "new")
        give_back(me, mine)
        other.end("other")
        assert words(claim(me)) == ["new"]
        # And the old ones go, by whoever looks after it.
        old = [tube for tube in raw.tubes() if tube.startswith(f"{token}/default/queue/q;")]
        assert len(old) == 2
        until(lambda: (me.reap(), len(_with_jobs(raw, old)) == 1)[1], timeout=20)

    def test_a_queue_that_is_not_empty(self, me: BeanstalkStore) -> None:
        self.declare(me)
        put(me, "a")
        with pytest.raises(NotEmpty):
            me.write({queue_key("q"): None}, [], [Drop("q", if_empty=True)])
        assert words(claim(me)) == ["a"]
        me.write({queue_key("q"): None}, [], [Drop("q", if_empty=True)])
        assert me.count("q") == Counts(0, 0, 0)

    def test_a_message_that_somebody_buried_and_died_comes_back(
        self, me: BeanstalkStore, raw: Client[bytes], token: str
    ) -> None:
        put(me, "a")
        raw.watch(Layout.of(token, "default").queue("q", 0))
        job = raw.reserve(0)
        raw.bury(job, 255)
        assert claim(me) == []
        me.reap()
        assert words(claim(me)) == ["a"]


class TestLimits:
    def limited(self, store: BeanstalkStore, *names: str, **limit: Any) -> CommitResult:
        puts = [Put("q", envelope(name)) for name in names]
        return store.commit(Batch(puts, session="me", limits={"q": Limit(**limit)}))

    def test_the_head_leaves(self, me: BeanstalkStore) -> None:
        assert self.limited(me, *"abcd", max_length=2) == CommitResult()
        held = claim(me, 1)
        self.limited(me, *"ef", max_length=2)
        assert me.count("q") == Counts(2, 1, 0)
        settle(me, releases=[Release(held[0].claim)], limits={"q": Limit(2)})
        assert words(claim(me)) == ["e", "f"]

    def test_dropped_messages_are_claimed_for_the_session(self, me: BeanstalkStore) -> None:
        put(me, "a", priority=4)
        dropped = self.limited(me, "b", "c", max_length=1, keep_dropped=True).dropped
        assert words(list(dropped)) == ["a", "b"]
        assert not settle(me, acks=[item.claim for item in dropped]).lost
        assert me.count("q") == Counts(1, 0, 0)

    def test_a_full_queue_rejects(self, me: BeanstalkStore) -> None:
        puts = [Put(queue, envelope(queue + str(i))) for i in range(3) for queue in ("q", "p")]
        limits = {"q": Limit(2, overflow="reject"), "p": Limit(3, overflow="reject")}
        assert me.commit(Batch(puts, limits=limits)).rejected == [4]
        assert words(claim(me)) == ["q0", "q1"]
        assert words(claim(me, queue="p")) == ["p0", "p1", "p2"]

    def test_many_publishers_push_out_no_more_than_they_must(self, open_store: OpenStore) -> None:
        stores = [open_store() for _ in range(4)]
        threads = [
            threading.Thread(target=lambda store=store: [
                self.limited(store, "x", max_length=5) for _ in range(20)
            ])
            for store in stores
        ]  # fmt: skip
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert stores[0].count("q") == Counts(5, 0, 0)

    def test_bytes_are_not_counted(self, me: BeanstalkStore) -> None:
        with pytest.raises(UnsupportedError):
            self.limited(me, "a", max_bytes=10)


def _with_jobs(raw: Client[bytes], tubes: list[str]) -> list[str]:
    there = [raw.stats_tube(tube) for tube in tubes if tube in raw.tubes()]
    states = ("ready", "reserved", "delayed", "buried")
    return [s["name"] for s in there if any(dict(s)[f"current-jobs-{state}"] for state in states)]
