"""The store contract on each database: waiting, idle and woken up."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from functools import partial

import pytest

from kombu_core.testing.harness import until
from kombu_core.virtual import listening
from kombu_core.virtual.store import Claimed
from kombu_sqlalchemy.store import SQLAlchemyStore
from plugins.kombu_sqlalchemy.tests.steps import claim, put, settle, words

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
        publish = partial(print, file=publisher.stdin, flush=True)
        lags = []
        for _ in range(20):
            timer = threading.Timer(0.05, publish)
            timer.start()
            claimed: list[Claimed] = []
            while not claimed:
                assert me.wait(["q"], 5)
                claimed = claim(me)
            lags.append(time.monotonic() - float(words(claimed)[0]))
            timer.join()
            settle(me, acks=[item.claim for item in claimed])
        publisher.stdin.close()
    assert sorted(lags)[10] < _LAG, lags


def test_idle_waiting_takes_no_processor_time(store: SQLAlchemyStore, backend: str) -> None:
    store.wait(["q"], 0.1)
    begun = time.process_time()
    store.wait(["q"], 2)
    assert time.process_time() - begun < (0.1 if backend == "mariadb" else 0.03)


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


def test_who_listens_for_nobody_is_disconnected(
    store: SQLAlchemyStore, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what it is told piles up, where the server keeps it for all databases."""
    if backend != "postgresql":
        pytest.skip("nobody listens there")
    store.wait(["q"], 0.01)
    store.wait(["q"], 0.01)
    assert _listening(store) == 1
    store.begin("me", 60)
    assert store.renew("me", 60)
    assert _listening(store) == 1
    monkeypatch.setattr(listening, "_IDLE", 0.0)
    assert store.renew("me", 60)
    until(lambda: _listening(store) == 0, "the end of the connection that listens")
    put(store, "a")
    assert store.wait(["q"], 5)


def _listening(store: SQLAlchemyStore) -> int:
    """Connections of this database's whose last statement was a look at the queues."""
    statement = (
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%available_at%j(q)%' "
        f"AND query LIKE '%{store.queries.table}%' AND query NOT LIKE '%pg_stat_activity%'"
    )
    with store.database.connect() as connection:
        return int(connection.exec_driver_sql(statement.replace("%", "%%")).scalar_one())
