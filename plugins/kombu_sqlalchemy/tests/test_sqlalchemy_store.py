"""The store contract on each database: documents, order, settling."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from kombu_core.message import Envelope, Malformed
from kombu_core.virtual.store import (
    Batch,
    Claim,
    CommitResult,
    Conflict,
    Counts,
    Document,
    Drop,
    NotEmpty,
    Put,
    Release,
    Want,
)
from kombu_sqlalchemy.store import SQLAlchemyStore
from plugins.kombu_sqlalchemy.tests.steps import (
    claim,
    envelope,
    give_back,
    overwrite,
    put,
    rows,
    settle,
    words,
)

OpenStore = Callable[..., SQLAlchemyStore]


class TestDocuments:
    def test_an_absent_document_has_version_0(self, store: SQLAlchemyStore) -> None:
        assert store.read(["a", "b"]) == [Document("a", 0, b""), Document("b", 0, b"")]
        assert store.read([]) == []

    def test_what_is_written_is_read(self, store: SQLAlchemyStore) -> None:
        versions = store.write({"a": b"1", "b": b"\x00\xff"}, [("a", 0)]).versions
        assert store.read(["b", "a", "c", "b"]) == [
            Document("b", versions["b"], b"\x00\xff"),
            Document("a", versions["a"], b"1"),
            Document("c", 0, b""),
            Document("b", versions["b"], b"\x00\xff"),
        ]

    def test_a_moved_version_refuses_all(self, store: SQLAlchemyStore) -> None:
        versions = store.write({"a": b"1", "b": b"1"}, []).versions
        with pytest.raises(Conflict) as caught:
            store.write({"c": b"1", "b": None}, [("a", 1), ("b", versions["b"]), ("d", 7)])
        assert caught.value.keys == ("a", "d")
        assert [document.value for document in store.read(["b", "c"])] == [b"1", b""]

    def test_a_version_never_comes_back(self, store: SQLAlchemyStore) -> None:
        seen = set()
        for _ in range(5):
            seen.add(store.write({"a": b"same"}, []).versions["a"])
            assert store.write({"a": None}, []).versions == {"a": 0}
        assert len(seen) == 5
        assert 0 not in seen

    def test_names_are_compared_by_their_bytes(self, me: SQLAlchemyStore) -> None:
        names = ["a", "A", "a ", "ä", "a%", "a_", "'", '"', "a\n", "\U0001f407"]
        for name in names:
            me.write({name: name.encode()}, [(name, 0)])
            put(me, name, queue=name)
        assert [document.value.decode() for document in me.read(names)] == names
        assert [words(claim(me, queue=name)) for name in names] == [[name] for name in names]

    def test_scan_finds_a_prefix_in_order(self, store: SQLAlchemyStore) -> None:
        names = ["b/2", "b/1", "b", "a", "b/é", "c", "b0", "b/\U0010ffff", "\U0010ffffx"]
        store.write(dict.fromkeys(names, b"x"), [])
        assert store.scan("b/") == ["b/1", "b/2", "b/é", "b/\U0010ffff"]
        assert store.scan("") == sorted(names)
        assert store.scan("\U0010ffff") == ["\U0010ffffx"]
        assert store.scan("nobody") == []
        store.write({"b/1": None}, [])
        assert store.scan("b/1") == []

    def test_thousands_at_once(self, store: SQLAlchemyStore) -> None:
        names = [f"k{i:05}" for i in range(2500)]
        store.write(dict.fromkeys(names, b""), [])
        assert store.scan("k") == names
        assert all(document.version for document in store.read(names))

    def test_a_write_drops_queues_in_the_same_step(self, me: SQLAlchemyStore) -> None:
        put(me, "1", "2", "3")
        put(me, "later", delay=60)
        mine = claim(me, 1)
        result = me.write({"queue/q": None}, [], [Drop("q"), Drop("unknown")])
        assert result.dropped == [2, 0]
        assert me.count("q") == Counts(0, 0, 0)
        put(me, "new")
        assert settle(me, acks=[mine[0].claim]) == CommitResult()
        assert words(claim(me)) == ["new"]

    def test_a_conflict_drops_nothing(self, store: SQLAlchemyStore) -> None:
        put(store, "1")
        with pytest.raises(Conflict):
            store.write({}, [("a", 9)], [Drop("q")])
        assert store.count("q").ready == 1

    def test_drop_if_empty_refuses_the_whole_write(self, me: SQLAlchemyStore) -> None:
        put(me, "1")
        with pytest.raises(NotEmpty):
            me.write({"a": b"1"}, [], [Drop("empty", True), Drop("q", True)])
        assert me.read(["a"])[0].version == 0
        claim(me)
        assert me.write({"a": b"1"}, [], [Drop("q", True)]).dropped == [0]


class TestOrder:
    def test_first_in_first_out(self, me: SQLAlchemyStore) -> None:
        put(me, *"abc")
        put(me, "d")
        assert words(claim(me, 2)) == ["a", "b"]
        assert words(claim(me)) == ["c", "d"]
        assert claim(me) == []

    def test_the_highest_priority_first_then_the_oldest(self, me: SQLAlchemyStore) -> None:
        for word, priority in [("a0", 0), ("a9", 9), ("a255", 255), ("b0", 0), ("b9", 9)]:
            put(me, word, priority=priority)
        claimed = claim(me)
        assert words(claimed) == ["a255", "a9", "b9", "a0", "b0"]
        assert [item.priority for item in claimed] == [255, 9, 9, 0, 0]

    def test_a_release_goes_to_its_old_place(self, me: SQLAlchemyStore) -> None:
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

    def test_a_batch_of_thousands_keeps_its_order(self, me: SQLAlchemyStore) -> None:
        names = [str(i) for i in range(5000)]
        put(me, *names)
        claimed = []
        while more := claim(me, 2000):
            claimed += more
        assert words(claimed) == names
        assert not settle(me, acks=[item.claim for item in claimed]).lost
        assert rows(me) == 0

    def test_wants_are_served_in_order_up_to_the_limit(self, me: SQLAlchemyStore) -> None:
        for queue in ("a", "b", "c"):
            put(me, *(queue + str(i) for i in range(4)), queue=queue)
        wants = [Want("b", 2), Want("a", 3), Want("none", 3), Want("c", 4)]
        assert words(me.claim(wants, "me", 6)) == ["b0", "b1", "a0", "a1", "a2", "c0"]
        assert me.claim([], "me", 5) == []

    def test_a_delayed_message_takes_its_place_when_it_is_due(self, me: SQLAlchemyStore) -> None:
        put(me, "late", delay=0.1)
        put(me, "later", delay=60)
        put(me, "first")
        assert me.count("q") == Counts(1, 0, 2)
        time.sleep(0.12)
        assert me.count("q") == Counts(2, 0, 1)
        put(me, "behind")
        assert sorted(words(claim(me))) == ["behind", "first", "late"]
        assert me.count("q") == Counts(0, 3, 1)

    def test_what_is_due_is_not_passed_over(self, me: SQLAlchemyStore) -> None:
        put(me, "plain")
        put(me, "urgent", priority=9, delay=0.02)
        time.sleep(0.03)
        assert words(claim(me, 1)) == ["urgent"]

    def test_those_that_are_due_come_in_the_order_of_their_times(self, me: SQLAlchemyStore) -> None:
        delays = {"c": 0.03, "a": 0.01, "b": 0.02}
        me.commit(Batch([Put("q", envelope(word), delay=delay) for word, delay in delays.items()]))
        time.sleep(0.04)
        assert words(claim(me)) == ["a", "b", "c"]

    def test_time_to_live(self, me: SQLAlchemyStore) -> None:
        put(me, "dead", ttl=0.01)
        put(me, "alive", ttl=60)
        put(me, "waits", delay=0.01, ttl=0.01)
        put(me, "lives")
        time.sleep(0.05)
        heads = me.claim([Want("q", 9, expired_only=True)], "me", 9)
        assert words(heads) == ["dead"]
        assert [(item.is_expired) for item in claim(me)] == [False, False, True]
        assert me.claim([Want("q", 9, expired_only=True)], "me", 9) == []


class TestCommit:
    def test_a_conflict_applies_nothing(self, me: SQLAlchemyStore) -> None:
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

    def test_a_lost_claim_applies_nothing(self, me: SQLAlchemyStore, open_store: OpenStore) -> None:
        put(me, *"abc")
        a, b, c = claim(me)
        other = open_store()
        batch = Batch([Put("q", envelope("new"))], [b.claim], [Release(c.claim)], session="you")
        assert list(other.commit(batch).lost) == [b.claim, c.claim]
        assert me.count("q") == Counts(0, 3, 0)
        me.end("me")
        assert list(settle(me, acks=[a.claim]).lost) == [a.claim]
        assert me.count("q") == Counts(3, 0, 0)

    def test_a_session_that_lives_lost_nothing(
        self, me: SQLAlchemyStore, open_store: OpenStore
    ) -> None:
        """Not even what another session has: to settle it does nothing."""
        put(me, *"ab")
        a, b = claim(me)
        other = open_store()
        other.begin("you", 60)
        claims = [a.claim, Claim("dropped", "1000000")]
        release = Release(b.claim)
        assert settle(other, "you", acks=claims, releases=[release]) == CommitResult((), [], [])
        assert me.count("q") == Counts(0, 2, 0)
        settle(me, acks=claims, releases=[release])
        assert me.count("q") == Counts(1, 0, 0)

    def test_ack_and_put_are_one_step(self, me: SQLAlchemyStore) -> None:
        put(me, "in", queue="in")
        (item,) = claim(me, queue="in")
        settle(me, puts=[Put("out", envelope("out"))], acks=[item.claim])
        assert (me.count("in"), me.count("out")) == (Counts(0, 0, 0), Counts(1, 0, 0))

    def test_a_claim_settled_twice_in_a_batch_is_settled_once(self, me: SQLAlchemyStore) -> None:
        put(me, "a")
        (item,) = claim(me)
        settle(me, acks=[item.claim, item.claim], releases=[Release(item.claim)])
        assert me.count("q") == Counts(0, 0, 0)
        assert claim(me) == []

    def test_an_empty_batch(self, store: SQLAlchemyStore) -> None:
        assert not store.commit(Batch()).lost
        with pytest.raises(Conflict):
            store.commit(Batch(expect=[("a", 1)]))

    def test_nothing_is_left_of_what_was_settled(self, me: SQLAlchemyStore) -> None:
        put(me, *"abc", ttl=60)
        give_back(me, claim(me))
        settle(me, acks=[item.claim for item in claim(me)])
        me.end("me")
        assert (rows(me), rows(me, "sessions")) == (0, 0)

    def test_a_large_body(self, me: SQLAlchemyStore) -> None:
        body = bytes(range(256)) * 12_000
        me.commit(Batch([Put("q", Envelope(body, {}, {}))]))
        (item,) = claim(me)
        assert isinstance(item.content, Envelope)
        assert item.content.body == body

    def test_garbage_is_malformed_and_settles(self, me: SQLAlchemyStore) -> None:
        put(me, *"abcd", "good")
        garbage = iter([b"", b"K1", b"K1\x00\x00\x00\x02{]", b"\xff" * 99])
        ids = [item.claim.id for item in claim(me)]
        for id_ in ids[:4]:
            overwrite(me, int(id_), next(garbage))
        me.end("me")
        me.begin("me", 60)
        claimed = claim(me)
        assert [type(item.content) for item in claimed] == [Malformed] * 4 + [Envelope]
        assert not settle(me, acks=[item.claim for item in claimed]).lost
        assert me.count("q") == Counts(0, 0, 0)

    def test_purge_takes_what_is_ready(self, me: SQLAlchemyStore) -> None:
        put(me, *"abc")
        claim(me, 1)
        put(me, "due", delay=0.01)
        put(me, "later", delay=60)
        time.sleep(0.02)
        assert me.purge("q") == 3
        assert me.purge("q") == 0
        assert me.count("q") == Counts(0, 1, 1)
