"""The inbox: what was handled already is dropped, so that a message has its effect once.

    with Session.begin() as session:
        if inbox.is_new(session, message):
            ...  # the effect, in the same transaction
    message.ack()

The message may come from any broker. If the process dies before the acknowledgement, the message
comes again, and the inbox knows it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, CursorResult, MetaData, exc, text

from kombu_core.exceptions import ConfigurationError
from kombu_core.message import Message
from kombu_core.virtual.tables import micros
from kombu_sqlalchemy.errors import is_missing_table
from kombu_sqlalchemy.schema import CLOCKS, Tables
from kombu_sqlalchemy.watching import HasConnection, connection_of


class Inbox:
    """The ids of the messages that one consumer has handled, in the application's database.

    Args:
        name: Of the consumer: another one handles the same messages for itself.
        prefix: Of the tables, as the transport's option; `create_tables` makes them.
        schema: As the transport's option.
    """

    def __init__(self, name: str, *, prefix: str = "kombu_", schema: str | None = None) -> None:
        self.name = name
        self._table = Tables(MetaData(), prefix, schema).handled.fullname

    def is_new(self, within: Connection | HasConnection, message: Message | str) -> bool:
        """Tell whether a message was not handled yet, and remember it in the transaction.

        Another transaction that handles the same message just now is waited for. What a
        transaction remembered that is rolled back is forgotten.

        Args:
            within: The transaction of the effect, as a connection of SQLAlchemy or a session.
            message: The message, or its id.

        Raises:
            ConfigurationError: The message has no `message_id`, `within` is no transaction, or
                its database has no such table.
        """
        message_id = message if isinstance(message, str) else message.properties.get("message_id")
        if not message_id:
            raise ConfigurationError("The message has no message_id by which it could be known")
        connection = connection_of(within)
        values = f"(inbox, message_id, handled_at) VALUES (:inbox, :id, {_clock(connection)})"
        if connection.dialect.name in ("mysql", "mariadb"):
            statement = f"INSERT IGNORE INTO {self._table} {values}"
        else:
            statement = f"INSERT INTO {self._table} {values} ON CONFLICT DO NOTHING"
        done = self._execute(connection, statement, inbox=self.name, id=message_id)
        return done.rowcount > 0

    def forget(self, within: Connection | HasConnection, older_than: float) -> int:
        """Forget what was handled more than `older_than` seconds ago; returns how much.

        A message that comes again later than that is new.
        """
        connection = connection_of(within)
        statement = (
            f"DELETE FROM {self._table} WHERE inbox = :inbox "
            f"AND handled_at < {_clock(connection)} - :age"
        )
        return self._execute(
            connection, statement, inbox=self.name, age=micros(older_than)
        ).rowcount

    def _execute(
        self, connection: Connection, statement: str, **parameters: Any
    ) -> CursorResult[Any]:
        try:
            return connection.execute(text(statement), parameters)
        except exc.DBAPIError as error:
            if not is_missing_table(error):
                raise
            raise ConfigurationError(
                f"The table {self._table} is not there. kombu_sqlalchemy.create_tables makes it in "
                "this database; an Inbox takes the same prefix and schema as that"
            ) from error


def _clock(connection: Connection) -> str:
    return CLOCKS[connection.dialect.name]
