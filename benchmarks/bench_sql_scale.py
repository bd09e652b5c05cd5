"""Databases under load: deep queues, several consumers, and a million messages through."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from bare_drivers import BarePostgreSQL
from bench_scale import depth
from databases import DEPTHS, consume, crowds, fill, shared, through
from harness import Row
from sqlalchemy import Connection, create_engine

from kombu_core.testing.brokers import PostgresServer


def rows(rounds: int) -> list[Row]:
    """Measure; rows of one kind are to be compared with each other."""
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "depth.db")
        url = f"sqlalchemy+sqlite:///{file}"
        found += depth("sqlite", url, rounds, DEPTHS, count=500)
        engine = create_engine(f"sqlite:///{file}", isolation_level="AUTOCOMMIT")
        found += through("sqlite", url, engine, lambda connection: file.stat().st_size)
    with PostgresServer() as server:
        url = f"sqlalchemy+{server.url}?kombu_create_tables=true"
        found += depth("postgresql", url, rounds, DEPTHS, count=500)
        found += _crowds(url, server.url)
        engine = create_engine(
            server.url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
        )
        found += through("postgresql", url, engine, _postgresql_size)
    return found


def _crowds(url: str, bare: str) -> list[Row]:
    def run(consumers: int, seconds: float) -> tuple[float, float]:
        ours = shared(consumers, seconds, consume, url, partial(fill, url))
        raw = shared(consumers, seconds, _consume_bare, bare, partial(_fill_bare, bare))
        return ours, raw

    return crowds(run)


def _consume_bare(url: str, seconds: float, begin: Barrier, finished: SimpleQueue[float]) -> None:
    bare = BarePostgreSQL(url)
    begin.wait()
    while bare.consume_some(partial(time.sleep, seconds) if seconds else None):
        last = time.monotonic()
    finished.put(last)
    bare.close()


def _fill_bare(url: str, _: str, count: int) -> None:
    bare = BarePostgreSQL(url)
    bare.publish_batch(count)
    bare.close()


def _postgresql_size(connection: Connection) -> float:
    found = connection.exec_driver_sql("SELECT pg_total_relation_size('kombu_messages')")
    return float(found.scalar_one())
