"""Waiting: `wait` returns when there is something, and soon."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from kombu_core.exceptions import KombuError
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import DEADLINE, run_threads, until
from kombu_core.testing.store.fixtures import LONG, OpenStore, bodies, claim, put, release
from kombu_core.testing.store.sessions import let_lapse
from kombu_core.virtual.store import Store


class WaitContract:
    """`wait`, and `close` beside it."""

    def test_a_wait_for_what_is_ready_ends_at_once(self, store: Store) -> None:
        put(store, "1")
        begin = time.monotonic()
        assert store.wait(["other", "q"], 5.0)
        assert time.monotonic() - begin < 1.0

    def test_a_wait_in_vain_ends_with_its_timeout(self, store: Store) -> None:
        begin = time.monotonic()
        while time.monotonic() - begin < 0.2:  # It may return early.
            store.wait(["q"], 0.2)
        assert not store.wait(["q"], 0.0)
        assert not store.wait([], 0.0)
        assert time.monotonic() - begin < 5.0

    @pytest.mark.parametrize(
        "wake", ["put", "release", pytest.param("delay", marks=requires("delay"))]
    )
    def test_a_wait_ends_when_another_handle_makes_something_ready(
        self, store: Store, other: Store, step: float, wake: str
    ) -> None:
        put(store, "1")
        other.begin("you", LONG)
        (owned,) = claim(other, session="you")
        store.wait(["q"], 0.01)

        acts: dict[str, Callable[[], object]] = {
            "put": lambda: put(other, "2"),
            "release": lambda: release(other, owned, session="you"),
            "delay": lambda: put(other, "2", delay=0.05),
        }
        timer = threading.Timer(0.1, acts[wake])
        begin = time.monotonic()
        timer.start()
        while not store.count("q").ready:  # It may wake in vain, as for who tells of a delay.
            assert store.wait(["q"], DEADLINE)
        assert 0.05 < time.monotonic() - begin < 1.5 + step
        timer.join()

    @pytest.mark.parametrize("how", ["end", "reap"])
    def test_a_wait_ends_when_another_handle_gives_back_what_a_session_had(
        self, store: Store, other: Store, how: str
    ) -> None:
        put(store, "1")
        other.begin("gone", LONG)
        assert len(claim(other, session="gone")) == 1
        store.wait(["q"], 0.01)
        begin = time.monotonic()
        given_back: list[float] = []

        def act() -> None:
            time.sleep(0.1)
            if how == "end":
                other.end("gone")
            else:
                let_lapse(other, "gone")
            given_back.append(time.monotonic())

        thread = threading.Thread(target=act)
        thread.start()
        while not store.count("q").ready and time.monotonic() - begin < DEADLINE:
            store.wait(["q"], 2.5)
        woken = time.monotonic()
        thread.join()
        assert woken - given_back[0] < 1.5, f"`{how}` woke nobody"

    @requires("delay")
    def test_a_wait_ends_when_a_delay_does(self, store: Store, step: float) -> None:
        begin = time.monotonic()
        put(store, "1", delay=0.1)
        while not claim(store):
            assert store.wait(["q"], DEADLINE)
        assert 0.095 < time.monotonic() - begin < 1.5 + step

    def test_one_batch_wakes_all_who_wait(self, store: Store, open_another: OpenStore) -> None:
        done, begin = list[str](), list[float]()
        all_wait = threading.Barrier(5, timeout=DEADLINE)

        def work(handle: Store, name: str) -> None:
            handle.begin(name, LONG)
            all_wait.wait()
            while not (claimed := claim(handle, 1, session=name)):
                assert handle.wait(["q"], DEADLINE)
            done.extend(bodies(claimed))

        def publish() -> None:
            all_wait.wait()
            time.sleep(0.1)
            begin.append(time.monotonic())
            put(store, *"1234")

        handles = [open_another() for _ in range(4)]
        run_threads([publish, *(partial(work, each, f"w{n}") for n, each in enumerate(handles))])
        assert sorted(done) == [*"1234"]
        assert time.monotonic() - begin[0] < 2.0

    def test_threads_wait_for_different_queues(self, store: Store) -> None:
        woken: list[str] = []

        def wait(queue: str) -> None:
            while not store.count(queue).ready:
                assert store.wait([queue], DEADLINE)
            woken.append(queue)

        def publish() -> None:
            for queue in "abc":
                put(store, "1", queue=queue)
                until(partial(woken.count, queue), f"the end of the wait for {queue}")

        run_threads([publish, *(partial(wait, queue) for queue in "cab")])
        assert woken == [*"abc"]

    def test_who_waits_hinders_no_other_thread(self, store: Store) -> None:
        store.wait(["q"], 0)  # In this thread: a method that is not written skips the test.
        waiter = threading.Thread(target=store.wait, args=(["q"], 2 * DEADLINE), daemon=True)
        waiter.start()
        time.sleep(0.05)
        begin = time.monotonic()
        put(store, "1", queue="p")
        assert bodies(claim(store, queue="p")) == ["1"]
        assert time.monotonic() - begin < 5.0
        put(store, "1")
        waiter.join(DEADLINE)
        assert not waiter.is_alive(), "`wait` went on after a put"

    def test_closing_wakes_who_waits(self, store: Store) -> None:
        store.wait(["q"], 0.0)

        def wait() -> None:
            begin = time.monotonic()
            try:
                while time.monotonic() - begin < 0.2:  # Some return early, until it is closed.
                    store.wait(["q"], DEADLINE)
            except KombuError:
                pass  # That the store is closed may be said so, too.

        waiter = threading.Thread(target=wait, daemon=True)
        waiter.start()
        time.sleep(0.05)
        store.close()
        waiter.join(DEADLINE / 2)
        assert not waiter.is_alive(), "`wait` went on after `close`"
