"""The store contract on tables, and in transactions of the application's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from sqlalchemy import Connection, exc

from kombu_core.capabilities import StoreCapabilities
from kombu_core.exceptions import ConfigurationError, OperationalError
from kombu_core.virtual.polling import Waiter
from kombu_core.virtual.store import Batch, Claim, CommitResult, Conflict, Drop, WriteResult
from kombu_core.virtual.table_store import TableStore
from kombu_sqlalchemy.database import Database
from kombu_sqlalchemy.messages import Queries
from kombu_sqlalchemy.watching import HasConnection, connection_of, watch_of

#: PostgreSQL's values and SQLite's end at 1 GB, their way there a little earlier.
MAX_BYTES: Final = 512 * 1024 * 1024

#: What a store can do on every database.
CAPABILITIES: Final = StoreCapabilities(
    name="sqlalchemy", shared=True, persistent=True, max_message_bytes=MAX_BYTES
)


class Joined(NamedTuple):
    """What a thread's commits are part of."""

    #: The application's. Its connection is looked for at each commit: a session may have begun
    #: another transaction, or a savepoint, since the last one.
    transaction: Connection | HasConnection
    #: Called at the end of a transaction with the claims that may be the session's still.
    give_back: Callable[[list[Claim]], object]


class SQLAlchemyStore(TableStore[Connection]):
    """One prefix of one database.

    Args:
        database: The way there; closed with the store.
        queries: The statements.
        waiter: How to wait.
        max_message_bytes: Largest envelope.
    """

    database: Database
    queries: Queries

    def __init__(
        self,
        database: Database,
        queries: Queries,
        waiter: Waiter,
        *,
        max_message_bytes: int = MAX_BYTES,
    ) -> None:
        capabilities = replace(CAPABILITIES, max_message_bytes=max_message_bytes)
        super().__init__(database, queries, waiter, capabilities)
        self._joined = threading.local()

    def write(
        self,
        changes: Mapping[str, bytes | None],
        expect: Sequence[tuple[str, int]],
        drops: Sequence[Drop] = (),
    ) -> WriteResult:
        self._refuse_to_wait()
        return super().write(changes, expect, drops)

    def begin(self, session: str, ttl: float) -> None:
        self._refuse_to_wait()
        super().begin(session, ttl)

    def commit(self, batch: Batch) -> CommitResult:
        joined = self.joined
        return super().commit(batch) if joined is None else self._commit_joined(joined, batch)

    @property
    def joined(self) -> Joined | None:
        """What this thread's commits are part of; None: of nothing."""
        return getattr(self._joined, "value", None)

    @joined.setter
    def joined(self, value: Joined | None) -> None:
        self._joined.value = value

    def _commit_joined(self, joined: Joined, batch: Batch) -> CommitResult:
        try:
            connection = connection_of(joined.transaction)
            self.queries.write_first(connection)
            result = self.apply(connection, batch)
        except Conflict:
            self._refuse_strangers(batch.expect)
            raise
        except exc.SQLAlchemyError as error:
            raise self.database.translate(error) from error
        if not result.lost and (batch.acks or batch.releases):
            releases = [release.claim for release in batch.releases]
            watch_of(connection).settled(joined.give_back, batch.acks, releases)
        return result

    def _refuse_strangers(self, expect: Sequence[tuple[str, int]]) -> None:
        """Refuse a transaction that sees other bindings than we do: it would never see ours."""
        there = self.database.run(
            lambda connection: self.queries.versions(connection, [key for key, _ in expect])
        )
        if all(there.get(key, 0) == version for key, version in expect):
            raise ConfigurationError(
                "The transaction sees other queues and bindings than the broker's own connection: "
                "is it of another database or schema, or did it begin before they were declared, "
                "at an isolation level that hides what came since?"
            )

    def _refuse_to_wait(self) -> None:
        """Refuse what would wait for this thread's own transaction for ever."""
        joined = self.joined
        if joined is not None and self.queries.is_writing(connection_of(joined.transaction)):
            raise OperationalError(
                "SQLite lets one transaction write at a time, and that is yours: declare, and "
                "begin to consume, before it writes"
            )
