"""The store contract on Redis: waiting, idle and woken up."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from kombu_core.testing.brokers import BrokerServer
from kombu_core.virtual.store import (
    Claimed,
)
from kombu_redis.store import RedisStore
from plugins.kombu_redis.tests.steps import claim, give_back, put, settle, words

OpenStore = Callable[..., RedisStore]


_PUBLISHER = """
import sys, time
from kombu_core.message import Envelope
from kombu_core.transport import TransportParameters
from kombu_core.url import parse
from kombu_core.virtual.store import Batch, Put
from kombu_redis.transport import RedisTransport

url, prefix = sys.argv[1:]
store = RedisTransport(TransportParameters(parse(url), {"prefix": prefix})).open_store()
print("ready", flush=True)
for line in sys.stdin:
    store.commit(Batch([Put("q", Envelope(b"%r" % time.monotonic(), {}, {}))]))
"""


class TestWait:
    def test_nothing_comes(self, store: RedisStore) -> None:
        begun = time.monotonic()
        assert store.wait(["q", "p"], 0.1) is False
        assert store.wait([], 0.1) is False
        assert 0.19 < time.monotonic() - begun < 2
        assert store.wait(["q"], 0) is False

    def test_what_is_ready_ends_it_at_once(self, store: RedisStore) -> None:
        put(store, "a", queue="p")
        assert store.wait(["q", "p"], 10)

    def test_a_put_of_another_process_ends_it_in_milliseconds(
        self, me: RedisStore, redis_server: BrokerServer, token: str
    ) -> None:
        publisher = subprocess.Popen(
            [sys.executable, "-c", _PUBLISHER, redis_server.url, token],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with publisher:
            assert publisher.stdin is not None
            assert publisher.stdout is not None
            assert publisher.stdout.readline() == "ready\n"
            lags = []
            for _ in range(20):
                timer = threading.Timer(0.02, publisher.stdin.write, ["\n"])
                flush = threading.Timer(0.021, publisher.stdin.flush)
                timer.start()
                timer.join()
                flush.start()
                claimed: list[Claimed] = []
                while not claimed:
                    assert me.wait(["q"], 5)
                    claimed = claim(me)
                lags.append(time.monotonic() - float(words(claimed)[0]))
                settle(me, acks=[item.claim for item in claimed])
            publisher.stdin.close()
        assert sorted(lags)[10] < 0.1, lags  # It would be seconds if it polled.

    @pytest.mark.parametrize("how", ["release", "end", "delay"])
    def test_everything_that_makes_ready_ends_it(
        self, me: RedisStore, open_store: OpenStore, how: str
    ) -> None:
        other = open_store()
        put(me, "a")
        held = claim(me)
        actions = {
            "release": lambda: give_back(other, held),
            "end": lambda: other.end("me"),
            "delay": lambda: put(other, "b", delay=0.05),
        }
        timer = threading.Timer(0.05, actions[how])
        timer.start()
        begun = time.monotonic()
        # A wake-up in vain is allowed, as the one that tells of the delayed message.
        while not me.count("q").ready:
            assert me.wait(["q"], 5)
        assert time.monotonic() - begun < 2
        timer.join()

    def test_it_wakes_for_a_delayed_message(self, me: RedisStore) -> None:
        put(me, "a", delay=0.2)
        begun = time.monotonic()
        while not claim(me):
            me.wait(["q"], 5)
        assert 0.19 < time.monotonic() - begun < 2

    def test_idle_waiting_takes_no_processor_time(self, store: RedisStore) -> None:
        store.wait(["q"], 0.01)
        begun = time.process_time()
        store.wait(["q"], 1.5)
        assert time.process_time() - begun < 0.03

    def test_the_token_is_handed_on(self, me: RedisStore, open_store: OpenStore) -> None:
        """One batch wakes all waiters, one after the other, as long as there is work."""
        done: list[str] = []
        begun = threading.Barrier(5)

        def work(name: str) -> None:
            store = open_store()
            store.begin(name, 60)
            begun.wait()
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                if claimed := claim(store, 1, name):
                    done.append(words(claimed)[0])
                    return
                store.wait(["q"], 5)

        threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(4)]
        for thread in threads:
            thread.start()
        begun.wait()
        time.sleep(0.1)
        started = time.monotonic()
        put(me, *"abcd")
        for thread in threads:
            thread.join()
        assert sorted(done) == list("abcd")
        assert time.monotonic() - started < 2

    def test_close_ends_it(self, store: RedisStore) -> None:
        threading.Timer(0.1, store.close).start()
        begun = time.monotonic()
        assert store.wait(["q"], 30) is False
        assert time.monotonic() - begun < 5
        assert store.wait(["q"], 30) is False
        assert store.wait([], 30) is False

    def test_it_hinders_no_other_thread(self, me: RedisStore) -> None:
        waiter = threading.Thread(target=me.wait, args=(["q"], 20))
        waiter.start()
        time.sleep(0.05)
        begun = time.monotonic()
        put(me, "x", queue="p")
        claim(me, queue="p")
        assert time.monotonic() - begun < 5
        put(me, "x")
        waiter.join()
