"""Waiting on PostgreSQL: LISTEN on connections that do nothing else, so that it costs nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from kombu_core.exceptions import ConnectionLostError
from kombu_core.virtual import listening
from kombu_core.virtual.tables import QueueState
from kombu_sqlalchemy.database import Database
from kombu_sqlalchemy.postgresql import PostgreSQLQueries


class _Ear:
    """One connection that listens."""

    def __init__(self, database: Database, queries: PostgreSQLQueries) -> None:
        self._database = database
        self._queries = queries
        self._connection = database.connect()
        driver = self._connection.connection.driver_connection
        self._notifications = listening.Notifications(driver)

    def fileno(self) -> int:
        return self._notifications.fileno()

    def execute(self, statements: str) -> None:
        with self._translated():
            self._connection.exec_driver_sql(statements)

    def peek(self, queues: Collection[str]) -> list[QueueState]:
        with self._translated():
            return self._queries.peek(self._connection, queues)

    def heard(self) -> set[str]:
        with self._translated():
            return self._notifications.heard()

    def close(self) -> None:
        self._connection.invalidate()
        self._connection.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exc.SQLAlchemyError as error:
            raise self._database.translate(error) from error
        except self._database.driver_error as error:
            raise ConnectionLostError(str(error)) from error


class ListeningWaiter(listening.ListeningWaiter):
    """Waits on PostgreSQL, by connections of the database's pool."""

    def __init__(self, database: Database, queries: PostgreSQLQueries) -> None:
        super().__init__(lambda: _Ear(database, queries), queries.channel)
        database.after_fork(self.forked)
