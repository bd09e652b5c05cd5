"""The transport: from a URL and options to a store. All else is the virtual transport's."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

from sqlalchemy import Connection, MetaData, exc

from kombu_core.capabilities import Capabilities, StoreCapabilities
from kombu_core.exceptions import ConfigurationError, OperationalError
from kombu_core.options import parse_options
from kombu_core.transport import TransportParameters
from kombu_core.virtual.joining import JoiningSession
from kombu_core.virtual.polling import PollingWaiter
from kombu_core.virtual.store import Claim, Store
from kombu_core.virtual.transport import VirtualTransport
from kombu_sqlalchemy.database import Database
from kombu_sqlalchemy.engines import open_database, patient_engine, split_url
from kombu_sqlalchemy.listening import ListeningWaiter
from kombu_sqlalchemy.mysql import MySQLQueries
from kombu_sqlalchemy.options import SQLAlchemyOptions
from kombu_sqlalchemy.postgresql import PostgreSQLQueries
from kombu_sqlalchemy.schema import Tables, check_tables, create_tables
from kombu_sqlalchemy.sqlite import SQLiteQueries
from kombu_sqlalchemy.store import MAX_BYTES, Joined, SQLAlchemyStore
from kombu_sqlalchemy.watching import HasConnection, connection_of

logger = logging.getLogger(__name__)


class SQLAlchemySession(JoiningSession):
    """Is joined as long as the thread is in `kombu_sqlalchemy.joined`."""

    @property
    def is_joined(self) -> bool:
        return isinstance(self._store, SQLAlchemyStore) and self._store.joined is not None


class SQLAlchemyTransport(VirtualTransport):
    """AMQP on PostgreSQL, MariaDB, MySQL or SQLite.

    Raises:
        ConfigurationError: From the constructor: an unknown option or database.
    """

    driver_type: ClassVar[str] = "sql"
    driver_name: ClassVar[str] = "SQLAlchemy"

    def __init__(self, parameters: TransportParameters) -> None:
        self._url, from_url = split_url(parameters.url)
        self._options = parse_options(
            SQLAlchemyOptions,
            {**from_url, **parameters.options},
            source=f"the options of the {parameters.url.scheme} transport",
        )
        super().__init__(parameters, lease=self._options.lease)

    def open_store(self) -> SQLAlchemyStore:
        options = self._options
        database = open_database(self._url, options, self.parameters.connect_timeout)
        try:
            return self._make_store(database)
        except BaseException:
            database.close()
            raise

    def make_session(self, store: Store, id: str) -> SQLAlchemySession:
        return SQLAlchemySession(store, id, lease=self._options.lease, give_up=self.give_up)

    # -- in the application's transaction --------------------------------------------------

    @property
    def store(self) -> SQLAlchemyStore:
        """The store, connected."""
        store = self.parts.broker.store
        if not isinstance(store, SQLAlchemyStore):
            raise TypeError(f"a {type(store).__name__} is no store of this transport")
        return store

    def make_capabilities(self, store: StoreCapabilities) -> Capabilities:
        return replace(super().make_capabilities(store), joined_transactions=True)

    @contextmanager
    def joined(self, transaction: Connection | HasConnection) -> Iterator[None]:
        """Let this thread's commits be part of a transaction; see `kombu_sqlalchemy.joined`."""
        store = self.store
        connection = connection_of(transaction)
        theirs, ours = connection.dialect.name, store.database.engine.dialect.name
        if theirs.replace("mariadb", "mysql") != ours.replace("mariadb", "mysql"):
            raise ConfigurationError(
                f"the session is of {theirs}, and the broker's database is {ours}"
            )
        before = store.joined
        if before is None and not store.queries.is_writing(connection):
            # What was acknowledged before is no part of this transaction.
            self.parts.session.flush()
        store.joined = Joined(transaction, self._give_back)
        try:
            yield
        finally:
            store.joined = before

    def _give_back(self, claims: list[Claim]) -> None:
        # A session that is over has given back everything.
        if self._parts is not None and isinstance(self._parts.session, JoiningSession):
            self._parts.session.give_back(claims)

    # -- opening ---------------------------------------------------------------------------

    def _make_store(self, database: Database) -> SQLAlchemyStore:
        options = self._options
        tables = Tables(MetaData(), options.prefix, options.schema)
        self._prepare(database, tables)
        dialect = database.engine.dialect.name
        if dialect == "postgresql":
            queries = PostgreSQLQueries(tables, dialect)
            return SQLAlchemyStore(database, queries, ListeningWaiter(database, queries))
        place = f"{self._url.render_as_string()} {tables.messages.fullname}"
        if dialect == "sqlite":
            lite = SQLiteQueries(tables, dialect)
            return SQLAlchemyStore(database, lite, PollingWaiter(database, lite, place, _glance))
        mysql = MySQLQueries(tables, dialect)
        return SQLAlchemyStore(
            database,
            mysql,
            PollingWaiter(database, mysql, place),
            max_message_bytes=database.run(_largest_packet),
        )

    def _prepare(self, database: Database, tables: Tables) -> None:
        """See to it that the tables are there."""
        wrong = database.run(lambda connection: check_tables(connection, tables))
        if wrong is None:
            return
        options, backend = self._options, self._url.get_backend_name()
        wanted = options.create_tables
        if not (backend == "sqlite" if wanted is None else wanted):
            raise ConfigurationError(
                f"{wrong}. To create or upgrade them run `python -m kombu_sqlalchemy create-tables "
                "URL`, or call kombu_sqlalchemy.create_tables(connection), or let the transport "
                "do it with the option create_tables=True"
            )
        logger.info("Creating the tables %s* in %s", options.prefix, self._url)
        try:
            _create(database, options)
        except exc.SQLAlchemyError as error:
            raise database.translate(error) from error


def _create(database: Database, options: SQLAlchemyOptions) -> None:
    """Create the tables while no other process does."""

    def create(connection: Connection) -> None:
        if database.engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7362871)")
        create_tables(connection, prefix=options.prefix, schema=options.schema)

    if database.engine.dialect.name not in ("mysql", "mariadb"):
        database.transact(create)
        return
    # There each statement about tables is a transaction of its own, and may take long.
    engine = patient_engine(database.engine, options)
    try:
        with engine.connect() as connection:
            # Given up with the connection, at the end of which nothing runs any more.
            got = connection.exec_driver_sql("SELECT GET_LOCK('kombu_create_tables', 600)").scalar()
            if not got:
                raise OperationalError(
                    "Another process has been creating or upgrading the tables for 10 minutes"
                )
            create(connection)
    finally:
        engine.dispose()


def _glance(connection: Connection) -> int:
    """Return a number that changes when another connection has changed the file."""
    # The driver itself, for this is asked for all the time.
    driver: Any = connection.connection.driver_connection
    return int(driver.execute("PRAGMA data_version").fetchone()[0])


def _largest_packet(connection: Connection) -> int:
    """Return how large an envelope may be: with its statement it is one packet."""
    found: Any = connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one()
    # A client may have to escape each byte.
    return min(MAX_BYTES, int(found) // 2 - 65536)
