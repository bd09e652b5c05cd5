"""The SQLAlchemy transport beside kombu's, and beside the drivers with the same statements.

PostgreSQL runs with fsync and synchronous_commit on. SQLite is measured with `synchronous` FULL,
which kombu uses as well, and with NORMAL.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bare_drivers import BarePostgreSQL, BareSQLite
from databases import compare
from harness import Row
from waiting import idle_seconds, wake_up

from kombu_core.testing.brokers import PostgresServer


def rows(rounds: int) -> list[Row]:
    """Measure publish, batched publish, consume, and how fast an idle consumer wakes."""
    found: list[Row] = []
    with PostgresServer(config={"fsync": "on"}) as server:
        ours = f"sqlalchemy+{server.url}"
        theirs = server.url.replace("postgresql://", "sqlalchemy+postgresql+psycopg://")
        options: dict[str, Any] = {"create_tables": True}
        bare = BarePostgreSQL(server.url)
        found += compare("postgresql", ours, options, theirs, bare, rounds, (2.5, 40.0, 25.0))
        bare.close()
        found.append(Row("postgresql wake-up", wake_up(ours, **options), unit="s"))
        found.append(Row("postgresql processor time of 5 s idle", idle_seconds(ours), unit="s"))
    for level in ("FULL", "NORMAL"):
        with _directory() as directory:
            ours = f"sqlalchemy+sqlite:///{directory}/ours.db"
            theirs = f"sqlalchemy+sqlite:///{directory}/theirs.db"
            lite = BareSQLite(directory / "bare.db", level)
            options = {"synchronous": level}
            name = f"sqlite, {level},"
            found += compare(name, ours, options, theirs, lite, rounds, (10.0, 60.0, 40.0))
            lite.close()
            if level == "FULL":
                found.append(Row("sqlite wake-up", wake_up(ours, **options), unit="s"))
                found.append(Row("sqlite processor time of 5 s idle", idle_seconds(ours), unit="s"))
    return found


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)
