"""Waiting on PostgreSQL: LISTEN on connections that do nothing else, so that it costs nothing."""

from __future__ import annotations

from collections.abc import Collection

from kombu_core.virtual.listening import ListeningWaiter, Notifications
from kombu_core.virtual.tables import QueueState
from kombu_django.database import DjangoDatabase
from kombu_django.messages import DjangoQueries
from kombu_django.statements import channel
from kombu_django.wrappers import close_wrapper


class _Ear:
    """One connection that listens."""

    def __init__(self, database: DjangoDatabase) -> None:
        self._database = database
        self._queries = DjangoQueries(database.vendor)
        self._ours = database.take()
        self._notifications = Notifications(self._ours.connection)

    def fileno(self) -> int:
        return self._notifications.fileno()

    def execute(self, statements: str) -> None:
        with self._database.lending(self._ours), self._ours.cursor() as cursor:
            cursor.execute(statements)

    def peek(self, queues: Collection[str]) -> list[QueueState]:
        with self._database.lending(self._ours) as using:
            return self._queries.peek(using, queues)

    def heard(self) -> set[str]:
        with self._database.lending(self._ours), self._ours.wrap_database_errors:
            return self._notifications.heard()

    def close(self) -> None:
        close_wrapper(self._ours)


class PostgreSQLWaiter(ListeningWaiter):
    """Waits on connections of our own, made as Django makes those of the database."""

    def __init__(self, database: DjangoDatabase) -> None:
        super().__init__(lambda: _Ear(database), channel)
        database.after_fork(self.forked)
