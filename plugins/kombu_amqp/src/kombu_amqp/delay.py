"""Delays on RabbitMQ without a plugin: a ladder of queues that all delays share.

Level N is a queue `kombu.delay.N` whose messages expire after 2**N ms, and a headers exchange of
the same name in front of it. A delay in milliseconds is a sum of such powers, so a message carries
one header for each bit that is set, `kombu-delay-N`, and enters at the highest. The exchange of a
level gives it to that level's queue if its bit is set, and else, by its alternate exchange, to the
level below; a queue dead-letters to the level below, too. At the bottom the header
`kombu-delay-exchange` chooses a queue that dead-letters at once to the exchange that was meant.

All the way the routing key stays the one that was published, because nothing routes by it, and so
it is there when the message arrives. Everything is durable, and every queue is first in, first out
with one time to live, so that no message waits behind one that has longer to wait.

Precision: never early, and late by what RabbitMQ needs for a hop, below a millisecond each, times
the bits that are set. The longest delay is 2**32 - 1 ms, some seven weeks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from kombu_amqp import methods
from kombu_core.exceptions import ConfigurationError, UnsupportedError
from kombu_core.message import Envelope
from kombu_core.transport import Publication

if TYPE_CHECKING:
    from kombu_amqp.transport import AmqpTransport

LEVELS: Final = 32
#: Milliseconds.
LONGEST: Final = 2**LEVELS - 1

_PREFIX: Final = "kombu.delay."
_TARGET_HEADER: Final = "kombu-delay-exchange"
_BIT_HEADER: Final = "kombu-delay-"
_QUEUE_TYPES: Final[Mapping[str, Mapping[str, Any]]] = {
    "classic": {},
    # A dead letter is confirmed by where it goes before it leaves; needs this overflow.
    "quorum": {
        "x-queue-type": "quorum",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    },
}


class Delays:
    """The ladder of one connection. Thread-safe: declaring twice does no harm."""

    def __init__(self, transport: AmqpTransport) -> None:
        self._transport = transport
        self._targets: set[str] = set()
        kind = transport.options.delay_queue_type
        self._arguments = _QUEUE_TYPES[kind]
        self._prefix = _PREFIX if kind == "classic" else f"{_PREFIX}{kind}."

    def prepare(self, publications: Iterable[Publication]) -> None:
        """Declare what the delayed ones among `publications` need, once for each exchange.

        Raises:
            NotFoundError: There is no such exchange.
            ConfigurationError: A delay is too long.
            UnsupportedError: A delayed message has an expiration.
        """
        for envelope, _, delay in publications:
            if delay > 0:
                _check(envelope, delay)
                if envelope.exchange not in self._targets:
                    self._declare(envelope.exchange)
                    self._targets.add(envelope.exchange)

    def wrap(self, envelope: Envelope, delay: float) -> Envelope:
        """Return what to publish, so that `envelope` arrives after `delay` seconds."""
        left = max(1, math.ceil(delay * 1000))
        headers = {**without_traces(envelope.headers), _TARGET_HEADER: envelope.exchange}
        for level in range(LEVELS):
            if left >> level & 1:
                headers[f"{_BIT_HEADER}{level}"] = True
        return envelope._replace(headers=headers, exchange=f"{self._prefix}{left.bit_length() - 1}")

    # -- declaring -------------------------------------------------------------------------

    def _declare(self, target: str) -> None:
        transport = self._transport
        channel = transport.channel()
        try:
            if target:
                channel.exchange_declare(target, passive=True)
            # Nothing of it is waited for but the last: that takes one round trip, not a hundred.
            requests = [] if self._targets else list(self._ladder())
            requests += self._end(target)
            channel.send_methods(requests)
            channel.exchange_declare(self._bottom, passive=True)
        finally:
            channel.close()

    @property
    def _bottom(self) -> str:
        return f"{self._prefix}end"

    def _ladder(self) -> Iterable[methods.Method]:
        below = self._bottom
        yield methods.exchange_declare(below, "headers", durable=True, no_wait=True)
        for level in range(LEVELS):
            name = f"{self._prefix}{level}"
            arguments = {
                **self._arguments,
                "x-message-ttl": 1 << level,
                "x-dead-letter-exchange": below,
            }
            yield methods.exchange_declare(
                name,
                "headers",
                durable=True,
                arguments={"alternate-exchange": below},
                no_wait=True,
            )
            yield methods.queue_declare(name, durable=True, arguments=arguments, no_wait=True)
            bit = {"x-match": "all", f"{_BIT_HEADER}{level}": True}
            yield methods.queue_bind(name, name, "", bit, no_wait=True)
            below = name

    def _end(self, target: str) -> Iterable[methods.Method]:
        name = f"{self._prefix}to.{target}"
        arguments = {**self._arguments, "x-message-ttl": 0, "x-dead-letter-exchange": target}
        yield methods.queue_declare(name, durable=True, arguments=arguments, no_wait=True)
        match = {"x-match": "all", _TARGET_HEADER: target}
        yield methods.queue_bind(name, self._bottom, "", match, no_wait=True)


def _check(envelope: Envelope, delay: float) -> None:
    if delay * 1000 > LONGEST:
        raise ConfigurationError(
            f"A delay of {delay} s is longer than RabbitMQ can hold it, {LONGEST / 1000} s"
        )
    if "expiration" in envelope.properties:
        raise UnsupportedError(
            "message_ttl", "amqp", "RabbitMQ forgets the expiration of a delayed message"
        )


# -- arriving --------------------------------------------------------------------------------


def unwrap(envelope: Envelope) -> Envelope:
    """Return a delivered envelope as it was before it was delayed; most were not."""
    if _TARGET_HEADER not in envelope.headers:
        return envelope
    return envelope._replace(headers=without_traces(envelope.headers))


def without_traces(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return headers without what the ladder, and RabbitMQ on it, wrote into them."""
    if _TARGET_HEADER not in headers and "x-death" not in headers:
        return headers
    kept = {key: value for key, value in headers.items() if not key.startswith(_BIT_HEADER)}
    deaths = kept.pop("x-death", None)
    if not isinstance(deaths, list):
        return kept
    first = kept.get("x-first-death-queue")
    left = [death for death in deaths if not _is_ours(death)]
    if left:
        kept["x-death"] = left
    if isinstance(first, str) and first.startswith(_PREFIX):
        # The oldest is the last.
        for key in ("queue", "reason", "exchange"):
            kept.pop(f"x-first-death-{key}", None)
            if left:
                kept[f"x-first-death-{key}"] = left[-1].get(key, "")
    return kept


def _is_ours(death: Any) -> bool:
    queue = death.get("queue") if isinstance(death, Mapping) else None
    return isinstance(queue, str) and queue.startswith(_PREFIX)
