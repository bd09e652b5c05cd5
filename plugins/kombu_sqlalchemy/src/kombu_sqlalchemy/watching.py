"""How a transaction of the application's ends in which messages were settled."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from sqlalchemy import Connection, event

from kombu_core.exceptions import ConfigurationError
from kombu_core.virtual.store import Claim


class HasConnection(Protocol):
    """A session of SQLAlchemy's ORM: `Session`, `scoped_session`, or what is like them."""

    def connection(self) -> Connection:
        """Return the connection of its transaction."""
        ...


def connection_of(transaction: Connection | HasConnection) -> Connection:
    """Return the connection of a transaction; of a session's present one, which may begin by that.

    Raises:
        ConfigurationError: It is neither a session nor a connection.
    """
    if isinstance(transaction, Connection):
        return transaction
    if not hasattr(transaction, "connection"):
        name = type(transaction).__name__
        raise ConfigurationError(
            f"A transaction is wanted, not {name}: {name} is no Session and no Connection of "
            "SQLAlchemy"
        )
    return transaction.connection()


class Watch:
    """Tells transports how a transaction ended in which messages of theirs were settled."""

    def __init__(self, connection: Connection) -> None:
        self._settled: list[tuple[Callable[[list[Claim]], object], list[Claim], list[Claim]]] = []
        event.listen(connection, "commit", self._commit)
        event.listen(connection, "rollback", self._rollback)

    def settled(
        self,
        give_back: Callable[[list[Claim]], object],
        acks: Sequence[Claim],
        releases: Sequence[Claim],
    ) -> None:
        """Remember what was settled; `give_back` gets what may be claimed still at the end."""
        self._settled.append((give_back, list(acks), list(releases)))

    def _commit(self, connection: Connection) -> None:
        # It may fail yet, or have been undone back to a savepoint. A message that is acknowledged
        # indeed is gone by the time that this is looked at; one that was released may be claimed
        # again by then, and is left alone.
        settled, self._settled = self._settled, []
        for give_back, acks, _ in settled:
            if acks:
                give_back(acks)

    def _rollback(self, connection: Connection) -> None:
        settled, self._settled = self._settled, []
        for give_back, acks, releases in settled:
            give_back([*acks, *releases])


_watches: Final[weakref.WeakKeyDictionary[Connection, Any]] = weakref.WeakKeyDictionary()


def watch_of(connection: Connection) -> Watch:
    """Return the one watch of a connection."""
    watch: Watch | None = _watches.get(connection)
    if watch is None:
        watch = _watches[connection] = Watch(connection)
    return watch
