"""The same work in kombu_core and in kombu, whose API for it is the same: publish and consume."""

from __future__ import annotations

import time
from typing import Any

from harness import BODY

#: Seconds without a message after which a round is given up.
PATIENCE = 30.0


class Rival:
    """One library on one broker, with one exchange and one queue.

    Args:
        library: The module `kombu_core` or `kombu`.
        url: Of the broker.
        name: Of exchange, queue and routing key.
        prefetch: Unacknowledged messages while consuming.
        by_name: Publish to the default exchange: kombu then needs no look at the bindings.
        options: Of the connection.
    """

    def __init__(
        self,
        library: Any,
        url: str,
        name: str,
        *,
        prefetch: int = 100,
        by_name: bool = False,
        **options: Any,
    ) -> None:
        self.prefetch = prefetch
        self.connection = library.Connection(url, **options)
        exchange = library.Exchange("" if by_name else name, "direct", durable=True)
        self.queue = library.Queue(name, exchange, routing_key=name)
        self.producer = self.connection.Producer(
            exchange=exchange, routing_key=name, serializer="json"
        )
        bound = self.queue(self.connection.default_channel)
        bound.declare()
        bound.purge()

    def publish(self, count: int) -> None:
        """Publish one by one."""
        publish = self.producer.publish
        for _ in range(count):
            publish(BODY)

    def publish_batch(self, count: int) -> None:
        """Publish in one batch."""
        publish = self.producer.publish
        with self.producer.batch():
            for _ in range(count):
                publish(BODY)

    def fill(self, count: int) -> None:
        """Put messages in, as fast as it goes."""
        if hasattr(self.producer, "batch"):
            self.publish_batch(count)
        else:
            self.publish(count)

    def consume(self, count: int) -> float:
        """Decode and acknowledge what was put in before; returns the seconds."""
        left = count

        def handle(body: Any, message: Any) -> None:
            nonlocal left
            left -= 1
            message.ack()

        drain = self.connection.drain_events
        with self.connection.Consumer(
            [self.queue], callbacks=[handle], prefetch_count=self.prefetch
        ):
            started = time.perf_counter()
            while left:
                drain(timeout=PATIENCE)
            return time.perf_counter() - started

    def purge(self) -> None:
        """Empty the queue."""
        self.queue(self.connection.default_channel).purge()

    def close(self) -> None:
        """Purge and let go."""
        self.purge()
        self.connection.release()
