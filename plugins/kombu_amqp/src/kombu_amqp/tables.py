"""AMQP's field tables (0-9-1, section 4.2.5, with RabbitMQ's letters for the types).

Both transports use this for messages, because the drivers do not agree: py-amqp makes text of byte
strings and forgets that times are UTC; pika cuts single-precision floats and has integers of its
own. What goes in here comes out equal, and of the same type.
"""

from __future__ import annotations

import struct
from calendar import timegm
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from struct import Struct
from typing import Any, Final

from kombu_core.exceptions import DecodeError, EncodeError

_LENGTH: Final = Struct(">I")
_TAGGED_LENGTH: Final = Struct(">cI")
_TAGGED_INT: Final = Struct(">ci")
_TAGGED_LONG: Final = Struct(">cq")
_TAGGED_DOUBLE: Final = Struct(">cd")
_TAGGED_TIME: Final = Struct(">cQ")
_TAGGED_DECIMAL: Final = Struct(">cBi")
_DECIMAL: Final = Struct(">Bi")

#: How deep tables and arrays may lie in each other.
MAX_DEPTH: Final = 64
_INT_MAX: Final = 2**31
#: Powers of ten beyond this do not fit into 32 bits.
_MAX_EXPONENT: Final = 9


def encode_table(table: Mapping[str, Any]) -> bytes:
    """Return a table with its length in front.

    Raises:
        EncodeError: A key or a value has no form in AMQP.
    """
    return _table(table, 0)


def _table(table: Mapping[str, Any], depth: int) -> bytes:
    pieces = []
    for key, value in table.items():
        raw = _key(key)
        pieces.append(bytes((len(raw),)))
        pieces.append(raw)
        pieces.append(_value(value, depth))
    body = b"".join(pieces)
    return _LENGTH.pack(len(body)) + body


def _key(key: Any) -> bytes:
    raw = key.encode() if isinstance(key, str) else None
    if raw is None or len(raw) > 255:
        raise EncodeError(f"A key of an AMQP table is text of up to 255 bytes, not {key!r:.80}")
    return raw


def _value(value: Any, depth: int) -> bytes:
    if depth > MAX_DEPTH:
        raise EncodeError(f"An AMQP table is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, str):
        raw = value.encode("utf-8", "surrogatepass")
        return _TAGGED_LENGTH.pack(b"S", len(raw)) + raw
    if value is None:
        return b"V"
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    try:
        if isinstance(value, int):
            if -_INT_MAX <= value < _INT_MAX:
                return _TAGGED_INT.pack(b"I", value)
            return _TAGGED_LONG.pack(b"l", value)
        if isinstance(value, float):
            return _TAGGED_DOUBLE.pack(b"d", value)
        if isinstance(value, Decimal):
            return _decimal(value)
        if isinstance(value, datetime):
            return _TAGGED_TIME.pack(b"T", timegm(value.utctimetuple()))
    except (struct.error, ValueError, OverflowError) as exc:
        raise EncodeError(f"{value!r:.80} does not fit into an AMQP table") from exc
    if isinstance(value, bytes | bytearray | memoryview):
        return _TAGGED_LENGTH.pack(b"x", len(value)) + bytes(value)
    if isinstance(value, Mapping):
        return b"F" + _table(value, depth + 1)
    if isinstance(value, list | tuple):
        body = b"".join([_value(item, depth + 1) for item in value])
        return _TAGGED_LENGTH.pack(b"A", len(body)) + body
    raise EncodeError(f"An AMQP table cannot hold {type(value).__name__} {value!r:.80}")


def _decimal(value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise ValueError("AMQP has no infinite decimals")
    number = int("".join(map(str, digits))) * (-1 if sign else 1)
    if exponent > _MAX_EXPONENT:
        raise OverflowError("AMQP's decimals have 32 bits")
    if exponent > 0:
        number, exponent = number * 10**exponent, 0
    return _TAGGED_DECIMAL.pack(b"D", -exponent, number)


# -- decoding --------------------------------------------------------------------------------


def decode_table(data: bytes, offset: int = 0) -> tuple[dict[str, Any], int]:
    """Return the table at `offset` and the offset behind it.

    Raises:
        DecodeError: It breaks off, is nested too deep, or has a type that nobody knows.
    """
    try:
        return _read_table(data, offset, 0)
    except (IndexError, struct.error, UnicodeDecodeError, OverflowError, OSError) as exc:
        raise DecodeError(f"An AMQP table is malformed: {exc}") from exc


def _read_table(data: bytes, offset: int, depth: int) -> tuple[dict[str, Any], int]:
    end = offset + 4 + _LENGTH.unpack_from(data, offset)[0]
    offset += 4
    table: dict[str, Any] = {}
    while offset < end:
        start = offset + 1
        offset = start + data[offset]
        key = data[start:offset].decode()
        table[key], offset = _read_value(data, offset, depth)
    return table, offset


def _read_value(data: bytes, offset: int, depth: int) -> tuple[Any, int]:
    letter = data[offset]
    offset += 1
    number = _NUMBERS.get(letter)
    if number is not None:
        return number.unpack_from(data, offset)[0], offset + number.size
    if letter in b"Sx":
        start = offset + 4
        offset = start + _LENGTH.unpack_from(data, offset)[0]
        if offset > len(data):
            raise DecodeError("An AMQP table breaks off within a text")
        raw = data[start:offset]
        return (_text(raw) if letter == 0x53 else raw), offset
    if letter == 0x74:  # t
        return data[offset] != 0, offset + 1
    if letter == 0x56:  # V
        return None, offset
    if letter == 0x54:  # T
        seconds = _NUMBERS[0x4C].unpack_from(data, offset)[0]
        return datetime.fromtimestamp(seconds, UTC), offset + 8
    if letter == 0x44:  # D
        scale, digits = _DECIMAL.unpack_from(data, offset)
        return Decimal(digits).scaleb(-scale), offset + 5
    if depth >= MAX_DEPTH:
        raise DecodeError(f"An AMQP table is nested more than {MAX_DEPTH} levels deep")
    if letter == 0x46:  # F
        return _read_table(data, offset, depth + 1)
    if letter == 0x41:  # A
        return _read_array(data, offset, depth + 1)
    raise DecodeError(f"An AMQP table has the unknown type {chr(letter)!r}")


def _read_array(data: bytes, offset: int, depth: int) -> tuple[list[Any], int]:
    end = offset + 4 + _LENGTH.unpack_from(data, offset)[0]
    offset += 4
    array = []
    while offset < end:
        item, offset = _read_value(data, offset, depth)
        array.append(item)
    return array, offset


def _text(raw: bytes) -> str | bytes:
    """A long string is text, unless it is none: kombu 5 writes bytes as such."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


#: By the letter of the type. RabbitMQ reads `l` and `L` both as signed.
_NUMBERS: Final[Mapping[int, Struct]] = {
    ord(letter): Struct(">" + form)
    for letter, form in {
        "b": "b", "B": "B", "s": "h", "U": "h", "u": "H",
        "I": "i", "i": "I", "l": "q", "L": "q", "f": "f", "d": "d",
    }.items()
}  # fmt: skip
