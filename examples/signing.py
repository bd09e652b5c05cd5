"""Signed messages: what was changed on its way, or comes a second time, is refused.

    python examples/signing.py [URL]

Without a URL it runs in the memory of this process.
"""

from __future__ import annotations

import sys

from kombu_core import Connection, Message, Queue
from kombu_core.idempotence import MemorySeen
from kombu_core.keyring import KeyRing
from kombu_core.replays import refuse_replays
from kombu_core.sealing import signed
from kombu_core.serialization import Registry

MAX_AGE = 3600.0

payments = Queue("signing_example", durable=False)
# From where your secrets are. To replace one: add the new one everywhere, then use it.
keys = KeyRing({"2030-01": KeyRing.generate()})
registry = Registry()
registry.add("signed", signed("json", keys, max_age=MAX_AGE, purpose="payments"))
seen: list[Message] = []


@refuse_replays(MemorySeen(ttl=MAX_AGE))
def pay(body: dict[str, object], message: Message) -> None:
    """Do what must not be done twice, or because somebody else says so."""
    print(f"paid {body['amount']} to {body['to']}")
    message.ack()


def refuse(message: Message, error: Exception) -> None:
    """Let a message go whose signature is wrong."""
    print("refused:", error)
    message.reject()


def main(url: str) -> None:
    """Publish a payment, the same bytes once more, and the bytes with another amount."""
    with Connection(url) as connection:
        producer = connection.Producer(
            routing_key=payments.name, serializer="signed", registry=registry
        )
        producer.publish({"to": "Ada", "amount": 100}, declare=[payments])
        with connection.Consumer(
            [payments],
            callbacks=[pay, lambda body, message: seen.append(message)],
            on_decode_error=refuse,
            accept=["signed"],
            registry=registry,
        ):
            connection.drain_events(timeout=5)
            original = seen[0]
            for body in (original.body, original.body.replace(b"100", b"999")):
                producer.publish(body, content_type=original.content_type)
                connection.drain_events(timeout=5)
        payments(connection).delete()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
