"""Waiting: `wait` returns when there is something, and soon."""

from __future__ import annotations

import threading
import time

import pytest

from kombu_core.exceptions import KombuError
from kombu_core.testing.contract.requirements import requires
from kombu_core.testing.harness import DEADLINE
from kombu_core.testing.store.fixtures import LONG, ME, claim, put
from kombu_core.testing.store.sessions import SHORT, let_lapse
from kombu_core.virtual.store import Batch, Release, Store


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
        assert time.monotonic() - begin < 5.0

    @pytest.mark.parametrize("wake", ["put", "release"])
    def test_a_wait_ends_when_another_handle_makes_something_ready(
        self, store: Store, other: Store, wake: str
    ) -> None:
        put(store, "1")
        (owned,) = claim(store)
        store.wait(["q"], 0.01)

        def act() -> None:
            if wake == "put":
                put(other, "2")
            else:
                other.commit(Batch(releases=[Release(owned.claim)], session=ME))

        timer = threading.Timer(0.1, act)
        begin = time.monotonic()
        timer.start()
        while not store.count("q").ready and time.monotonic() - begin < DEADLINE:
            store.wait(["q"], DEADLINE)
        assert 0.05 < time.monotonic() - begin < 1.5
        timer.join()

    @pytest.mark.parametrize("how", ["end", "reap"])
    def test_a_wait_ends_when_another_handle_gives_back_what_a_session_had(
        self, store: Store, other: Store, how: str
    ) -> None:
        put(store, "1")
        other.begin("gone", LONG if how == "end" else SHORT)
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
    def test_a_wait_ends_when_a_delay_does(self, store: Store) -> None:
        put(store, "1", delay=0.1)
        begin = time.monotonic()
        while not store.count("q").ready and time.monotonic() - begin < DEADLINE:
            store.wait(["q"], DEADLINE)
        assert time.monotonic() - begin < 1.5

    def test_closing_wakes_who_waits(self, store: Store) -> None:
        store.wait(["q"], 0.0)

        def wait() -> None:
            begin = time.monotonic()
            try:
                while time.monotonic() - begin < 0.5:  # Some return early, until it is closed.
                    store.wait(["q"], DEADLINE)
            except KombuError:
                pass  # That the store is closed may be said so, too.

        waiter = threading.Thread(target=wait, daemon=True)
        waiter.start()
        time.sleep(0.1)
        store.close()
        waiter.join(DEADLINE / 2)
        assert not waiter.is_alive(), "`wait` went on after `close`"
