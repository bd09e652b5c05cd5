"""The methods that carry a table of arguments, written the same way for both drivers.

A headers exchange compares types too, so that arguments have to be written as headers are; and pika
writes no floats. The answers are the drivers' to read. Layouts: AMQP 0-9-1, sections 1.4 to 1.8.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kombu_amqp.frames import write_short
from kombu_amqp.tables import encode_table
from kombu_core.transport import Arguments


class Method(NamedTuple):
    """A method's payload, and class and method of the answer."""

    payload: bytes
    answer: tuple[int, int]


EXCHANGE_DECLARE_OK: Final = (40, 11)
EXCHANGE_BIND_OK: Final = (40, 31)
EXCHANGE_UNBIND_OK: Final = (40, 51)
QUEUE_DECLARE_OK: Final = (50, 11)
QUEUE_BIND_OK: Final = (50, 21)
QUEUE_UNBIND_OK: Final = (50, 51)
BASIC_CONSUME_OK: Final = (60, 21)
BASIC_CANCEL_OK: Final = (60, 31)


def exchange_declare(
    exchange: str,
    type_: str,
    *,
    passive: bool = False,
    durable: bool = False,
    auto_delete: bool = False,
    internal: bool = False,
    arguments: Arguments | None = None,
    no_wait: bool = False,
) -> Method:
    """Return exchange.declare; with `no_wait` there is no answer, here and below."""
    bits = _bits(passive, durable, auto_delete, internal, no_wait)
    names = write_short(exchange) + write_short(type_)
    payload = _head(40, 10) + names + bits + encode_table(arguments or {})
    return Method(payload, EXCHANGE_DECLARE_OK)


def exchange_bind(
    destination: str, source: str, routing_key: str, arguments: Arguments | None
) -> Method:
    """Return exchange.bind."""
    binding = _binding(destination, source, routing_key, b"\x00", arguments)
    return Method(_head(40, 30) + binding, EXCHANGE_BIND_OK)


def exchange_unbind(
    destination: str, source: str, routing_key: str, arguments: Arguments | None
) -> Method:
    """Return exchange.unbind."""
    binding = _binding(destination, source, routing_key, b"\x00", arguments)
    return Method(_head(40, 40) + binding, EXCHANGE_UNBIND_OK)


def queue_declare(
    queue: str,
    *,
    passive: bool = False,
    durable: bool = False,
    exclusive: bool = False,
    auto_delete: bool = False,
    arguments: Arguments | None = None,
    no_wait: bool = False,
) -> Method:
    """Return queue.declare."""
    bits = _bits(passive, durable, exclusive, auto_delete, no_wait)
    payload = _head(50, 10) + write_short(queue) + bits + encode_table(arguments or {})
    return Method(payload, QUEUE_DECLARE_OK)


def queue_bind(
    queue: str,
    exchange: str,
    routing_key: str,
    arguments: Arguments | None,
    *,
    no_wait: bool = False,
) -> Method:
    """Return queue.bind."""
    binding = _binding(queue, exchange, routing_key, _bits(no_wait), arguments)
    return Method(_head(50, 20) + binding, QUEUE_BIND_OK)


def queue_unbind(
    queue: str, exchange: str, routing_key: str, arguments: Arguments | None
) -> Method:
    """Return queue.unbind, the only one of its kind that has no no-wait."""
    binding = _binding(queue, exchange, routing_key, b"", arguments)
    return Method(_head(50, 50) + binding, QUEUE_UNBIND_OK)


def basic_consume(
    queue: str, consumer_tag: str, no_ack: bool, exclusive: bool, arguments: Arguments | None
) -> Method:
    """Return basic.consume."""
    bits = _bits(False, no_ack, exclusive)
    names = write_short(queue) + write_short(consumer_tag)
    payload = _head(60, 20) + names + bits + encode_table(arguments or {})
    return Method(payload, BASIC_CONSUME_OK)


def basic_cancel(consumer_tag: str) -> Method:
    """Return basic.cancel; it has no table, but the drivers know nothing of our consumers."""
    return Method(b"\x00\x3c\x00\x1e" + write_short(consumer_tag) + b"\x00", BASIC_CANCEL_OK)


def _head(class_: int, method: int) -> bytes:
    """Class, method and a reserved field of two bytes."""
    return bytes((0, class_, 0, method, 0, 0))


def _bits(*bits: bool) -> bytes:
    return bytes((sum(1 << place for place, bit in enumerate(bits) if bit),))


def _binding(
    destination: str, source: str, routing_key: str, bits: bytes, arguments: Arguments | None
) -> bytes:
    names = write_short(destination) + write_short(source) + write_short(routing_key)
    return names + bits + encode_table(arguments or {})
