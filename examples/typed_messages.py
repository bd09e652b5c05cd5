"""Messages that are checked against a dataclass before the program sees them.

    python examples/typed_messages.py [URL]

Without a URL it runs in the memory of this process. An error names the field that does not fit.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import date

from kombu_core import Connection, Consumer, Message, Queue


@dataclass(frozen=True)
class Item:
    """A line of an order."""

    name: str
    count: int = 1


@dataclass(frozen=True)
class Order:
    """What the queue is for."""

    customer: str
    due: date
    items: list[Item]


orders = Queue("typed_messages_example", durable=False)


def receive(order: Order, message: Message) -> None:
    """Work on an order; whatever gets here is one."""
    print(f"{order.customer} wants {order.items[0].name} by {order.due:%d.%m.%Y}")
    message.ack()


def refuse(message: Message, error: Exception) -> None:
    """Let a message go that is no order; a dead-letter exchange would keep it."""
    print("refused:", error)
    message.reject()


def main(url: str) -> None:
    """Publish an order and something else, and consume both."""
    with Connection(url) as connection:
        producer = connection.Producer(routing_key=orders.name)
        order = Order("Ada", date(2030, 1, 31), [Item("paper", 10)])
        producer.publish(order, declare=[orders])
        producer.publish({"customer": "Bob", "due": "2030-01-31", "items": [{"count": 1}]})
        with Consumer(
            connection, [orders], callbacks=[receive], on_decode_error=refuse, type=Order
        ):
            for _ in range(2):
                connection.drain_events(timeout=5)
        orders(connection).delete()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
