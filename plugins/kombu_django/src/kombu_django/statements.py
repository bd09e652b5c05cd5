"""What the models cannot say: shared locks, guarded inserts, a row for each of several queues.

Written so that every database of Django's understands it, but for the ends of two statements.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, Final

from django.db import connections
from django.db.models import QuerySet

from kombu_core.virtual.listening import channel_of
from kombu_core.virtual.tables import READY
from kombu_core.virtual.tables import Message as NewMessage
from kombu_django.fields import CLOCKS
from kombu_django.models import Document, Message, WriteLock

#: MySQL 8 knows FOR SHARE, MariaDB does not, and both know this. Others lock for themselves.
_SHARED: Final = {"postgresql": " FOR SHARE", "mysql": " LOCK IN SHARE MODE", "sqlite": ""}
#: Where one statement inserts a message if documents are as they should be.
GUARDED: Final = frozenset({"postgresql", "sqlite"})

#: Messages that one statement inserts, and queues that one asks for: SQLite may have been built
#: for 999 values, and 500 parts of a UNION.
_TOGETHER: Final = 120

_QUEUE: Final = Message._meta.get_field("queue")
_KEY: Final = Document._meta.get_field("name")


def shared_rows(queryset: QuerySet[Any], using: str) -> list[tuple[Any, ...]]:
    """Return the rows of `values_list`, locked so that others may read and lock them, too."""
    end = _SHARED.get(connections[using].vendor)
    if end is None:
        return list(queryset.select_for_update())
    text, parameters = queryset.query.get_compiler(using=using).as_sql()
    return rows(using, text + end, parameters)


def documents(using: str, keys: Sequence[str]) -> list[tuple[str, int, bytes]]:
    """Return name, version and value of the documents that are there.

    In a transaction that sees but what was there when it began, this sees the present, which is
    what a publish in it will be held against.
    """
    is_shared = bool(connections[using].in_atomic_block)
    found = _documents(using, keys, ("name", "version", "value"), is_shared=is_shared)
    return [(name, version, bytes(value)) for name, version, value in found]


def shared_versions(using: str, keys: Sequence[str]) -> dict[str, int]:
    """Return the versions of the documents that are there, locked as by `shared_rows`."""
    return dict(_documents(using, keys, ("name", "version"), is_shared=True))


def _documents(
    using: str, keys: Sequence[str], columns: Sequence[str], *, is_shared: bool
) -> list[Any]:
    connection = connections[using]
    if connection.vendor not in _SHARED:
        query = Document.objects.using(using).filter(name__in=keys).order_by("name")
        asked = query.values_list(*columns)
        return shared_rows(asked, using) if is_shared else list(asked)
    # The models would build it anew each time, in more time than it takes.
    names = [_KEY.get_db_prep_value(key, connection) for key in keys]
    places = ", ".join(["%s"] * len(names))
    text = (
        f"SELECT {', '.join(columns)} FROM {table_of(connection, Document)} "
        f"WHERE name IN ({places}) ORDER BY name"
    )
    found = rows(using, text + (_SHARED[connection.vendor] if is_shared else ""), names)
    if connection.vendor == "mysql":
        return [(name.decode(), *rest) for name, *rest in found]
    return found


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


def insert(using: str, messages: Sequence[NewMessage]) -> None:
    """Insert messages, in order, and tell of them."""
    connection = connections[using]
    if connection.vendor == "postgresql":
        _insert_arrays(using, messages)
    else:
        into, values = _insert_texts(connection.vendor, table_of(connection, Message))
        together = 1 if connection.vendor == "oracle" else _TOGETHER
        with connection.cursor() as cursor:
            for start in range(0, len(messages), together):
                some = messages[start : start + together]
                text = f"{into} VALUES {', '.join([f'({values})'] * len(some))}"
                cursor.execute(text, [value for one in some for value in _values(one, connection)])
    notify(using, {message.queue for message in messages})


def _insert_arrays(using: str, messages: Sequence[NewMessage]) -> None:
    """Insert any number of messages by a statement with a parameter for each column."""
    if not messages:
        return
    connection = connections[using]
    queues, levels, delays, lives, sizes, bodies = map(list, zip(*messages, strict=True))
    states = [message.state for message in messages]
    clock = CLOCKS["postgresql"]
    with connection.cursor() as cursor:
        cursor.execute(
            f"{_into(table_of(connection, Message))} SELECT queue, state, level, size, body, 0, "
            f"{clock}, {clock} + delay, {clock} + life, COALESCE({clock} + delay, {clock}) "
            "FROM unnest(CAST(%s AS text[]), CAST(%s AS smallint[]), CAST(%s AS smallint[]), "
            "CAST(%s AS bigint[]), CAST(%s AS bytea[]), CAST(%s AS bigint[]), "
            "CAST(%s AS bigint[])) WITH ORDINALITY "
            "AS p(queue, state, level, size, body, delay, life, number) ORDER BY number",
            [
                queues,
                states,
                levels,
                sizes,
                [connection.Database.Binary(body) for body in bodies],
                delays,
                lives,
            ],
        )


def notify(using: str, queues: Collection[str]) -> None:
    """Tell who waits for queues, at the commit, where the database can.

    Equal notifications of one transaction are one.
    """
    if queues and connections[using].vendor == "postgresql":
        text = "SELECT pg_notify(j.q, '') FROM unnest(%s::text[]) AS j(q)"
        rows(using, text, [[channel(queue) for queue in queues]])


def channel(queue: str) -> str:
    """Return what is notified of a queue."""
    return channel_of(Message._meta.db_table, queue)


def insert_guarded(using: str, message: NewMessage, expect: Sequence[tuple[str, int]]) -> bool:
    """Insert a message if documents have these versions, and lock those (shared).

    Where the vendor is one of `GUARDED`. FOR SHARE waits for whoever changes a document just now,
    and then sees the new version; SQLite takes its lock before anything is read.
    """
    connection = connections[using]
    into, values = _insert_texts(connection.vendor, table_of(connection, Message))
    there = (
        f"EXISTS (SELECT 1 FROM {table_of(connection, Document)} "
        f"WHERE name = %s AND version = %s{_SHARED[connection.vendor]})"
    )
    text = f"{into} SELECT {values}"
    if expect:
        text += f" WHERE {' AND '.join([there] * len(expect))}"
    guards = [value for guard in sorted(expect) for value in guard]
    parameters = [*_values(message, connection), *guards]
    if connection.vendor == "postgresql":
        text = f"WITH put AS ({text} RETURNING 1) SELECT pg_notify(%s, '') FROM put"
        parameters.append(channel(message.queue))
    with connection.cursor() as cursor:
        cursor.execute(text, parameters)
        return bool(cursor.rowcount)


def _into(table: str) -> str:
    return (
        f"INSERT INTO {table} (queue, state, level, size, body, "
        "deliveries, put_at, available_at, expires_at, place)"
    )


@cache
def _insert_texts(vendor: str, table: str) -> tuple[str, str]:
    """Return the beginning of the statements that insert messages, and one row of values."""
    clock = CLOCKS[vendor]
    kind = {"mysql": "SIGNED", "oracle": "NUMBER(19)"}.get(vendor, "bigint")
    later = f"{clock} + CAST(%s AS {kind})"
    values = f"%s, %s, %s, %s, %s, 0, {clock}, {later}, {later}, COALESCE({later}, {clock})"
    return _into(table), values


def _values(message: NewMessage, connection: Any) -> list[Any]:
    queue, level, delay, life, size, body = message
    name = _QUEUE.get_db_prep_value(queue, connection)
    return [name, message.state, level, size, connection.Database.Binary(body), delay, life, delay]


def now(using: str) -> int:
    """Return the time by the database's clock."""
    connection = connections[using]
    ((found,),) = rows(using, f"SELECT {CLOCKS[connection.vendor]}{_bare(connection)}")
    return int(found)


def take_write_lock(using: str) -> None:
    """Let SQLite lock the file for writing: a statement that would write does, if it finds any."""
    table = table_of(connections[using], WriteLock)
    with connections[using].cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET value = 0 WHERE id < 0")


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
    table, clock = table_of(connection, Message), CLOCKS[connection.vendor]
    # Not the least of all: that is looked for in every row by some.
    columns = (
        f"CASE WHEN EXISTS (SELECT 1 FROM {table} WHERE queue = %s AND state = {READY}) "
        "THEN 1 ELSE 0 END, "
        f"(SELECT available_at FROM {table} WHERE queue = %s AND available_at IS NOT NULL "
        f"ORDER BY available_at {_first(connection)}) - {clock}{_bare(connection)}"
    )
    found = _for_each(using, queues, columns)
    return [(number, bool(is_ready), due) for number, is_ready, due in found]


def heads(using: str, queues: Sequence[str]) -> list[int]:
    """Return the numbers of those queues whose first message expired, or that have due ones."""
    connection = connections[using]
    table, clock = table_of(connection, Message), CLOCKS[connection.vendor]
    columns = (
        f"CASE WHEN (SELECT expires_at FROM {table} WHERE queue = %s AND state = {READY} "
        f"ORDER BY level, place, id {_first(connection)}) <= {clock} "
        f"OR EXISTS (SELECT 1 FROM {table} WHERE queue = %s AND available_at <= {clock}) "
        f"THEN 1 ELSE 0 END{_bare(connection)}"
    )
    return [number for number, is_found in _for_each(using, queues, columns) if is_found]


def _for_each(using: str, queues: Sequence[str], columns: str) -> list[Any]:
    """Return number and columns, in which the name stands twice, for each of several queues."""
    connection = connections[using]
    found: list[Any] = []
    for start in range(0, len(queues), _TOGETHER):
        some = queues[start : start + _TOGETHER]
        parts = [f"SELECT {start + number}, {columns}" for number in range(len(some))]
        names = [_QUEUE.get_db_prep_value(queue, connection) for queue in some]
        twice = [name for name in names for _ in range(2)]
        found += rows(using, " UNION ALL ".join(parts), twice)
    return found


def _first(connection: Any) -> str:
    return str(connection.ops.limit_offset_sql(0, 1))


def table_of(connection: Any, model: Any) -> str:
    """Return the name of a model's table, quoted."""
    return str(connection.ops.quote_name(model._meta.db_table))


def _bare(connection: Any) -> str:
    """Return what a SELECT without a table ends with, for Oracle."""
    return str(connection.features.bare_select_suffix)
