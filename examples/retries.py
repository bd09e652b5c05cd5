"""A work queue that tries again what failed, later each time, and does nothing twice.

python examples/retries.py [URL]
"""

from __future__ import annotations

import sys
from typing import Any

from kombu_core import Connection, Message, Queue
from kombu_core.idempotence import MemorySeen, idempotent
from kombu_core.patterns import drain_consumer, eventloop
from kombu_core.retries import RetryingConsumer, RetryPolicy, attempts_of

WORK = Queue("retries_example")
FAILED = Queue("retries_example.failed")
POLICY = RetryPolicy(max_retries=2, delay=0.05, factor=2.0, dead_letters=FAILED)


@idempotent(MemorySeen())
def charge(body: dict[str, Any], message: Message) -> None:
    """Work that fails at first, or always."""
    attempt = attempts_of(message) + 1
    print(f"order {body['order']}, attempt {attempt}")
    if body["fails"] >= attempt:
        raise ConnectionError("the bank does not answer")


def main(url: str) -> None:
    """Work on three orders, one of them sent twice, one of them hopeless."""
    with Connection(url) as connection:
        producer = connection.Producer(routing_key=WORK.name)
        for order, fails in ((1, 0), (2, 1), (3, 99), (1, 0)):
            producer.publish(
                {"order": order, "fails": fails}, message_id=f"order-{order}", declare=[WORK]
            )
        deliveries = 1 + 2 + 3 + 1
        with RetryingConsumer(connection, WORK, charge, POLICY):
            for _ in eventloop(connection, limit=deliveries, timeout=10):
                pass
        failed = connection.Consumer([FAILED])
        for body, message in drain_consumer(failed, limit=1, timeout=5):
            print("given up:", body["order"], "after", message.headers["x-last-error"])
            message.ack()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
