"""From a URL and options to an engine: drivers, time limits, and how each database is set up."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final, NoReturn

from sqlalchemy import URL, Engine, create_engine, event, exc
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool, QueuePool

from kombu_core.exceptions import ConfigurationError, ConnectError
from kombu_core.url import BrokerURL, Secret
from kombu_sqlalchemy.database import Database
from kombu_sqlalchemy.options import SQLAlchemyOptions

#: What a parameter of the URL's query begins with that is an option of ours.
OPTION: Final = "kombu_"
#: The databases, and what begins a transaction that writes.
_BEGIN: Final[Mapping[str, str]] = {
    "postgresql": "BEGIN ISOLATION LEVEL READ COMMITTED",
    "mysql": "START TRANSACTION",
    "mariadb": "START TRANSACTION",
    # Not the default, which would take the lock at the first write, after reading.
    "sqlite": "BEGIN IMMEDIATE",
}
#: The drivers of URLs that name none.
_DRIVERS: Final[Mapping[str, str]] = {
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
#: The extra of this distribution that installs a driver.
_EXTRAS: Final[Mapping[str, str]] = {"psycopg": "postgresql", "pymysql": "mysql"}
_NAMES: Final = frozenset(item.name for item in fields(SQLAlchemyOptions))
#: What a URL of SQLite may say to its driver.
_SQLITE: Final = frozenset(
    {"uri", "timeout", "isolation_level", "detect_types", "check_same_thread", "cached_statements"}
)
#: For a connection beside those of an engine that is connected.
_CONNECT_SECONDS: Final = 10.0
_MEMORY: Final = ("", ":memory:")


def split_url(url: BrokerURL) -> tuple[URL, dict[str, str]]:
    """Return SQLAlchemy's URL and the options in it: parameters `kombu_NAME` of the query.

    Raises:
        ConfigurationError: It is none that SQLAlchemy can read, or of no database that this
            plugin knows.
    """
    text = url.raw.reveal()
    scheme, _, rest = text.partition("://")
    _, plus, dialect = scheme.partition("+")
    if not plus:
        _fail(f"{url.scheme} wants the database behind a plus, as {url.scheme}+postgresql://")
    try:
        found = make_url(f"{dialect.lower()}://{rest}")
    except (exc.ArgumentError, ValueError):
        found = None
    if found is None:
        _fail(f"this is no URL as SQLAlchemy reads it: {url.as_uri()}")
    backend = found.drivername.partition("+")[0]
    if backend not in _BEGIN:
        _fail(f"there is no kombu for {backend} (known: {', '.join(sorted(_BEGIN))})")
    found = found.set(drivername=_DRIVERS.get(found.drivername, found.drivername))
    options: dict[str, str] = {}
    kept: dict[str, Any] = {}
    for name, value in found.query.items():
        if name in _NAMES:
            _fail(f"the option {name} is {OPTION}{name} in a URL")
        elif not name.startswith(OPTION):
            kept[name] = value
        elif isinstance(value, str):
            options[name.removeprefix(OPTION)] = value
        else:
            _fail(f"the parameter {name} is given twice")
    if backend == "sqlite" and ((found.database or "") in _MEMORY or kept.get("mode") == "memory"):
        _fail("SQLite needs a file, as sqlite:///queue.db; memory:// is the transport without one")
    return found.set(query=kept), options


def open_database(url: URL, options: SQLAlchemyOptions, connect_timeout: float) -> Database:
    """Make the engine and connect.

    Raises:
        ConnectError: It cannot be reached.
        AuthenticationError: It refused the credentials.
        ConfigurationError: The driver is missing or does not know a parameter, the database is
            too old, or the file of SQLite has no directory or is no database.
    """
    backend = url.get_backend_name()
    file = _file(url, options) if backend == "sqlite" else None
    arguments, set_up = _SETTINGS[backend](options, connect_timeout)
    try:
        if url.get_dialect().is_async:
            _fail(f"{url.drivername} is for asyncio; take a driver that is not")
        engine = _engine(
            url,
            set_up,
            {**arguments, **(options.connect_args or {})},
            poolclass=QueuePool,
            pool_size=options.pool_size,
            max_overflow=options.max_overflow,
            pool_timeout=options.socket_timeout,
            pool_use_lifo=True,
            # Whoever begins a transaction here ends it.
            pool_reset_on_return=None,
        )
    except (ImportError, exc.ArgumentError) as error:
        extra = _EXTRAS.get(getattr(error, "name", None) or "")
        hint = f"; pip install kombu-sqlalchemy[{extra}]" if extra else ""
        raise ConfigurationError(f"{url.drivername} cannot be used: {error}{hint}") from error
    database = Database(
        engine,
        begin=_BEGIN[backend],
        file=file,
        patience=options.lock_timeout,
        most_idle=options.pool_size,
        secrets=(Secret(str(url.password)),) if url.password else (),
    )
    try:
        database.open()
        _check_version(engine)
    except BaseException as error:
        database.close()
        if file is not None and isinstance(error, ConnectError | ConfigurationError):
            raise type(error)(f"{file}: {error}") from error
        if isinstance(error, TypeError):  # PyMySQL's, at an argument that it does not know
            raise ConfigurationError(f"{url.drivername} cannot be used: {error}") from error
        raise
    return database


def _file(url: URL, options: SQLAlchemyOptions) -> str:
    """Return the path of SQLite's file; it may be a new one, in a directory that is there."""
    if options.schema is not None:
        _fail(f"SQLite has no schemas, so the option schema cannot be {options.schema}")
    unknown = sorted(set(url.query) - _SQLITE)
    if unknown and "uri" not in url.query:  # SQLAlchemy would only warn.
        _fail(f"SQLite's driver knows no parameter {', '.join(unknown)}")
    path = os.path.realpath(url.database or "")
    if (url.database or "").startswith("file:"):  # a URI of SQLite's own
        return path
    if os.path.isdir(path):
        _fail(f"{path} is a directory, not a file")
    if not os.path.isdir(os.path.dirname(path)):
        _fail(f"the directory of {path} is not there")
    return path


def patient_engine(engine: Engine, options: SQLAlchemyOptions) -> Engine:
    """Return another engine to the same database, whose statements may take any time."""
    arguments, set_up = _SETTINGS[engine.url.get_backend_name()](options, _CONNECT_SECONDS)
    limits = ("read_timeout", "write_timeout")
    kept = {name: value for name, value in arguments.items() if name not in limits}
    arguments = {**kept, **(options.connect_args or {})}
    return _engine(engine.url, set_up, arguments, poolclass=NullPool)


_SetUp = Callable[[Any], None]


def _engine(url: URL, set_up: _SetUp, arguments: dict[str, Any], **pool: Any) -> Engine:
    engine = create_engine(
        url, isolation_level="AUTOCOMMIT", hide_parameters=True, connect_args=arguments, **pool
    )

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: object) -> None:
        set_up(connection)

    return engine


def _postgresql(options: SQLAlchemyOptions, timeout: float) -> tuple[dict[str, Any], _SetUp]:
    arguments = {
        "connect_timeout": max(2, round(timeout)),
        "application_name": "kombu",
        # A peer that is gone is noticed by the system, though the driver waits without a limit.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": round(options.socket_timeout * 1000),
    }
    statements = (
        f"SET lock_timeout = {round(options.lock_timeout * 1000)}",
        # Everything here is found by an index, in its order, however long a queue was when a
        # plan for it was made and kept.
        "SET enable_seqscan = off",
        "SET enable_bitmapscan = off",
        "SET enable_sort = off",
        "SET jit = off",
    )
    return arguments, lambda connection: _execute(connection, statements)


def _mysql(options: SQLAlchemyOptions, timeout: float) -> tuple[dict[str, Any], _SetUp]:
    arguments = {
        "connect_timeout": max(1, round(timeout)),
        "read_timeout": max(1, round(options.socket_timeout)),
        "write_timeout": max(1, round(options.socket_timeout)),
        "charset": "utf8mb4",
    }
    statements = (
        f"SET SESSION innodb_lock_wait_timeout = {max(1, round(options.lock_timeout))}",
        # Each statement sees what is committed, and no lock is taken between two rows.
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    )
    return arguments, lambda connection: _execute(connection, statements)


def _sqlite(options: SQLAlchemyOptions, _: float) -> tuple[dict[str, Any], _SetUp]:
    # Connections go from thread to thread, but no two threads use one at a time.
    arguments = {"timeout": options.lock_timeout, "check_same_thread": False}

    def set_up(connection: sqlite3.Connection) -> None:
        deadline = time.monotonic() + options.lock_timeout
        while True:
            try:
                # Changes the file when it is new; waits for no lock by itself.
                connection.execute("PRAGMA journal_mode = WAL").fetchall()
                break
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        connection.execute(f"PRAGMA synchronous = {options.synchronous}")

    return arguments, set_up


def _execute(connection: Any, statements: tuple[str, ...]) -> None:
    cursor = connection.cursor()
    for statement in statements:
        cursor.execute(statement)
    cursor.close()
    connection.commit()


_SETTINGS: Final[
    Mapping[str, Callable[[SQLAlchemyOptions, float], tuple[dict[str, Any], _SetUp]]]
] = {"postgresql": _postgresql, "mysql": _mysql, "mariadb": _mysql, "sqlite": _sqlite}

#: The oldest that have what is used: SKIP LOCKED, RETURNING, JSON_TABLE.
_OLDEST: Final[Mapping[str, tuple[int, ...]]] = {
    "PostgreSQL": (12,),
    "MariaDB": (10, 6),
    "MySQL": (8,),
    "SQLite": (3, 35),
}


def _check_version(engine: Engine) -> None:
    dialect = engine.dialect
    name = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}.get(dialect.name, "MySQL")
    if getattr(dialect, "is_mariadb", False):
        name = "MariaDB"
    found = sqlite3.sqlite_version_info if name == "SQLite" else dialect.server_version_info
    if found is not None and tuple(found)[:2] < _OLDEST[name]:
        wanted = ".".join(map(str, _OLDEST[name]))
        _fail(f"{name} {'.'.join(map(str, found))} is too old; it needs {wanted}")


def _fail(reason: str) -> NoReturn:
    raise ConfigurationError(f"SQLAlchemy transport: {reason}")
