"""The store contract on Redis: waiting, idle and woken up."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from functools import partial

from kombu_core.testing.brokers import BrokerServer
from kombu_core.virtual.store import Claimed
from kombu_redis.store import RedisStore
from plugins.kombu_redis.tests.steps import claim, settle, words

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
            publish = partial(print, file=publisher.stdin, flush=True)
            lags = []
            for _ in range(20):
                timer = threading.Timer(0.02, publish)
                timer.start()
                claimed: list[Claimed] = []
                while not claimed:
                    assert me.wait(["q"], 5)
                    claimed = claim(me)
                lags.append(time.monotonic() - float(words(claimed)[0]))
                timer.join()
                settle(me, acks=[item.claim for item in claimed])
            publisher.stdin.close()
        assert sorted(lags)[10] < 0.1, lags  # It would be seconds if it polled.

    def test_idle_waiting_takes_no_processor_time(self, store: RedisStore) -> None:
        store.wait(["q"], 0.01)
        begun = time.process_time()
        store.wait(["q"], 1.5)
        assert time.process_time() - begun < 0.03

    def test_close_ends_it(self, store: RedisStore) -> None:
        threading.Timer(0.1, store.close).start()
        begun = time.monotonic()
        assert store.wait(["q"], 30) is False
        assert time.monotonic() - begun < 5
        assert store.wait(["q"], 30) is False
        assert store.wait([], 30) is False
