"""The store contract on Django's models, and in transactions of the application's."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence

from django.db import connections, transaction

from kombu_core.capabilities import StoreCapabilities
from kombu_core.exceptions import OperationalError
from kombu_core.virtual.polling import Waiter
from kombu_core.virtual.store import (
    Batch,
    Claim,
    Claimed,
    CommitResult,
    Drop,
    Want,
    WriteResult,
)
from kombu_core.virtual.table_store import TableStore
from kombu_django.database import DjangoDatabase
from kombu_django.messages import DjangoQueries


class DjangoStore(TableStore[str]):
    """The tables of one database.

    What publishes and settles joins the transaction of the calling thread, if there is one. What
    others have to see at once (declarations, leases, claims) never does.

    Args:
        database: The way there; closed with the store.
        waiter: How to wait.
        capabilities: What it can do.
        rolled_back: Called with claims that were settled in a transaction that was rolled back.
    """

    database: DjangoDatabase

    def __init__(
        self,
        database: DjangoDatabase,
        waiter: Waiter,
        capabilities: StoreCapabilities,
        rolled_back: Callable[[Sequence[Claim]], object],
    ) -> None:
        super().__init__(database, DjangoQueries(database.vendor), waiter, capabilities)
        self._rolled_back = rolled_back

    def commit(self, batch: Batch) -> CommitResult:
        settled = [*batch.acks, *(release.claim for release in batch.releases)]
        if not settled or not self.database.is_joined:
            return super().commit(batch)
        if not connections[self.database.alias].in_atomic_block:
            raise OperationalError(
                "Settle messages in atomic(), or in autocommit mode: of a transaction without it "
                "nobody tells whether it was rolled back"
            )
        result = super().commit(batch)
        if not result.lost:
            _watch(self.database.alias, lambda: self._rolled_back(settled))
        return result

    def write(
        self,
        changes: Mapping[str, bytes | None],
        expect: Sequence[tuple[str, int]],
        drops: Sequence[Drop] = (),
    ) -> WriteResult:
        with self.database.alone("declare and delete"):
            return super().write(changes, expect, drops)

    def claim(self, wants: Sequence[Want], session: str, limit: int) -> list[Claimed]:
        with self.database.alone("consume"):
            return super().claim(wants, session, limit)

    def begin(self, session: str, ttl: float) -> None:
        with self.database.alone("begin to consume"):
            super().begin(session, ttl)

    def renew(self, session: str, ttl: float) -> bool:
        with self.database.alone("renew the lease"):
            return super().renew(session, ttl)

    def reap(self) -> list[str]:
        if self.database.is_joined:
            return []  # Another thread does, or this one at another time.
        return super().reap()


class _End:
    """Django keeps it until the end of a transaction, calls it at a commit and drops it."""

    def __init__(self, committed: list[bool]) -> None:
        self._committed = committed

    def __call__(self) -> None:
        self._committed.append(True)


def _watch(using: str, rolled_back: Callable[[], object]) -> None:
    """Let something be called if the transaction, or the savepoint, is rolled back."""
    committed: list[bool] = []
    end = _End(committed)
    weakref.finalize(end, lambda: committed or rolled_back()).atexit = False
    transaction.on_commit(end, using=using)
