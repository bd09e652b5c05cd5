"""Connections of our own to a database of Django's: how they are made and set up."""

from __future__ import annotations

import os
import time
from typing import Any, Final

from django.db import OperationalError, connections

from kombu_core.exceptions import ConfigurationError
from kombu_django.options import DjangoOptions

#: Settings that belong to the application's own connections.
_THEIRS: Final = frozenset({"pool", "isolation_level", "server_side_binding"})

#: A statement that is used so often is prepared.
_USES_UNPREPARED: Final = 3


def open_wrapper(alias: str, options: DjangoOptions) -> Any:
    """Connect, in autocommit mode. Any thread may use what is returned, one at a time."""
    found = connections.create_connection(alias)
    if str(connections[alias].settings_dict["NAME"]) == ":memory:":
        raise ConfigurationError(
            f"The database {alias!r} is in the memory of one connection; use one in a file, or "
            "memory:// as the transport"
        )
    settings = dict(connections[alias].settings_dict)
    chosen = {key: value for key, value in settings["OPTIONS"].items() if key not in _THEIRS}
    if found.vendor == "sqlite":
        chosen["timeout"] = options.lock_timeout
    elif options.listen and is_psycopg3(found):
        chosen |= {"server_side_binding": True, "prepare_threshold": _USES_UNPREPARED}
    found.settings_dict = {**settings, "OPTIONS": chosen, "AUTOCOMMIT": True}
    found.inc_thread_sharing()
    try:
        found.ensure_connection()
        _SET_UP.get(found.vendor, _nothing)(found, options)
    except BaseException:
        close_wrapper(found)
        raise
    return found


def is_psycopg3(connection: Any) -> bool:
    """Tell whether this is PostgreSQL, by the driver that prepares and tells of notifications."""
    return connection.vendor == "postgresql" and bool(connection.Database.__name__ == "psycopg")


def close_wrapper(ours: Any) -> None:
    """Close a connection of our own. Idempotent."""
    if ours.vendor == "sqlite" and ours.connection is not None and ours.is_in_memory_db():
        # Django keeps these open, as the last one to go takes the database with it.
        ours.connection.close()
        ours.connection = None
    else:
        ours.close()


def file_of(alias: str) -> str | None:
    """Return the file of a database of SQLite; None: it has none."""
    theirs = connections[alias]
    if theirs.vendor != "sqlite" or theirs.is_in_memory_db():
        return None
    return os.path.realpath(str(theirs.settings_dict["NAME"]))


def _execute(connection: Any, *statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _postgresql(connection: Any, options: DjangoOptions) -> None:
    if not options.listen:
        return  # What is set stays with the pooler's connection, and so with others.
    _execute(
        connection,
        f"SET lock_timeout = {round(options.lock_timeout * 1000)}",
        # Everything here is found by an index, in its order, whatever is known of the tables.
        "SET enable_seqscan = off",
        "SET enable_bitmapscan = off",
        "SET jit = off",
    )


def _mysql(connection: Any, options: DjangoOptions) -> None:
    _execute(
        connection,
        f"SET SESSION innodb_lock_wait_timeout = {max(1, round(options.lock_timeout))}",
        # Each statement sees what is committed, and no lock is taken between two rows.
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    )


def _sqlite(connection: Any, options: DjangoOptions) -> None:
    deadline = time.monotonic() + options.lock_timeout
    while True:
        try:
            # Changes the file when it is new; waits for no lock by itself.
            _execute(connection, "PRAGMA journal_mode = WAL")
            break
        except OperationalError:
            if connections[connection.alias].in_atomic_block:
                break  # This thread itself is in the way; a later connection does it.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    _execute(connection, f"PRAGMA synchronous = {options.synchronous}")


def _nothing(connection: Any, options: DjangoOptions) -> None:
    """Leave it as it is."""


_SET_UP: Final = {"postgresql": _postgresql, "mysql": _mysql, "sqlite": _sqlite}
