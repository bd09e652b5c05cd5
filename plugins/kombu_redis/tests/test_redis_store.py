"""The store contract on Redis: documents, order, settling, sessions."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from redis import Redis

from kombu_core.exceptions import SessionLostError
from kombu_core.message import Envelope, Malformed
from kombu_core.virtual.store import (
    Batch,
    Claim,
    Claimed,
    CommitResult,
    Conflict,
    Counts,
    Document,
    Drop,
    Limit,
    NotEmpty,
    Put,
    Release,
    Want,
)
from kombu_redis.layout import BAND, Layout, priority_of
from kombu_redis.store import RedisStore
from plugins.kombu_redis.tests.steps import claim, envelope, give_back, put, settle, words

OpenStore = Callable[..., RedisStore]


class TestDocuments:
    def test_an_absent_document_has_version_0(self, store: RedisStore) -> None:
        assert store.read(["a", "b"]) == [Document("a", 0, b""), Document("b", 0, b"")]
        assert store.read([]) == []

    def test_what_is_written_is_read(self, store: RedisStore) -> None:
        versions = store.write({"a": b"1", "b": b"\x00\xff"}, [("a", 0)]).versions
        assert store.read(["b", "a", "c"]) == [
            Document("b", versions["b"], b"\x00\xff"),
            Document("a", versions["a"], b"1"),
            Document("c", 0, b""),
        ]

    def test_a_moved_version_refuses_all(self, store: RedisStore) -> None:
        versions = store.write({"a": b"1", "b": b"1"}, []).versions
        with pytest.raises(Conflict) as caught:
            store.write({"c": b"1", "b": None}, [("a", 1), ("b", versions["b"]), ("d", 7)])
        assert caught.value.keys == ("a", "d")
        assert [document.value for document in store.read(["b", "c"])] == [b"1", b""]

    def test_a_version_never_comes_back(self, store: RedisStore) -> None:
        seen = set()
        for _ in range(5):
            seen.add(store.write({"a": b"same"}, []).versions["a"])
            assert store.write({"a": None}, []).versions == {"a": 0}
        assert len(seen) == 5
        assert 0 not in seen

    def test_a_version_never_comes_back_after_a_flush(
        self, store: RedisStore, raw: Redis, token: str
    ) -> None:
        before = store.write({"a": b"1"}, []).versions["a"]
        for key in raw.scan_iter(f"*{token}*"):
            raw.delete(key)
        assert store.write({"a": b"1"}, []).versions["a"] > before

    def test_scan_finds_a_prefix_in_order(self, store: RedisStore) -> None:
        store.write(dict.fromkeys(["b/2", "b/1", "b", "a", "b/é", "c", "b0"], b"x"), [])
        assert store.scan("b/") == ["b/1", "b/2", "b/é"]
        assert store.scan("") == ["a", "b", "b/1", "b/2", "b/é", "b0", "c"]
        assert store.scan("nobody") == []
        store.write({"b/1": None}, [])
        assert store.scan("b/") == ["b/2", "b/é"]

    def test_scan_pages(self, store: RedisStore) -> None:
        names = [f"k{i:05}" for i in range(2500)]
        store.write(dict.fromkeys(names, b""), [])
        assert store.scan("k") == names
        assert len(store.read(names)) == 2500
        assert [document.version > 0 for document in store.read(names)] == [True] * 2500

    def test_a_write_drops_queues_in_the_same_step(self, me: RedisStore) -> None:
        put(me, "1", "2", "3")
        put(me, "later", delay=60)
        mine = claim(me, 1)
        result = me.write({"queue/q": None}, [], [Drop("q"), Drop("unknown")])
        assert result.dropped == [2, 0]
        assert me.count("q") == Counts(0, 0, 0)
        put(me, "new")
        assert settle(me, acks=[mine[0].claim]) == CommitResult()
        assert words(claim(me)) == ["new"]

    def test_a_conflict_drops_nothing(self, store: RedisStore) -> None:
        put(store, "1")
        with pytest.raises(Conflict):
            store.write({}, [("a", 9)], [Drop("q")])
        assert store.count("q").ready == 1

    def test_drop_if_empty_refuses_the_whole_write(self, me: RedisStore) -> None:
        put(me, "1")
        with pytest.raises(NotEmpty):
            me.write({"a": b"1"}, [], [Drop("empty", True), Drop("q", True)])
        assert me.read(["a"])[0].version == 0
        claim(me)
        assert me.write({"a": b"1"}, [], [Drop("q", True)]).dropped == [0]

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


class TestOrder:
    def test_first_in_first_out(self, me: RedisStore) -> None:
        put(me, *"abc")
        put(me, "d")
        assert words(claim(me, 2)) == ["a", "b"]
        assert words(claim(me)) == ["c", "d"]
        assert claim(me) == []

    def test_the_highest_priority_first_then_the_oldest(self, me: RedisStore) -> None:
        for word, priority in [("a0", 0), ("a9", 9), ("a255", 255), ("b0", 0), ("b9", 9)]:
            put(me, word, priority=priority)
        claimed = claim(me)
        assert words(claimed) == ["a255", "a9", "b9", "a0", "b0"]
        assert [item.priority for item in claimed] == [255, 9, 9, 0, 0]

    def test_a_release_goes_to_its_old_place(self, me: RedisStore) -> None:
        put(me, *"abcd", priority=3)
        first, second, _ = claim(me, 3)
        put(me, "e", priority=3)
        give_back(me, [second])
        give_back(me, [first], is_delivered=False)
        claimed = claim(me)
        assert words(claimed) == ["a", "b", "d", "e"]
        assert [item.deliveries for item in claimed] == [0, 1, 0, 0]
        give_back(me, claimed)
        assert [item.deliveries for item in claim(me)] == [1, 2, 1, 1]

    def test_each_queue_has_its_own_copy(self, me: RedisStore) -> None:
        same = envelope("same")
        me.commit(Batch([Put("q", same), Put("p", same), Put("q", same)]))
        assert words(claim(me, queue="p")) == ["same"]
        assert words(claim(me)) == ["same", "same"]

    def test_a_batch_of_thousands_keeps_its_order(self, me: RedisStore) -> None:
        names = [str(i) for i in range(5000)]
        put(me, *names)
        claimed: list[Claimed] = []
        while more := claim(me, 5000):
            claimed += more
        assert words(claimed) == names
        assert not settle(me, acks=[item.claim for item in claimed]).lost
        assert me.count("q") == Counts(0, 0, 0)

    def test_wants_are_served_in_order_up_to_the_limit(self, me: RedisStore) -> None:
        for queue in ("a", "b", "c"):
            put(me, *(queue + str(i) for i in range(4)), queue=queue)
        wants = [Want("b", 2), Want("a", 3), Want("c", 4)]
        assert words(me.claim(wants, "me", 6)) == ["b0", "b1", "a0", "a1", "a2", "c0"]
        assert me.claim([], "me", 5) == []

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


class TestCommit:
    def test_a_conflict_applies_nothing(self, me: RedisStore) -> None:
        version = me.write({"a": b"1"}, []).versions["a"]
        put(me, "old")
        (old,) = claim(me)
        batch = Batch(
            [Put("q", envelope("new"))], [old.claim], (), [("a", version), ("b", 3)], "me"
        )
        with pytest.raises(Conflict) as caught:
            me.commit(batch)
        assert caught.value.keys == ("b",)
        assert me.count("q") == Counts(0, 1, 0)
        assert me.commit(batch._replace(expect=[("a", version), ("b", 0)])).lost == ()
        assert me.count("q") == Counts(1, 0, 0)

    def test_a_lost_claim_applies_nothing(self, me: RedisStore, open_store: OpenStore) -> None:
        put(me, *"abc")
        a, b, c = claim(me)
        other = open_store()
        batch = Batch([Put("q", envelope("new"))], [b.claim], [Release(c.claim)], session="you")
        assert list(other.commit(batch).lost) == [b.claim, c.claim]
        assert me.count("q") == Counts(0, 3, 0)
        me.end("me")
        assert list(settle(me, acks=[a.claim]).lost) == [a.claim]
        assert me.count("q") == Counts(3, 0, 0)

    def test_a_session_that_lives_lost_nothing(self, me: RedisStore, open_store: OpenStore) -> None:
        """Not even what another session has: to settle it does nothing."""
        put(me, *"ab")
        a, b = claim(me)
        other = open_store()
        other.begin("you", 60)
        claims = [a.claim, Claim("dropped", "1")]
        release = Release(b.claim)
        assert settle(other, "you", acks=claims, releases=[release]) == CommitResult()
        assert me.count("q") == Counts(0, 2, 0)
        assert settle(me, acks=claims, releases=[release]) == CommitResult()
        assert me.count("q") == Counts(1, 0, 0)

    def test_ack_and_put_are_one_step(self, me: RedisStore) -> None:
        put(me, "in", queue="in")
        (item,) = claim(me, queue="in")
        settle(me, puts=[Put("out", envelope("out"))], acks=[item.claim])
        assert (me.count("in"), me.count("out")) == (Counts(0, 0, 0), Counts(1, 0, 0))

    def test_a_claim_settled_twice_in_a_batch_is_settled_once(self, me: RedisStore) -> None:
        put(me, "a")
        (item,) = claim(me)
        settle(me, acks=[item.claim, item.claim], releases=[Release(item.claim)])
        assert me.count("q") == Counts(0, 0, 0)
        assert claim(me) == []

    def test_an_empty_batch(self, store: RedisStore) -> None:
        assert store.commit(Batch()) == CommitResult()

    def test_acks_leave_nothing_behind(self, me: RedisStore, raw: Redis, token: str) -> None:
        put(me, *"abc", ttl=60)
        give_back(me, claim(me))
        settle(me, acks=[item.claim for item in claim(me)])
        me.end("me")
        left = {key.decode().split(":")[2] for key in raw.scan_iter(f"*{token}*")}
        assert left == {"seq", "wake"}

    def test_a_large_body(self, me: RedisStore) -> None:
        body = bytes(range(256)) * 40_000
        me.commit(Batch([Put("q", Envelope(body, {}, {}))]))
        (item,) = claim(me)
        assert isinstance(item.content, Envelope)
        assert item.content.body == body

    def test_names_may_be_any_text(self, store: RedisStore) -> None:
        queue, session = "a:b {é} %s\n", "s:1%"
        store.begin(session, 60)
        put(store, "x", queue=queue)
        (item,) = claim(store, session=session, queue=queue)
        assert item.claim.queue == queue
        store.end(session)
        assert store.count(queue) == Counts(1, 0, 0)


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


class TestSessions:
    def test_only_a_session_claims(self, store: RedisStore) -> None:
        put(store, "a")
        with pytest.raises(SessionLostError):
            claim(store)
        store.begin("me", 0.02)
        time.sleep(0.03)
        with pytest.raises(SessionLostError):
            claim(store)
        assert store.count("q") == Counts(1, 0, 0)

    def test_a_lease_that_nobody_reaped_is_renewed(self, store: RedisStore) -> None:
        put(store, "a")
        store.begin("me", 0.05)
        (item,) = claim(store)
        time.sleep(0.06)
        assert store.renew("me", 60)
        assert not settle(store, acks=[item.claim]).lost

    def test_the_claims_of_the_dead_come_back(
        self, store: RedisStore, open_store: OpenStore
    ) -> None:
        other = open_store()
        other.begin("you", 60)
        put(store, *"abc")
        put(store, "z", queue="p")
        store.begin("me", 0.05)
        held = claim(store, 2) + claim(store, queue="p")
        assert other.reap() == []
        time.sleep(0.06)
        assert other.reap() == ["me"]
        assert not store.renew("me", 60)
        with pytest.raises(SessionLostError):
            claim(store)
        again = other.claim([Want("q", 9), Want("p", 9)], "you", 9)
        assert words(again) == ["a", "b", "c", "z"]
        assert [item.deliveries for item in again] == [1, 1, 0, 1]
        claims = [item.claim for item in held]
        assert settle(store, acks=claims).lost == claims
        assert not settle(other, "you", acks=[item.claim for item in again]).lost

    def test_a_dead_session_is_named_until_its_end(self, store: RedisStore) -> None:
        store.begin("b", 0.001)
        store.begin("a", 0.001)
        store.begin("alive", 60)
        time.sleep(0.01)
        assert store.reap() == ["a", "b"]
        assert store.reap() == ["a", "b"]
        store.end("a")
        assert store.reap() == ["b"]
        store.end("b")
        store.end("b")
        assert store.reap() == []

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

    def test_a_session_that_was_reaped_may_begin_anew(self, store: RedisStore) -> None:
        store.begin("me", 0.001)
        time.sleep(0.01)
        store.reap()
        store.begin("me", 60)
        put(store, "a")
        assert words(claim(store)) == ["a"]
        assert store.reap() == []


class TestCountAndPurge:
    def test_an_unknown_queue(self, store: RedisStore) -> None:
        assert store.count("unknown") == Counts(0, 0, 0)
        assert store.purge("unknown") == 0

    def test_purge_takes_what_is_ready(self, me: RedisStore) -> None:
        put(me, *"abcd")
        put(me, "late", delay=60)
        held = claim(me, 1)
        assert me.purge("q") == 3
        assert me.count("q") == Counts(0, 1, 1)
        give_back(me, held)
        assert words(claim(me)) == ["a"]

    @pytest.mark.parametrize("is_one_claimed", [False, True])
    def test_purge_of_thousands(self, me: RedisStore, is_one_claimed: bool) -> None:
        put(me, *(str(i) for i in range(3500)))
        held = len(claim(me, 1)) if is_one_claimed else 0
        assert me.purge("q") == 3500 - held
        assert me.count("q") == Counts(0, held, 0)

    def test_purge_takes_what_is_due(self, store: RedisStore) -> None:
        put(store, "due", delay=0.01)
        time.sleep(0.02)
        assert store.purge("q") == 1
