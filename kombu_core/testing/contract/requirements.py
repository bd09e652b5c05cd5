"""Which capability a test needs, and how an application asks for each one.

A test whose capability is missing is skipped; in its place the asks of that capability must be
refused (`RefusalContract`). So nothing can be both undeclared and silently ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import pytest

from kombu_core.capabilities import DIRECT_REPLY_QUEUE, Capabilities
from kombu_core.exceptions import ConfigurationError
from kombu_core.producer import Producer
from kombu_core.testing.harness import Names, envelope
from kombu_core.transport import Channel

#: One way to ask for a capability; it gets a channel and fresh names.
Ask = Callable[[Channel, Names], object]

#: Marks a test with the capabilities that it needs, by their names or as `exchange:TYPE`.
requires: Final = pytest.mark.requires

#: In front of the name of an exchange type.
_EXCHANGE: Final = "exchange:"

#: Capabilities that nobody can ask for in a call: they describe, and other tests adapt to them.
INFORMATIVE: Final = frozenset({"shared", "persistent", "atomic_commit"})


def missing(capabilities: Capabilities, names: Iterable[str]) -> list[str]:
    """Return those of `names` that a transport does not have."""
    return [name for name in names if not _has(capabilities, name)]


def _has(capabilities: Capabilities, name: str) -> bool:
    if name.startswith(_EXCHANGE):
        return name.removeprefix(_EXCHANGE) in capabilities.exchange_types
    return bool(getattr(capabilities, name))


def _plain_queue(channel: Channel, names: Names) -> str:
    queue = names("asked")
    channel.queue_declare(queue)
    return queue


def _queue_with(**arguments: Any) -> Ask:
    named = {key.replace("_", "-"): value for key, value in arguments.items()}

    def ask(channel: Channel, names: Names) -> object:
        return channel.queue_declare(names("asked"), durable=True, arguments=named)

    return ask


def _publish_with(*, mandatory: bool = False, delay: float = 0.0, **properties: Any) -> Ask:
    def ask(channel: Channel, names: Names) -> None:
        message = envelope("", _plain_queue(channel, names), "asked", **properties)
        channel.basic_publish(message, mandatory=mandatory, delay=delay)

    return ask


def _consume_with(**options: Any) -> Ask:
    def ask(channel: Channel, names: Names) -> None:
        channel.basic_consume(_plain_queue(channel, names), lambda message: None, **options)

    return ask


def _consume_direct_replies(channel: Channel, names: Names) -> None:
    channel.basic_consume(DIRECT_REPLY_QUEUE, lambda message: None, no_ack=True)


def _publish_in_a_transaction(channel: Channel, names: Names) -> None:
    """Ask with what is no transaction: where there is the capability, that is what is wrong."""
    producer = Producer(channel, routing_key=_plain_queue(channel, names))
    try:
        producer.publish("asked", session=object())
    except ConfigurationError:
        if not channel.transport.capabilities.joined_transactions:
            raise


def _bind_exchanges(channel: Channel, names: Names) -> None:
    source, destination = names("source"), names("destination")
    channel.exchange_declare(source, "fanout")
    channel.exchange_declare(destination, "fanout")
    channel.exchange_bind(destination, source)


def _auto_delete_exchange(channel: Channel, names: Names) -> None:
    channel.exchange_declare(names("asked"), "fanout", auto_delete=True)


def _exchange_with_alternate(channel: Channel, names: Names) -> None:
    arguments = {"alternate-exchange": names("alternate")}
    channel.exchange_declare(names("asked"), "fanout", arguments=arguments)


#: Each capability with the ways to ask for it, by a name for the test's report.
ASKS: Final[dict[str, dict[str, Ask]]] = {
    "direct_reply": {"consume": _consume_direct_replies},
    "exchange_bindings": {"exchange_bind": _bind_exchanges},
    "internal_exchanges": {
        "internal": lambda channel, names: channel.exchange_declare(
            names("asked"), "fanout", internal=True
        )
    },
    "mandatory": {"mandatory": _publish_with(mandatory=True)},
    "exclusive_queues": {
        "exclusive": lambda channel, names: channel.queue_declare(names("asked"), exclusive=True)
    },
    "auto_delete": {
        "queue": lambda channel, names: channel.queue_declare(names("asked"), auto_delete=True),
        "exchange": _auto_delete_exchange,
    },
    "exclusive_consumers": {"exclusive": _consume_with(exclusive=True)},
    "transactions": {"tx_select": lambda channel, names: channel.tx_select()},
    "flow": {"flow": lambda channel, names: channel.flow(False)},
    "recover": {"basic_recover": lambda channel, names: channel.basic_recover()},
    "alternate_exchange": {"alternate-exchange": _exchange_with_alternate},
    "consumer_cancel_notify": {"on_cancel": _consume_with(on_cancel=lambda tag: None)},
    "priorities": {"x-max-priority": _queue_with(x_max_priority=5)},
    "message_ttl": {
        "x-message-ttl": _queue_with(x_message_ttl=1000),
        "expiration": _publish_with(expiration="1000"),
    },
    "queue_expires": {"x-expires": _queue_with(x_expires=60_000)},
    "dead_letters": {"x-dead-letter-exchange": _queue_with(x_dead_letter_exchange="amq.fanout")},
    "max_length": {
        "x-max-length": _queue_with(x_max_length=5),
        "x-overflow": _queue_with(x_max_length=5, x_overflow="reject-publish"),
    },
    "max_length_bytes": {"x-max-length-bytes": _queue_with(x_max_length_bytes=5000)},
    "single_active_consumer": {
        "x-single-active-consumer": _queue_with(x_single_active_consumer=True)
    },
    "consumer_priorities": {"x-priority": _consume_with(arguments={"x-priority": 1})},
    "delivery_limit": {"x-delivery-limit": _queue_with(x_delivery_limit=2, x_queue_type="quorum")},
    "delay": {"delay": _publish_with(delay=0.05)},
    "joined_transactions": {"session": _publish_in_a_transaction},
}

#: (capability, name of an ask) of the whole table.
ALL_ASKS: Final = [(capability, label) for capability, asks in ASKS.items() for label in asks]
