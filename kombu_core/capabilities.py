"""The frozen vocabulary of what a store and a transport can do, and how a wish is refused.

The runtime refuses by it, the documentation prints it, and the contract kit reads it, so that no
argument is ever silently ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Final

from kombu_core.exceptions import UnsupportedError

#: What RabbitMQ answers through: a message published with it in `reply_to`, on the channel that
#: consumes from it without acks, is answered to that consumer; there is no queue.
DIRECT_REPLY_QUEUE: Final = "amq.rabbitmq.reply-to"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCapabilities:
    """What a store does; the virtual transport derives its own capabilities from it."""

    #: Name for error messages and tables, as `redis`.
    name: str
    #: Other processes see the same documents and queues.
    shared: bool
    #: What is stored survives a restart of the broker (if the broker is so configured).
    persistent: bool
    #: `commit` applies all of a batch or nothing, also across a crash.
    atomic_commit: bool = True
    #: `Put.priority` is honoured.
    priorities: bool = True
    #: `Put.delay` is honoured.
    delay: bool = True
    #: `Put.ttl` is honoured.
    message_ttl: bool = True
    #: `Batch.limits` are honoured.
    max_length: bool = True
    #: `Limit.max_bytes` is, too.
    max_length_bytes: bool = True
    #: Largest envelope in bytes, None if the store sets no limit of its own.
    max_message_bytes: int | None = None
    #: What an error should say about changing that.
    max_message_hint: str = ""
    #: `Store.close`, or the death of the process, gives back at once what its sessions have; else
    #: it is back when their leases ran out.
    releases_on_close: bool = False
    #: Delays, and leases as others see them, are rounded up to multiples of this (seconds); 0.0:
    #: the store's clock is fine.
    time_step: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a transport does of AMQP 0-9-1 and RabbitMQ's extensions. True: as RabbitMQ does it."""

    #: Name for error messages and tables.
    name: str
    exchange_types: frozenset[str] = field(
        default=frozenset({"direct", "fanout", "topic", "headers"})
    )
    #: Other processes see the same exchanges, queues and messages.
    shared: bool = True
    #: Durable entities and persistent messages survive a restart of the broker.
    persistent: bool = True
    #: A settle that also publishes (a dead letter, a transaction) is one atomic step.
    atomic_commit: bool = True
    #: Largest body in bytes, None without a limit of the transport's own.
    max_message_bytes: int | None = None
    #: What an error should say about changing that.
    max_message_hint: str = ""

    # AMQP 0-9-1
    exchange_bindings: bool = True
    internal_exchanges: bool = True
    mandatory: bool = True
    exclusive_queues: bool = True
    auto_delete: bool = True
    exclusive_consumers: bool = False
    transactions: bool = False
    flow: bool = True
    recover: bool = True

    # RabbitMQ's extensions
    alternate_exchange: bool = True
    consumer_cancel_notify: bool = True
    priorities: bool = False
    message_ttl: bool = False
    queue_expires: bool = False
    dead_letters: bool = False
    max_length: bool = False
    max_length_bytes: bool = False
    single_active_consumer: bool = False
    consumer_priorities: bool = False
    delivery_limit: bool = False
    #: `delay=` on a publish.
    delay: bool = False
    #: Replies without a queue, through `DIRECT_REPLY_QUEUE`.
    direct_reply: bool = False

    # What a database as the broker makes possible
    #: `session=` of a publish: the message is part of a transaction of the application's own.
    joined_transactions: bool = False

    def require(self, feature: str, detail: str = "") -> None:
        """Raise `UnsupportedError` unless the capability named `feature` is there."""
        if not getattr(self, feature):
            raise UnsupportedError(feature, self.name, detail)

    def require_consumer(self, queue: str, exclusive: bool) -> None:
        """Raise `UnsupportedError` for a consumer of a kind that is not there."""
        if exclusive:
            self.require("exclusive_consumers")
        if queue == DIRECT_REPLY_QUEUE:
            self.require("direct_reply")

    def flags(self) -> dict[str, bool]:
        """Return the boolean capabilities by name, in the order of their definition."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, bool)}
