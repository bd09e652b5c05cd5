"""Publishing from a view, a command or a thread, and the outbox: connections that a process shares.

    with transaction.atomic():
        order.save()
        publish({"order": order.pk}, "orders")

In a transaction the message is part of it. An async view calls `await sync_to_async(publish)(...)`,
as for everything that uses the database.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.db import DEFAULT_DB_ALIAS, router

from kombu_core.connection import Connection
from kombu_core.entity import Queue
from kombu_core.exceptions import UnroutableError
from kombu_core.outbox import DEFAULT_OUTBOX, addressed
from kombu_django.configuration import transport_options
from kombu_django.models import Message
from kombu_django.sharing import shared


def shared_connection(using: str | None = None) -> Connection:
    """Return the connection that all threads of this process use for a database.

    It connects when it is used. A forked child has one of its own.

    Args:
        using: Alias of the database; None: the one that the routers choose for messages.
    """
    alias: str = using or router.db_for_write(Message) or DEFAULT_DB_ALIAS
    url = f"django://{alias}"
    return shared(url, lambda: Connection(url, transport_options=transport_options(alias)))


def publish(
    body: Any,
    routing_key: str = "",
    *,
    exchange: Any = "",
    using: str | None = None,
    mandatory: bool = True,
    **options: Any,
) -> None:
    """Publish a message into a database; in a transaction of this thread, as part of it.

    Blocks until the message is stored, or is as sure to be as the transaction. Any thread may
    call it.

    Args:
        body: Text and bytes as they are, all else as JSON.
        routing_key: With the default exchange, the name of the queue.
        exchange: An exchange or its name.
        using: Alias of the database; None: the one that the routers choose.
        mandatory: Whether it is an error if there is no queue for it. It is here, and is not with
            a `Producer`.
        **options: As for `kombu_core.Producer.publish`, as `declare=[queue]`, `delay=60`.

    Raises:
        UnroutableError: No queue gets it, and it is mandatory.
    """
    producer = shared_connection(using).Producer()
    try:
        producer.publish(
            body, routing_key=routing_key, exchange=exchange, mandatory=mandatory, **options
        )
    except UnroutableError as error:
        if not error.envelope.exchange:
            there = repr(using) if using else ""
            error.add_note(
                "Declare the queue before: "
                f"Queue({error.envelope.routing_key!r})(shared_connection({there})).declare()"
            )
        raise


class Outbox:
    """Publishes for another broker: into a queue here, from which `kombu_relay` moves it there.

    Args:
        name: Of the queue.
        using: Alias of the database; None: the one that the routers choose.
    """

    def __init__(self, name: str = DEFAULT_OUTBOX, *, using: str | None = None) -> None:
        self.name = name
        self.using = using

    def declare(self) -> None:
        """Create the queue. Idempotent; on SQLite not in a transaction."""
        Queue(self.name)(shared_connection(self.using)).declare()

    def publish(
        self,
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
        """Publish, in the transaction of this thread if there is one; returns the message's id.

        Args:
            body: As for `publish`.
            routing_key: At the other broker.
            exchange: At the other broker, which has to have it by the time that it is sent.
            headers: The application's.
            message_id: None for a new one. It stays, however often the message is sent.
            expiration: Seconds until it dies unread at the other broker.
            mandatory: Some queue has to want it there, else it goes to the queue of the failed.
            **options: As for `publish`; `delay` counts here, before it is sent.

        Raises:
            UnroutableError: The queue is not there: see `declare`.
        """
        chosen = message_id or uuid.uuid4().hex
        try:
            publish(
                body,
                self.name,
                using=self.using,
                headers=addressed(headers, exchange, routing_key, expiration, mandatory=mandatory),
                message_id=chosen,
                **options,
            )
        except UnroutableError as error:
            error.add_note("That queue is this outbox: call its declare() once.")
            raise
        return chosen
