"""The store contract on each database: waiting, idle and woken up."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from kombu_core.virtual.store import Claimed
from kombu_sqlalchemy.store import SQLAlchemyStore
from plugins.kombu_sqlalchemy.tests.steps import claim, give_back, put, settle, together, words

OpenStore = Callable[..., SQLAlchemyStore]

_PUBLISHER = """
import sys, time
from kombu_core.message import Envelope
from kombu_core.transport import TransportParameters
from kombu_core.url import parse
from kombu_core.virtual.store import Batch, Put
from kombu_sqlalchemy.transport import SQLAlchemyTransport

url, prefix = sys.argv[1:]
parameters = TransportParameters(parse(url, opaque=True), {"prefix": prefix})
store = SQLAlchemyTransport(parameters).open_store()
print("ready", flush=True)
for line in sys.stdin:
    store.commit(Batch([Put("q", Envelope(b"%r" % time.monotonic(), {}, {}))]))
"""

#: Seconds from a put by another process to the claim, the median; what is usual is far below, and
#: the safety net's look far above.
_LAG = 0.2


def test_nothing_comes(store: SQLAlchemyStore) -> None:
    begun = time.monotonic()
    assert store.wait(["q", "p"], 0.1) is False
    assert store.wait([], 0.1) is False
    assert 0.19 < time.monotonic() - begun < 2
    assert store.wait(["q"], 0) is False


def test_what_is_ready_ends_it_at_once(store: SQLAlchemyStore) -> None:
    put(store, "a", queue="p")
    assert store.wait(["q", "p"], 10)


def test_a_put_of_another_process_ends_it_in_milliseconds(
    me: SQLAlchemyStore, url: str, options: dict[str, str], backend: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PUBLISHER, url, options["prefix"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as publisher:
        assert publisher.stdin is not None
        assert publisher.stdout is not None
        assert publisher.stdout.readline() == "ready\n"
        lags = []
        for _ in range(20):
            timer = threading.Timer(0.1, publisher.stdin.write, ["\n"])
            flush = threading.Timer(0.11, publisher.stdin.flush)
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
    assert sorted(lags)[10] < _LAG, lags


@pytest.mark.parametrize("how", ["release", "end", "delay"])
def test_everything_that_makes_ready_ends_it(
    me: SQLAlchemyStore, open_store: OpenStore, how: str
) -> None:
    other = open_store()
    put(me, "a")
    held = claim(me)
    actions: dict[str, Callable[[], object]] = {
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


def test_it_wakes_for_a_delayed_message(me: SQLAlchemyStore) -> None:
    put(me, "a", delay=0.2)
    begun = time.monotonic()
    while not claim(me):
        me.wait(["q"], 5)
    assert 0.19 < time.monotonic() - begun < 2


def test_idle_waiting_takes_no_processor_time(store: SQLAlchemyStore, backend: str) -> None:
    store.wait(["q"], 0.1)
    begun = time.process_time()
    store.wait(["q"], 2)
    assert time.process_time() - begun < (0.1 if backend == "mariadb" else 0.03)


def test_one_batch_wakes_all_who_wait(me: SQLAlchemyStore, open_store: OpenStore) -> None:
    done: list[str] = []
    ready = threading.Barrier(5)

    def work(name: str) -> None:
        store = open_store()
        store.begin(name, 60)
        ready.wait()
        while not (claimed := claim(store, 1, name)):
            assert store.wait(["q"], 5)
        done.append(words(claimed)[0])

    def publish() -> None:
        ready.wait()
        time.sleep(0.1)
        put(me, *"abcd")

    together(publish, *(lambda n=n: work(f"w{n}") for n in range(4)))
    assert sorted(done) == list("abcd")


def test_threads_wait_for_different_queues(me: SQLAlchemyStore) -> None:
    woken: list[str] = []

    def wait(queue: str) -> None:
        while not me.count(queue).ready:
            assert me.wait([queue], 5)
        woken.append(queue)

    def publish() -> None:
        for queue in "abc":
            time.sleep(0.08)
            put(me, "x", queue=queue)

    together(publish, *(lambda queue=queue: wait(queue) for queue in "cab"))
    assert woken == list("abc")


def test_queues_that_come_and_go(me: SQLAlchemyStore) -> None:
    for number in range(150):
        me.wait([f"reply{number}"], 0.0)
    timer = threading.Timer(0.1, put, (me, "x"), {"queue": "reply0"})
    timer.start()
    assert me.wait(["reply0"], 5)
    timer.join()
    assert me.count("reply0").ready == 1


def test_close_ends_it(store: SQLAlchemyStore) -> None:
    threading.Timer(0.1, store.close).start()
    begun = time.monotonic()
    assert store.wait(["q"], 30) is False
    assert store.wait(["q"], 30) is False
    assert store.wait([], 30) is False
    assert time.monotonic() - begun < 5


def test_it_hinders_no_other_thread(me: SQLAlchemyStore) -> None:
    waiter = threading.Thread(target=me.wait, args=(["q"], 20))
    waiter.start()
    time.sleep(0.05)
    begun = time.monotonic()
    put(me, "x", queue="p")
    claim(me, queue="p")
    assert time.monotonic() - begun < 5
    put(me, "x")
    waiter.join()
