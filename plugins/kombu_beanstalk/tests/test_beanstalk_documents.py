"""The document table on beanstalkd: a compare-and-set that is whole after any death."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from greenstalk import Client

from kombu_beanstalk.documents import FRESH
from kombu_beanstalk.lock import Locks
from kombu_beanstalk.store import BeanstalkStore
from kombu_beanstalk.table import PAGE_BYTES
from kombu_beanstalk.wire import Wire
from kombu_core.exceptions import ContentTooLargeError
from kombu_core.virtual.store import Conflict, Document, Drop
from plugins.kombu_beanstalk.tests.steps import put

OpenStore = Callable[..., BeanstalkStore]


def values(store: BeanstalkStore, *keys: str) -> list[bytes]:
    return [document.value for document in store.read(keys)]


class TestTable:
    def test_nothing_is_there_at_first(self, store: BeanstalkStore) -> None:
        assert store.read(["a"]) == [Document("a", 0, b"")]
        assert store.scan("") == []

    def test_others_see_what_was_written(
        self, store: BeanstalkStore, open_store: OpenStore
    ) -> None:
        other = open_store()
        versions = store.write({"a": b"1", "b/x": b"2", "b/y": b"\x00\xff"}, [("a", 0)]).versions
        assert other.read(["b/y", "a"]) == [
            Document("b/y", versions["b/y"], b"\x00\xff"),
            Document("a", versions["a"], b"1"),
        ]
        assert other.scan("b/") == ["b/x", "b/y"]
        assert other.write({"b/x": None}, []).versions == {"b/x": 0}
        assert store.scan("b/") == ["b/y"]

    def test_a_version_that_moved_is_a_conflict(self, store: BeanstalkStore) -> None:
        first = store.write({"a": b"1", "b": b"1"}, []).versions["a"]
        store.write({"a": b"2"}, [("a", first)])
        with pytest.raises(Conflict) as caught:
            store.write({"a": b"3", "c": b"3"}, [("a", first), ("b", first)])
        assert caught.value.keys == ("a",)
        assert values(store, "a", "c") == [b"2", b""]

    def test_no_version_comes_back(self, store: BeanstalkStore) -> None:
        seen = set()
        for _ in range(3):
            seen.add(store.write({"a": b"1"}, [("a", 0)]).versions["a"])
            store.write({"a": None}, [])
        assert len(seen) == 3

    def test_many_documents_take_many_pages(
        self, store: BeanstalkStore, open_store: OpenStore, raw: Client[bytes], token: str
    ) -> None:
        keys = [f"k/{number:04}" for number in range(300)]
        store.write(dict.fromkeys(keys[::2], b"x" * 150), [])
        store.write(dict.fromkeys(keys[1::2], b"y" * 150), [])
        other = open_store()
        assert other.scan("k/") == keys
        assert other.scan("k/01") == keys[100:200]
        assert set(values(other, *keys)) == {b"x" * 150, b"y" * 150}
        pages = raw.stats_tube(f"{token}/default/pages")
        assert pages["current-jobs-buried"] >= 300 * 150 // PAGE_BYTES
        assert pages["current-jobs-ready"] == 0
        store.write(dict.fromkeys(keys), [])
        assert other.scan("") == []
        # What is left is the mark of the root.
        assert raw.stats_tube(f"{token}/default/pages")["current-jobs-buried"] == 1

    def test_a_root_without_a_mark_is_one_that_may_have_moved(
        self, store: BeanstalkStore, open_store: OpenStore, raw: Client[bytes], token: str
    ) -> None:
        """One of those that were written before there were marks."""
        version = store.write({"a": b"1"}, []).versions["a"]
        raw.use(f"{token}/default/topology")
        job = raw.peek_ready()
        root = json.loads(job.body)
        del root["mark"]
        raw.put(json.dumps(root).encode(), priority=raw.stats_job(job)["pri"])
        raw.delete(job)
        other = open_store()
        assert values(other, "a") == [b"1"]
        put(other, "x", expect=[("a", version)])
        assert other.count("q").ready == 1
        other.write({"a": b"2"}, [("a", version)])
        assert values(store, "a") == [b"2"]
        assert "mark" in json.loads(raw.peek_ready().body)
        put(store, "y")
        assert store.count("q").ready == 2

    def test_a_document_larger_than_a_job_is_refused(self, open_store: OpenStore) -> None:
        store = open_store(max_job_size=4096)
        with pytest.raises(ContentTooLargeError, match=r"4096 .*-z"):
            store.write({"a": bytes(5000)}, [])
        store.write({"a": b"fits"}, [])
        assert values(store, "a") == [b"fits"]


class TestTogether:
    def count_up(self, store: BeanstalkStore, times: int) -> None:
        for _ in range(times):
            while True:
                (document,) = store.read(["n"])
                try:
                    store.write({"n": b"%d" % (int(document.value or 0) + 1)}, [("n", document[1])])
                except Conflict:
                    continue
                break

    @pytest.mark.parametrize("with_lock", [True, False])
    def test_all_who_start_at_once_agree(
        self, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch, with_lock: bool
    ) -> None:
        """Also without the lock, which only keeps writers from getting in each other's way."""
        if not with_lock:
            monkeypatch.setattr(Locks, "held", lambda self, tube: self._wires.lent("lock"))
        threads = [
            threading.Thread(target=self.count_up, args=(open_store(), 10)) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert values(open_store(), "n") == [b"60"]

    def test_who_publishes_after_a_write_sees_it(
        self, store: BeanstalkStore, open_store: OpenStore
    ) -> None:
        """Though he relies on what he saw a moment before."""
        other = open_store()
        (document,) = other.read(["a"])
        for number in range(20):
            put(other, "x", expect=[("a", document.version)])
            version = store.write({"a": b"%d" % number}, []).versions["a"]
            with pytest.raises(Conflict):
                put(other, "x", expect=[("a", document.version)])
            document = other.read(["a"])[0]
            assert document.version == version

    def test_a_writer_waits_as_long_as_others_may_rely_on_what_they_saw(
        self, store: BeanstalkStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slept: list[float] = []
        monkeypatch.setattr("time.sleep", slept.append)
        store.write({"a": b"1"}, [])
        assert max(slept) > FRESH


@contextmanager
def dying_after(commands: int) -> Iterator[None]:
    """Kill this process when it has sent so many commands."""
    left = commands

    def send(self: Wire, some: Sequence[bytes]) -> None:
        nonlocal left
        self._sock.sendall(b"".join(command + b"\r\n" for command in some[:left]))
        left -= len(some)
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wire, "send", send)
        yield


class TestDeath:
    def test_a_writer_is_killed_between_any_two_commands(
        self, open_store: OpenStore, raw: Client[bytes], token: str
    ) -> None:
        """All of his change is there, or nothing; and the next one cleans up behind him."""
        outcomes = set()
        for commands in range(1, 60):
            store = open_store(prefix=f"p{commands}{token}"[:40])
            store.write({"a": b"old", "b": b"old", "c": b"old", "queue/q": b"{}"}, [])
            put(store, "1", "2")
            child = os.fork()
            if child == 0:
                victim = open_store(prefix=f"p{commands}{token}"[:40])
                victim.read(["a"])
                with dying_after(commands):
                    victim.write({"a": b"new", "b": None, "queue/q": None}, [], [Drop("q")])
                os._exit(0)
            _, status = os.waitpid(child, 0)
            found = values(store, "a", "b", "c")
            assert found in ([b"old"] * 3, [b"new", b"", b"old"]), commands
            outcomes.add(found[0])
            is_there = store.count("q").ready
            assert is_there == (2 if found[0] == b"old" else 0), commands
            # Nothing stands in the way of the next, and his leftovers go.
            version = store.read(["queue/q"])[0].version
            put(store, "3", expect=[("queue/q", version)])
            assert store.count("q").ready == is_there + 1, commands
            store.write({"c": b"next"}, [])
            assert values(store, "a", "b", "c") == [*found[:2], b"next"]
            tube = raw.stats_tube(f"{f'p{commands}{token}'[:40]}/default/pages")
            assert (tube["current-jobs-buried"], tube["current-jobs-ready"]) == (2, 0), commands
            root = raw.stats_tube(f"{f'p{commands}{token}'[:40]}/default/topology")
            assert root["current-jobs-ready"] == 1, commands
            if not status:
                break
            assert os.WTERMSIG(status) == signal.SIGKILL
        else:
            pytest.fail("the change takes more than 60 commands")
        assert outcomes == {b"old", b"new"}
