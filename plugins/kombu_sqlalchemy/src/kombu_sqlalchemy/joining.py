"""Publishing and settling in the application's own transaction: all of it is committed, or none.

    with Session.begin() as session, joined(connection, session):
        session.add(Order(...))
        producer.publish({"order": 17}, "orders")

The message exists if and only if the order does. In a handler, `message.ack()` in such a block is
committed with the handler's effect: the effect happens exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from kombu_core import Connection as KombuConnection
from kombu_core.exceptions import ConfigurationError
from kombu_sqlalchemy.transport import SQLAlchemyTransport
from kombu_sqlalchemy.watching import HasConnection


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
    with transport.joined(within):
        yield
