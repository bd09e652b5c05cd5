"""What the models cannot say: shared locks, a row for each of several queues, copies of rows.

Written so that every database of Django's understands it, but for the ends of two statements.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from django.db import connections
from django.db.models import QuerySet

from kombu_core.virtual.tables import DELAYED, READY
from kombu_django.fields import CLOCKS
from kombu_django.models import Message

#: MySQL 8 knows FOR SHARE, MariaDB does not, and both know this. Others lock for themselves.
_SHARED: Final = {"postgresql": " FOR SHARE", "mysql": " LOCK IN SHARE MODE", "sqlite": ""}


def shared_rows(queryset: QuerySet[Any], using: str) -> list[tuple[Any, ...]]:
    """Return the rows of `values_list`, locked so that others may read and lock them, too."""
    end = _SHARED.get(connections[using].vendor)
    if end is None:
        return list(queryset.select_for_update())
    text, parameters = queryset.query.get_compiler(using=using).as_sql()
    return rows(using, text + end, parameters)


def exclusive(queryset: QuerySet[Any], using: str, *, skips: bool = False) -> QuerySet[Any]:
    """Let a query lock what it finds; `skips`: but for what others have locked."""
    features = connections[using].features
    if not features.has_select_for_update:
        return queryset
    return queryset.select_for_update(
        skip_locked=skips and features.has_select_for_update_skip_locked
    )


def rows(using: str, text: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows."""
    with connections[using].cursor() as cursor:
        cursor.execute(text, parameters)
        return list(cursor.fetchall())


def now(using: str) -> int:
    """Return the time by the database's clock."""
    connection = connections[using]
    ((found,),) = rows(using, f"SELECT {CLOCKS[connection.vendor]}{_bare(connection)}")
    return int(found)


def glance(using: str) -> int:
    """Return a number that changes when another connection has changed the file of SQLite."""
    # The driver itself, for this is asked for all the time.
    driver: Any = connections[using].connection
    return int(driver.execute("PRAGMA data_version").fetchone()[0])


def states(using: str, queues: Sequence[str]) -> list[tuple[int, bool, int | None]]:
    """Return for each queue its number, whether messages are ready, and when the next is due.

    That is in microseconds from now; None: no message is delayed.
    """
    connection = connections[using]
    table = connection.ops.quote_name(Message._meta.db_table)
    name = Message._meta.get_field("queue")
    clock = CLOCKS[connection.vendor]
    parts, parameters = [], []
    for number, queue in enumerate(queues):
        parts.append(
            f"SELECT {number}, "
            f"CASE WHEN EXISTS (SELECT 1 FROM {table} WHERE queue = %s AND state = {READY}) "
            "THEN 1 ELSE 0 END, "
            f"(SELECT MIN(available_at) FROM {table} WHERE queue = %s AND state = {DELAYED}) "
            f"- {clock}{_bare(connection)}"
        )
        parameters += [name.get_db_prep_value(queue, connection)] * 2
    found = rows(using, " UNION ALL ".join(parts), parameters)
    return [(number, bool(is_ready), due) for number, is_ready, due in found]


def copy_as_ready(using: str, ids: Iterable[int]) -> None:
    """Insert the rows of these messages again, as ready ones, in the order of their times."""
    table = connections[using].ops.quote_name(Message._meta.db_table)
    chosen = list(ids)
    with connections[using].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (queue, state, level, deliveries, put_at, expires_at, size, body)"
            f" SELECT queue, {READY}, level, deliveries, put_at, expires_at, size, body"
            f" FROM {table} WHERE id IN ({', '.join(['%s'] * len(chosen))})"
            " ORDER BY available_at, id",
            chosen,
        )


def _bare(connection: Any) -> str:
    """Return what a SELECT without a table ends with, for Oracle."""
    return str(connection.features.bare_select_suffix)
