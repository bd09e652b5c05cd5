"""Publishing and settling in the application's own transaction: all of it is committed, or none.

    with Session.begin() as session, joined(connection, session):
        session.add(Order(...))
        producer.publish({"order": 17}, "orders")

The message exists if and only if the order does. In a handler, `message.ack()` in such a block is
committed with the handler's effect: the effect happens exactly once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from sqlalchemy import Connection, event

from kombu_core import Connection as KombuConnection
from kombu_core.exceptions import ConfigurationError
from kombu_core.virtual.store import Claim
from kombu_sqlalchemy.transport import SQLAlchemyTransport


class HasConnection(Protocol):
    """A session of SQLAlchemy's ORM: `Session`, `scoped_session`, or what is like them."""

    def connection(self) -> Connection:
        """Return the connection of its transaction."""
        ...


@contextmanager
def joined(connection: KombuConnection, within: Connection | HasConnection) -> Iterator[None]:
    """Let what this thread publishes and settles be part of a transaction of the application's.

    Nothing is committed here: the application does that, or rolls back; also after the block.
    Messages that were settled in a transaction that is rolled back are redelivered.

    Declaring is no part of it: declare before. On SQLite, where one transaction writes at a time,
    a declaration in the block is refused if it would have to wait for the application's own.

    Args:
        connection: Of kombu_core, to the same database.
        within: The transaction, as a connection of SQLAlchemy or a session of its ORM. It must
            not be in autocommit mode.

    Raises:
        ConfigurationError: The connections lead to different kinds of broker and database.
        LeaseLostError: From settling in the block: the message is somebody else's by now. Let
            it end the transaction.
    """
    transport = connection.transport
    if not isinstance(transport, SQLAlchemyTransport):
        raise ConfigurationError(
            f"joined() is for connections of kombu-sqlalchemy, not of {transport.driver_type}"
        )
    database = within if isinstance(within, Connection) else within.connection()
    theirs, ours = database.dialect.name, transport.store.database.engine.dialect.name
    if theirs.replace("mariadb", "mysql") != ours.replace("mariadb", "mysql"):
        raise ConfigurationError(f"the session is of {theirs}, and the broker's database is {ours}")
    with transport.joined(database, _watch(database).settled):
        yield


class _Watch:
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


def _watch(connection: Connection) -> _Watch:
    watch: _Watch | None = _watches.get(connection)
    if watch is None:
        watch = _watches[connection] = _Watch(connection)
    return watch
