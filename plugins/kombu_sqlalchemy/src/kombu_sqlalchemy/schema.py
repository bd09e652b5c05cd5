"""The tables: what they hold, how they are made, and how those of an older release are upgraded.

    documents   name -> version, value: exchanges, bindings, queues, consumers
    messages    one row for each message of each queue, deleted when it is acknowledged
    sessions    name -> end of its lease; lapsed ones wait for their clean-up
    meta        the version of these tables, and the counter of the documents' versions
    handled     what an `Inbox` saw already

Names are compared byte by byte on every database. Times are microseconds since 1970 by the
database's clock. Among those of its level a message's place is the time at which it became ready,
or will; its id is never used twice and decides where places are equal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    event,
    func,
    inspect,
    text,
)
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.types import TypeEngine

from kombu_core.exceptions import ConfigurationError
from kombu_core.virtual.tables import CLAIMED, DELAYED, READY

logger = logging.getLogger(__name__)

#: Of the tables below.
SCHEMA_VERSION: Final = 2

_MYSQL: Final = ("mysql", "mariadb")
#: InnoDB indexes at most 3072 bytes. A document's key may hold three quoted names.
_NAME_BYTES: Final = 1100
_KEY_BYTES: Final = 3000


def _name(size: int = _NAME_BYTES) -> TypeEngine[str]:
    """A name of any length, compared by its bytes."""
    return (
        Text(collation="C")
        .with_variant(Text(collation="BINARY"), "sqlite")
        .with_variant(mysql.VARBINARY(size), *_MYSQL)
    )


def _bytes() -> TypeEngine[bytes]:
    return LargeBinary().with_variant(mysql.LONGBLOB(), *_MYSQL)


def _vacuum_often(table: Table, connection: Connection, **_: object) -> None:
    """Let PostgreSQL look after a new table of messages: each of them is a dead row soon."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            f"ALTER TABLE {table.fullname} SET "
            "(autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02)"
        )


class Tables:
    """The tables of one prefix, in one `MetaData`."""

    def __init__(self, metadata: MetaData, prefix: str, schema: str | None) -> None:
        self.metadata = metadata
        self.documents = Table(
            f"{prefix}documents",
            metadata,
            Column("name", _name(_KEY_BYTES), primary_key=True),
            Column("version", BigInteger, nullable=False),
            Column("value", _bytes(), nullable=False),
            schema=schema,
        )
        self.messages = Table(
            f"{prefix}messages",
            metadata,
            # SQLite counts up only in a column whose type is exactly INTEGER.
            Column(
                "id",
                BigInteger().with_variant(sqlite.INTEGER(), "sqlite"),
                primary_key=True,
                autoincrement=True,
            ),
            Column("queue", _name(), nullable=False),
            Column("state", SmallInteger, nullable=False),
            # 255 - priority: the smallest is next.
            Column("level", SmallInteger, nullable=False),
            Column("place", BigInteger, nullable=False),
            Column("deliveries", BigInteger, nullable=False, server_default=text("0")),
            Column("claimed_by", _name()),
            Column("available_at", BigInteger),
            Column("expires_at", BigInteger),
            # Bytes of the application's body, which is the end of `body`.
            Column("size", BigInteger, nullable=False),
            Column("body", _bytes(), nullable=False),
            schema=schema,
            # Else SQLite gives the id of a deleted message to the next one.
            sqlite_autoincrement=True,
        )
        event.listen(self.messages, "after_create", _vacuum_often)
        columns = self.messages.c
        queue, state = columns.queue, columns.state
        self._index("in_order", READY, queue, state, columns.level, columns.place, columns.id)
        self._index("delayed", DELAYED, queue, state, columns.available_at)
        self._index("claimed", CLAIMED, columns.claimed_by, queue)
        self.sessions = Table(
            f"{prefix}sessions",
            metadata,
            Column("name", _name(_KEY_BYTES), primary_key=True),
            Column("lease_end", BigInteger, nullable=False),
            Column("lapsed", Boolean, nullable=False),
            schema=schema,
        )
        self.meta = Table(
            f"{prefix}meta",
            metadata,
            Column("name", String(50), primary_key=True),
            Column("value", BigInteger, nullable=False),
            schema=schema,
        )
        self.handled = Table(
            f"{prefix}handled",
            metadata,
            Column("inbox", _name(), primary_key=True),
            Column("message_id", _name(), primary_key=True),
            Column("handled_at", BigInteger, nullable=False, index=True),
            schema=schema,
        )

    def _index(self, name: str, state: int, *columns: Column[Any]) -> None:
        """Add an index of the messages in a state; of all, in MariaDB and MySQL."""
        where = self.messages.c.state == state
        Index(f"{self.messages.name}_{name}", *columns, postgresql_where=where, sqlite_where=where)


def make_metadata(prefix: str = "kombu_", schema: str | None = None) -> MetaData:
    """Return the tables as `MetaData`, for Alembic's `target_metadata` or `create_all`.

    Tables that are made from it get their first rows with `create_tables`, which leaves alone what
    is there. Upgrade older ones with `create_tables`, also within a migration: what Alembic makes
    of the difference knows no values for new columns.
    """
    return Tables(MetaData(), prefix, schema).metadata


def create_tables(
    connection: Connection, *, prefix: str = "kombu_", schema: str | None = None
) -> None:
    """Create the tables that are missing, and upgrade those of an older release. Idempotent.

    Args:
        connection: In a transaction of the caller's, who commits.
        prefix: As the transport's option.
        schema: As the transport's option; it has to exist.

    Raises:
        ConfigurationError: The tables are those of a newer release, or there is no such schema.
    """
    tables = Tables(MetaData(), prefix, schema)
    if schema is not None and not inspect(connection).has_schema(schema):
        raise ConfigurationError(f"The schema {schema} is not there; create it first")
    tables.metadata.create_all(connection)
    meta = tables.meta
    found = _version(connection, tables)
    if found is None:
        now = connection.execute(text(f"SELECT {CLOCKS[connection.dialect.name]}")).scalar_one()
        # The counter begins at the time, so that no version comes back after data were lost.
        connection.execute(
            meta.insert(),
            [{"name": "schema", "value": SCHEMA_VERSION}, {"name": "counter", "value": now}],
        )
        return
    _refuse_newer(found)
    while found < SCHEMA_VERSION:
        UPGRADES[found](connection, tables)
        found += 1
        connection.execute(meta.update().where(meta.c.name == "schema").values(value=found))


def check_tables(connection: Connection, tables: Tables) -> str | None:
    """Return what is wrong with the tables as far as `create_tables` mends it; None: nothing.

    Raises:
        ConfigurationError: They are those of a newer release.
    """
    there = inspect(connection)
    schema = tables.meta.schema or there.default_schema_name
    place = f"in the schema {schema}"
    prefix = tables.meta.name.removesuffix("meta")
    found = _version(connection, tables)
    if found is None:
        return f"The tables {prefix}* are not {place}"
    _refuse_newer(found)
    if found < SCHEMA_VERSION:
        return (
            f"The tables {prefix}* {place} are of an older release (version {found}, this one "
            f"needs {SCHEMA_VERSION}); stop its processes before you upgrade them"
        )
    missing = [
        table.name
        for table in tables.metadata.sorted_tables
        if not there.has_table(table.name, schema=table.schema)
    ]
    return f"Of the tables {prefix}* {', '.join(missing)} is not {place}" if missing else None


def _add_places(connection: Connection, tables: Tables) -> None:
    """Add `place`, and index the messages by it. May be begun anew if it was cut off."""
    messages, there = tables.messages, inspect(connection)
    if "place" not in {one["name"] for one in there.get_columns(messages.name, messages.schema)}:
        connection.exec_driver_sql(
            f"ALTER TABLE {messages.fullname} ADD COLUMN place BIGINT NOT NULL DEFAULT 0"
        )
    place, available_at = messages.c.place, messages.c.available_at
    # Ids were small numbers, so what is there comes before all that will be put.
    connection.execute(
        messages.update().where(place == 0).values(place=func.coalesce(available_at, messages.c.id))
    )
    old = {one["name"] for one in there.get_indexes(messages.name, messages.schema)}
    for index in messages.indexes:
        if index.name in old:
            index.drop(connection)
        index.create(connection)


#: By the version that they start from; each leaves tables of the next version.
UPGRADES: Final[Mapping[int, Callable[[Connection, Tables], None]]] = {1: _add_places}

#: The time as microseconds since 1970, the same in all of one statement.
CLOCKS: Final[Mapping[str, str]] = {
    "postgresql": "CAST(extract(epoch FROM statement_timestamp()) * 1000000 AS bigint)",
    # Its resolution is a millisecond; the clock is this host's.
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
    "mysql": "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
    "mariadb": "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
}


def _version(connection: Connection, tables: Tables) -> int | None:
    meta = tables.meta
    if not inspect(connection).has_table(meta.name, schema=meta.schema):
        return None
    found: int | None = connection.execute(
        meta.select().with_only_columns(meta.c.value).where(meta.c.name == "schema")
    ).scalar()
    return found


def _refuse_newer(found: int) -> None:
    if found > SCHEMA_VERSION:
        raise ConfigurationError(
            f"The tables have version {found}, and this kombu-sqlalchemy knows {SCHEMA_VERSION}; "
            "install a newer kombu-sqlalchemy"
        )
