"""The document table: `read`, `write`, `scan`, and the versions that guard a commit."""

from __future__ import annotations

import pytest

from kombu_core.message import Envelope
from kombu_core.testing.store.fixtures import LONG, ME, ack, bodies, claim, put
from kombu_core.virtual.store import Batch, Conflict, Drop, NotEmpty, Put, Store


class DocumentContract:
    """Compare and set."""

    def test_an_absent_document_has_version_0_and_no_value(self, store: Store) -> None:
        assert store.read(["a", "b"]) == [("a", 0, b""), ("b", 0, b"")]
        assert store.read([]) == []

    def test_documents_are_read_in_the_order_of_the_keys(self, store: Store) -> None:
        keys = ["b", "a", "k\u00e9y/ \U0001f511*%", "absent", "b"]
        values = dict(zip(keys, (b"", b"\x00\xff", b"3"), strict=False))
        versions = store.write(values, [("a", 0)]).versions
        assert 0 not in versions.values()
        assert store.read(keys) == [
            ("b", versions["b"], b""),
            ("a", versions["a"], b"\x00\xff"),
            (keys[2], versions[keys[2]], b"3"),
            ("absent", 0, b""),
            ("b", versions["b"], b""),
        ]

    def test_names_are_compared_exactly(self, store: Store) -> None:
        """Those of documents, queues and sessions."""
        names = ["a", "A", "a ", "\u00e4", "a%", "a_", "'", '"', "a\n", "\U0001f407"]
        names += ["a:b {\u00e9} %s\n", "s:1%"]
        for name in names:
            store.write({name: name.encode()}, [(name, 0)])
            store.begin(name, LONG)
            put(store, name, queue=name)
        assert [document.value.decode() for document in store.read(names)] == names
        for name in names:
            (owned,) = claim(store, queue=name, session=name)
            assert (bodies([owned]), owned.claim.queue) == ([name], name)
        for number, name in enumerate(names):
            store.end(name)
            counts = [store.count(each) for each in names]
            assert counts == [(1, 0, 0)] * (number + 1) + [(0, 1, 0)] * (len(names) - number - 1)

    def test_thousands_at_once(self, store: Store) -> None:
        names = [f"k{number:05}" for number in range(2500)]
        store.write(dict.fromkeys(names, b""), ())
        assert store.scan("k") == names
        assert all(document.version for document in store.read(names))

    def test_another_handle_sees_what_was_written(self, store: Store, other: Store) -> None:
        store.write({"a": b"1"}, ())
        assert other.read(["a"])[0].value == b"1"
        other.write({"a": None}, ())
        assert store.read(["a"])[0].version == 0

    def test_a_write_that_expects_what_moved_changes_nothing(self, store: Store) -> None:
        old = store.write({"a": b"1", "b": b"1"}, ()).versions
        store.write({"a": b"2"}, [("a", old["a"])])
        put(store, "kept")
        with pytest.raises(Conflict) as conflict:
            expect = [("a", old["a"]), ("b", old["b"]), ("c", 7)]
            store.write({"b": None, "d": b"4"}, expect, [Drop("q")])
        assert conflict.value.keys == ("a", "c")
        assert [document.value for document in store.read(["a", "b", "d"])] == [b"2", b"1", b""]
        assert store.count("q").ready == 1

    def test_a_document_that_must_be_absent_is_expected_as_version_0(self, store: Store) -> None:
        store.write({"a": b"1"}, [("a", 0)])
        with pytest.raises(Conflict):
            store.write({"a": b"2"}, [("a", 0)])

    def test_no_version_is_used_twice_not_even_after_a_delete(self, store: Store) -> None:
        seen = set()
        for _ in range(5):
            seen.add(store.write({"a": b"same"}, ()).versions["a"])
            assert store.write({"a": None}, ()).versions == {"a": 0}
        assert len(seen) == 5
        assert 0 not in seen
        assert store.write({"never there": None}, ()).versions == {"never there": 0}

    def test_a_scan_names_the_keys_of_a_prefix_sorted(self, store: Store) -> None:
        keys = ["b/2", "a", "b/", "b/1", "b/\U0010ffff", "b/\u00e9", "b_1", "b%", "c"]
        keys.append("\U0010ffffx")
        store.write(dict.fromkeys(keys, b""), ())
        store.write({"b/1": None}, ())
        assert store.scan("b/") == ["b/", "b/2", "b/\u00e9", "b/\U0010ffff"]
        assert store.scan("b_") == ["b_1"]
        assert store.scan("b%") == ["b%"]
        assert store.scan("\U0010ffff") == ["\U0010ffffx"]
        assert store.scan("z") == store.scan("b/1") == []
        assert store.scan("") == sorted({*keys} - {"b/1"})

    def test_a_commit_that_was_routed_by_what_moved_applies_nothing(self, store: Store) -> None:
        version = store.write({"a": b"1"}, ()).versions["a"]
        put(store, "old")
        (owned,) = claim(store)
        moved = store.write({"a": b"2"}, ()).versions["a"]
        batch = Batch([Put("q", Envelope(b"new", {}, {}))], [owned.claim], session=ME)
        for key, expect in (("a", [("b", 0), ("a", version)]), ("b", [("b", 3), ("a", moved)])):
            with pytest.raises(Conflict) as conflict:
                store.commit(batch._replace(expect=expect))
            assert conflict.value.keys == (key,)
            assert store.count("q") == (0, 1, 0)
        assert not store.commit(batch._replace(expect=[("a", moved), ("b", 0)])).lost
        assert store.count("q") == (1, 0, 0)

    def test_a_drop_deletes_all_of_a_queue(self, store: Store) -> None:
        store.write({"queue/q": b"1"}, ())
        put(store, "claimed", "1", "2")
        (owned,) = claim(store, 1)
        if store.capabilities.delay:
            put(store, "later", delay=LONG)
        result = store.write({"queue/q": None}, (), [Drop("q"), Drop("other")])
        assert (result.versions, list(result.dropped)) == ({"queue/q": 0}, [2, 0])
        assert store.read(["queue/q"])[0].version == 0
        assert store.count("q") == (0, 0, 0)
        put(store, "of the next queue of that name")
        assert not any(ack(store, owned))
        assert bodies(claim(store)) == ["of the next queue of that name"]

    def test_a_drop_if_empty_is_refused_while_messages_are_ready(self, store: Store) -> None:
        put(store, "1")
        with pytest.raises(NotEmpty):
            store.write({"a": b"1"}, (), [Drop("empty"), Drop("q", if_empty=True)])
        assert store.read(["a"])[0].version == 0
        claim(store)
        assert list(store.write({"a": b"1"}, (), [Drop("q", if_empty=True)]).dropped) == [0]
