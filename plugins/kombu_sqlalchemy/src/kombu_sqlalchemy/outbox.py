"""The outbox: messages for another broker, published in the application's own transaction.

They wait in a queue of the database; `relay` moves them to the other broker. See `Inbox` for the
other end.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection as DatabaseConnection

from kombu_core import Connection, Queue
from kombu_core.outbox import DEFAULT_OUTBOX, addressed
from kombu_sqlalchemy.joining import joined
from kombu_sqlalchemy.watching import HasConnection


class Outbox:
    """Publishes into the outbox. Declares its queue when it is made, so make it beforehand.

    Args:
        connection: Of kombu-sqlalchemy.
        name: Of the queue.
        serializer: Name; None: text and bytes as they are, all else as JSON.
    """

    def __init__(
        self, connection: Connection, name: str = DEFAULT_OUTBOX, *, serializer: str | None = None
    ) -> None:
        self.name = name
        self._connection = connection
        self._producer = connection.Producer(routing_key=name, serializer=serializer)
        Queue(name)(connection).declare()

    def publish(
        self,
        within: DatabaseConnection | HasConnection,
        body: Any,
        routing_key: str = "",
        *,
        exchange: str = "",
        headers: Mapping[str, Any] | None = None,
        message_id: str | None = None,
        expiration: float | None = None,
        mandatory: bool = True,
        **options: Any,
    ) -> str:
        """Publish in a transaction of the application's; returns the message's id.

        Args:
            within: The transaction, as for `joined`.
            body: As for `Producer.publish`.
            routing_key: At the other broker.
            exchange: At the other broker, which has to have it by the time that it is sent.
            headers: The application's.
            message_id: None for a new one.
            expiration: Seconds until it dies unread at the other broker.
            mandatory: Some queue has to want it there, else it goes to the queue of the failed.
            **options: As for `Producer.publish`; `delay` counts here, before it is sent.
        """
        chosen = message_id or uuid.uuid4().hex
        with joined(self._connection, within):
            self._producer.publish(
                body,
                headers=addressed(headers, exchange, routing_key, expiration, mandatory=mandatory),
                message_id=chosen,
                mandatory=True,
                **options,
            )
        return chosen
