"""The Django transport beside kombu's SQLAlchemy transport, and under load.

PostgreSQL runs with fsync and synchronous_commit on. SQLite is measured with `synchronous` FULL,
which kombu uses as well, and with NORMAL. The bare drivers are those of the SQLAlchemy benchmark.
"""

from __future__ import annotations

import json
import tempfile
from functools import partial
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import django
from bare_drivers import BarePostgreSQL, BareSQLite
from bench_scale import depth
from databases import DEPTHS, compare, consume, crowds, fill, shared, through
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from harness import Row
from sqlalchemy import Connection, create_engine
from waiting import idle_seconds, wake_up

from kombu_core.testing.brokers import PostgresServer

POSTGRESQL: Final = "django://postgresql"
SQLITE: Final = "django://sqlite_full"
LEVELS: Final = ("FULL", "NORMAL")
TABLE: Final = "kombu_django_message"

Databases = dict[str, dict[str, Any]]


def rows(rounds: int) -> list[Row]:
    """Measure speed, idle consumers, deep queues, several consumers, and how tables grow."""
    with (
        PostgresServer(config={"fsync": "on"}) as server,
        tempfile.TemporaryDirectory() as directory,
    ):
        databases = _databases(server.url, Path(directory))
        set_up(databases)
        for alias in databases:
            call_command("migrate", database=alias, verbosity=0)
        found = _beside_kombu(server.url, Path(directory), rounds)
        found += depth("sqlite", SQLITE, rounds, DEPTHS, count=500)
        found += depth("postgresql", POSTGRESQL, rounds, DEPTHS, count=500)
        found += _crowds(databases)
        file = Path(directory, "FULL.db")
        engine = create_engine(f"sqlite:///{file}", isolation_level="AUTOCOMMIT")
        found += through("sqlite", SQLITE, engine, lambda connection: file.stat().st_size)
        url = server.url.replace("postgresql:", "postgresql+psycopg:")
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        found += through("postgresql", POSTGRESQL, engine, _size)
        connections.close_all()
    return [row._replace(name=f"django, {row.name}") for row in found]


def _databases(url: str, directory: Path) -> Databases:
    parts = urlsplit(url)
    found: Databases = {
        "postgresql": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": parts.hostname,
            "PORT": parts.port,
            "USER": parts.username or "",
            "PASSWORD": parts.password or "",
            "NAME": parts.path.strip("/"),
        }
    }
    for level in LEVELS:
        found[f"sqlite_{level.lower()}"] = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(directory / f"{level}.db"),
        }
    return found


def set_up(databases: Databases) -> None:
    """Set Django up with these databases."""
    settings.configure(
        DATABASES={"default": {}, **databases}, INSTALLED_APPS=["kombu_django"], USE_TZ=True
    )
    django.setup()


def _beside_kombu(url: str, directory: Path, rounds: int) -> list[Row]:
    """Publish, publish in batches, consume; and how fast an idle consumer wakes."""
    theirs = url.replace("postgresql://", "sqlalchemy+postgresql+psycopg://")
    bare = BarePostgreSQL(url)
    goals = (2.5, 40.0, 25.0)
    found = compare("postgresql", POSTGRESQL, {}, theirs, bare, rounds, goals)
    bare.close()
    found += _waiting("postgresql", POSTGRESQL, {})
    for level in LEVELS:
        ours = f"django://sqlite_{level.lower()}"
        options = {"synchronous": level}
        theirs = f"sqlalchemy+sqlite:///{directory}/theirs-{level}.db"
        lite = BareSQLite(directory / f"bare-{level}.db", level)
        goals = (10.0, 60.0, 40.0)
        found += compare(f"sqlite, {level},", ours, options, theirs, lite, rounds, goals)
        lite.close()
        if level == "FULL":
            found += _waiting("sqlite", ours, options)
    return found


def _waiting(name: str, url: str, options: dict[str, Any]) -> list[Row]:
    return [
        Row(f"{name} wake-up", wake_up(url, **options), unit="s"),
        Row(f"{name} processor time of 5 s idle", idle_seconds(url), unit="s"),
    ]


def _consume_here(
    databases: str, seconds: float, begin: Barrier, finished: SimpleQueue[float]
) -> None:
    """Consume in a process of its own, which has to set Django up first."""
    set_up(json.loads(databases))
    consume(POSTGRESQL, seconds, begin, finished)


def _crowds(databases: Databases) -> list[Row]:
    words = json.dumps(databases)

    def run(consumers: int, seconds: float) -> tuple[float, None]:
        return shared(consumers, seconds, _consume_here, words, partial(fill, POSTGRESQL)), None

    return crowds(run)


def _size(connection: Connection) -> float:
    found = connection.exec_driver_sql(f"SELECT pg_total_relation_size('{TABLE}')")
    return float(found.scalar_one())
