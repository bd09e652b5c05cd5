"""The store contract on Redis, and what is special to its keys and scripts."""

from __future__ import annotations

import time
from typing import Any

import pytest
from redis import Redis

from kombu_core.message import Envelope, Malformed
from kombu_core.testing.harness import until
from kombu_core.testing.store import StoreContract
from kombu_core.virtual.store import Batch, Claimed, Counts, Drop, Limit, Put
from kombu_redis.layout import BAND, Layout, priority_of
from kombu_redis.store import RedisStore
from plugins.kombu_redis.tests.steps import claim, envelope, give_back, put, settle, words


class TestRedisStore(StoreContract):
    """One prefix for each test."""


class TestLayout:
    def test_a_place_is_exact_at_its_ends(self) -> None:
        assert float(255 * BAND + BAND - 1) == 2**53 - 1
        assert priority_of(b"%d" % (255 * BAND + BAND - 1)) == 0
        assert priority_of(b"%d" % (BAND - 1)) == 255
        assert priority_of(b"1.7e+12") == 255

    def test_no_two_queues_share_a_key(self) -> None:
        layout = Layout("p", "0")
        names = ["q", "q:ready", "ready:q", "q:c", "s:q"]
        keys = [key for name in names for key in layout.claims("s", name)]
        keys += [layout.claims("s:s", "q")[-1], layout.claims("s", "s:q")[-1]]
        assert len(set(keys)) == len(keys) - 1
        assert all(key.startswith("{p:0}:") for key in keys)


class TestKeys:
    """Which keys there are, and what is in them."""

    def test_a_version_never_comes_back_after_a_flush(
        self, store: RedisStore, raw: Redis, token: str
    ) -> None:
        before = store.write({"a": b"1"}, []).versions["a"]
        for key in raw.scan_iter(f"*{token}*"):
            raw.delete(key)
        assert store.write({"a": b"1"}, []).versions["a"] > before

    def test_a_lease_that_nobody_reaped_is_renewed(self, me: RedisStore) -> None:
        put(me, "a")
        (item,) = claim(me)
        me.begin("me", 0.01)
        time.sleep(0.02)
        assert me.renew("me", 60)
        assert not settle(me, acks=[item.claim]).lost
        assert me.count("q") == Counts(0, 0, 0)

    def test_drop_leaves_no_key(self, me: RedisStore, raw: Redis, token: str) -> None:
        put(me, "1", "2", ttl=60)
        put(me, "3", delay=60)
        me.commit(Batch([Put("q", envelope("4"))], limits={"q": Limit(max_bytes=100)}))
        give_back(me, claim(me, 2))
        claim(me, 1)
        me.write({}, [], [Drop("q")])
        me.end("me")
        left = {key.decode().rpartition(":")[2] for key in raw.scan_iter(f"*{token}*")}
        assert left == {"seq"}

    def test_acks_leave_nothing_behind(self, me: RedisStore, raw: Redis, token: str) -> None:
        put(me, *"abc", ttl=60)
        give_back(me, claim(me))
        settle(me, acks=[item.claim for item in claim(me)])
        me.end("me")
        left = {key.decode().split(":")[2] for key in raw.scan_iter(f"*{token}*")}
        assert left == {"seq", "wake"}

    def test_end_releases_as_delivered(self, me: RedisStore, raw: Redis, token: str) -> None:
        put(me, *"abc")
        claim(me, 2)
        me.end("me")
        me.end("me")
        me.begin("you", 60)
        assert [item.deliveries for item in claim(me, session="you")] == [1, 1, 0]
        me.end("you")
        kinds = {key.decode().split(":")[2] for key in raw.scan_iter(f"*{token}*")}
        assert kinds == {"seq", "ready", "body", "returns", "wake"}

    def test_bytes_follow_claim_release_ack_purge_and_delay(
        self, me: RedisStore, raw: Redis, token: str
    ) -> None:
        def limited(*names: str, **limit: Any) -> None:
            puts = [Put("q", envelope(name)) for name in names]
            me.commit(Batch(puts, session="me", limits={"q": Limit(**limit)}))

        def counted() -> int:
            return int(raw.get(Layout(token, "0").key("bytes", "q")) or 0)

        limited("12345", "678", max_bytes=1000)
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
        limited("x", max_length=1)
        assert counted() == 1


class TestForeignData:
    def test_garbage_is_malformed_and_settles(self, me: RedisStore, raw: Redis, token: str) -> None:
        put(me, "good")
        layout = Layout(token, "0")
        body, ready = layout.key("body", "q"), layout.key("ready", "q")
        for place, garbage in enumerate([b"", b"K1", b"K1\x00\x00\x00\x02{]", b"\xff" * 99]):
            raw.hset(body, f"g{place}", garbage)
            raw.zadd(ready, {f"g{place}": place})
        claimed = claim(me)
        assert [type(item.content) for item in claimed] == [Malformed] * 4 + [Envelope]
        assert not settle(me, acks=[item.claim for item in claimed]).lost
        assert me.count("q") == Counts(0, 0, 0)

    def test_an_id_without_a_body_is_dropped(self, me: RedisStore, raw: Redis, token: str) -> None:
        layout = Layout(token, "0")
        raw.zadd(layout.key("ready", "q"), {"ghost": 1})
        put(me, *"ab")
        raw.zadd(layout.key("ready", "q"), {"spirit": 2})
        assert words(claim(me)) == ["a", "b"]
        raw.zadd(layout.key("ready", "q"), {"ghost": 1})
        assert claim(me) == []
        assert me.count("q") == Counts(0, 2, 0)


class TestThousands:
    """More than one call of a script takes."""

    def test_end_of_thousands_of_claims(self, me: RedisStore) -> None:
        put(me, *(str(i) for i in range(6000)))
        put(me, *"xy", queue="p")
        while claim(me, 1000):
            pass
        claim(me, queue="p")
        me.end("me")
        assert me.count("q") == Counts(6000, 0, 0)
        assert me.count("p") == Counts(2, 0, 0)
        me.begin("me", 60)
        assert words(claim(me, 3)) == ["0", "1", "2"]

    @pytest.mark.parametrize("is_one_claimed", [False, True])
    def test_purge_of_thousands(self, me: RedisStore, is_one_claimed: bool) -> None:
        put(me, *(str(i) for i in range(3500)))
        held = len(claim(me, 1)) if is_one_claimed else 0
        assert me.purge("q") == 3500 - held
        assert me.count("q") == Counts(0, held, 0)

    def test_more_than_a_thousand_fall_due_at_once(self, me: RedisStore) -> None:
        put(me, *(str(i) for i in range(2500)), delay=0.02)
        until(lambda: me.count("q").ready == 2500)
        claimed: list[Claimed] = []
        while more := claim(me, 5000):
            claimed += more
        assert words(claimed) == [str(i) for i in range(2500)]
