"""The store contract on Redis: delay, time to live, limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from kombu_core.testing.harness import until
from kombu_core.virtual.store import (
    Batch,
    Claimed,
    CommitResult,
    Counts,
    Limit,
    Put,
    Release,
    Want,
)
from kombu_redis.layout import Layout
from kombu_redis.store import RedisStore
from plugins.kombu_redis.tests.steps import claim, envelope, give_back, put, settle, words

OpenStore = Callable[..., RedisStore]


class TestTime:
    def test_a_delayed_message_waits(self, me: RedisStore) -> None:
        put(me, "late", delay=0.15)
        put(me, "now")
        assert me.count("q") == Counts(1, 0, 1)
        assert words(claim(me)) == ["now"]
        assert words(until(lambda: claim(me))) == ["late"]

    def test_it_takes_its_place_when_it_is_due(self, me: RedisStore) -> None:
        put(me, "second", delay=0.05)
        put(me, "first")
        until(lambda: me.count("q") == Counts(2, 0, 0))
        put(me, "third")
        assert words(claim(me)) == ["first", "second", "third"]

    def test_due_messages_keep_order_and_priority(self, me: RedisStore) -> None:
        put(me, *(str(i) for i in range(12)), delay=0.02)
        put(me, "high", delay=0.02, priority=5)
        until(lambda: me.count("q").ready == 13)
        assert words(claim(me)) == ["high", *(str(i) for i in range(12))]

    def test_more_than_a_thousand_fall_due_at_once(self, me: RedisStore) -> None:
        put(me, *(str(i) for i in range(2500)), delay=0.02)
        until(lambda: me.count("q").ready == 2500)
        claimed: list[Claimed] = []
        while more := claim(me, 5000):
            claimed += more
        assert words(claimed) == [str(i) for i in range(2500)]

    def test_a_message_out_of_time_is_flagged(self, me: RedisStore) -> None:
        put(me, "gone", ttl=0.001)
        put(me, "long", ttl=60)
        put(me, "ever")
        time.sleep(0.01)
        claimed = claim(me)
        assert words(claimed) == ["gone", "long", "ever"]
        assert [item.is_expired for item in claimed] == [True, False, False]

    def test_time_runs_on_while_it_is_claimed(self, me: RedisStore) -> None:
        put(me, "a", ttl=0.05)
        claimed = claim(me)
        assert not claimed[0].is_expired
        time.sleep(0.06)
        give_back(me, claimed)
        assert claim(me)[0].is_expired

    def test_a_ttl_counts_from_the_end_of_the_delay(self, me: RedisStore) -> None:
        put(me, "a", delay=0.1, ttl=0.05)
        time.sleep(0.06)
        assert me.count("q") == Counts(0, 0, 1)
        time.sleep(0.06)
        assert not claim(me)[0].is_expired

    def test_only_the_expired_head(self, me: RedisStore) -> None:
        put(me, "a", "b", ttl=0.001)
        put(me, "stays", ttl=60)
        put(me, "c", ttl=0.001)
        time.sleep(0.01)
        expired = [Want("q", 10, expired_only=True)]
        assert words(me.claim(expired[:1], "me", 1)) == ["a"]
        assert words(me.claim(expired, "me", 10)) == ["b"]
        assert me.claim(expired, "me", 10) == []
        assert me.claim([Want("unknown", 10, expired_only=True)], "me", 10) == []
        assert words(claim(me)) == ["stays", "c"]


class TestLimits:
    def limited(
        self, store: RedisStore, *names: str, session: str = "me", **limit: Any
    ) -> CommitResult:
        batch = Batch([Put("q", envelope(name)) for name in names], session=session)
        return store.commit(batch._replace(limits={"q": Limit(**limit)}))

    def test_the_oldest_leaves(self, me: RedisStore) -> None:
        assert self.limited(me, *"abcd", max_length=2) == CommitResult()
        self.limited(me, "e", max_length=2)
        assert words(claim(me)) == ["d", "e"]
        assert me.count("q") == Counts(0, 2, 0)

    def test_the_head_leaves_even_if_its_priority_is_the_highest(self, me: RedisStore) -> None:
        put(me, "high", priority=9)
        put(me, *"abc", priority=1)
        self.limited(me, "low", max_length=3)
        assert words(claim(me)) == ["b", "c", "low"]

    def test_what_is_claimed_does_not_count(self, me: RedisStore) -> None:
        self.limited(me, *"ab", max_length=2)
        held = claim(me)
        self.limited(me, *"cd", max_length=2)
        assert me.count("q") == Counts(2, 2, 0)
        settle(me, releases=[Release(item.claim) for item in held], limits={"q": Limit(2)})
        assert words(claim(me)) == ["c", "d"]

    def test_a_queue_of_length_0_keeps_nothing(self, me: RedisStore) -> None:
        self.limited(me, *"ab", max_length=0)
        assert me.count("q") == Counts(0, 0, 0)

    def test_dropped_messages_are_claimed_for_the_session(self, me: RedisStore) -> None:
        put(me, "a", priority=4)
        dropped = self.limited(me, "b", "c", max_length=1, keep_dropped=True).dropped
        assert words(list(dropped)) == ["a", "b"]
        assert [item.priority for item in dropped] == [4, 0]
        assert me.count("q") == Counts(1, 2, 0)
        assert not settle(me, acks=[item.claim for item in dropped]).lost
        assert me.count("q") == Counts(1, 0, 0)

    def test_what_was_dropped_for_a_session_without_a_lease_comes_back(
        self, me: RedisStore
    ) -> None:
        put(me, "a")
        dropped = self.limited(me, "b", session="new", max_length=1, keep_dropped=True).dropped
        assert words(list(dropped)) == ["a"]
        assert me.reap() == ["new"]
        me.end("new")
        assert words(claim(me)) == ["a", "b"]

    def test_a_full_queue_rejects(self, me: RedisStore) -> None:
        puts = [Put("p", envelope("x"))]
        puts += [Put(queue, envelope(queue + str(i))) for i in range(3) for queue in ("q", "p")]
        limits = {"q": Limit(2, overflow="reject"), "p": Limit(3, overflow="reject")}
        assert me.commit(Batch(puts, limits=limits)).rejected == [5, 6]
        assert words(claim(me)) == ["q0", "q1"]
        assert words(claim(me, queue="p")) == ["x", "p0", "p1"]

    @pytest.mark.parametrize("overflow", ["drop-head", "reject"])
    def test_bytes_of_bodies_are_limited(self, me: RedisStore, overflow: Any) -> None:
        put(me, "12345")
        limit = {"max_bytes": 12, "overflow": overflow}
        assert not self.limited(me, "67890", **limit).rejected
        result = self.limited(me, "abc", "d", **limit)
        if overflow == "reject":
            assert result.rejected == [0]
            assert words(claim(me)) == ["12345", "67890", "d"]
        else:
            assert words(claim(me)) == ["67890", "abc", "d"]

    def test_bytes_follow_claim_release_ack_purge_and_delay(
        self, me: RedisStore, raw: Redis, token: str
    ) -> None:
        def counted() -> int:
            return int(raw.get(Layout(token, "0").key("bytes", "q")) or 0)

        self.limited(me, "12345", "678", max_bytes=1000)
        assert counted() == 8
        held = claim(me, 1)
        assert counted() == 3
        give_back(me, held)
        assert counted() == 8
        settle(me, acks=[item.claim for item in claim(me, 1)])
        put(me, "ab", delay=0.01)
        assert counted() == 3
        until(lambda: me.count("q").ready == 2)
        put(me, "c")
        assert counted() == 6
        held = claim(me, 1)
        me.purge("q")
        assert counted() == 0
        me.end("me")
        assert counted() == 3
        self.limited(me, "x", max_length=1)
        assert counted() == 1
