"""The queues. They are created by `manage.py migrate`, as the tables are."""

from __future__ import annotations

from typing import Any

from kombu_core import Queue

DEAD = Queue("orders.dead")
ORDERS = Queue(
    "orders",
    queue_arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD.name},
)


def declare(using: str, **_: Any) -> None:
    """Create the queues in a database; they may be there already."""
    from kombu_django.publishing import shared_connection  # Not before the models are there.

    connection = shared_connection(using)
    for queue in (DEAD, ORDERS):
        queue(connection).declare()
