"""The wire form of a message for stores that keep bytes: stable, versioned, readable anywhere.

    b"K1" | length of the header in bytes, 4 bytes big-endian | header, UTF-8 JSON | body

The header is an object whose absent members have their default: `p` properties, `h` headers,
`x` exchange, `r` routing key. Values that JSON lacks are objects with one member, its name
beginning with a dollar sign: `$bytes` (base64), `$decimal` (text), `$timestamp` (ISO 8601 with its
offset). An application's own object with a single member of such a name gets one more dollar sign.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, cast

from kombu_core.exceptions import EncodeError
from kombu_core.message import Envelope, Malformed, Properties

MAGIC: Final = b"K1"
_PREFIX_BYTES: Final = 6
#: A header larger than this is refused on both ways (bytes).
MAX_HEADER_BYTES: Final = 1 << 20

#: What AMQP says of the basic properties; all others are text.
_NUMBERS: Final = frozenset({"delivery_mode", "priority", "timestamp"})
_PROPERTY_TYPES: Final[Mapping[str, type]] = {
    name: int if name in _NUMBERS else str for name in Properties.__annotations__
}
_PLAIN: Final = (str, int, float, bool, type(None))


def encode(envelope: Envelope) -> bytes:
    """Return the wire form of `envelope`.

    Raises:
        EncodeError: A header value has a type that AMQP's tables do not have.
    """
    header: dict[str, Any] = {}
    if envelope.properties:
        header["p"] = envelope.properties
    if envelope.exchange:
        header["x"] = envelope.exchange
    if envelope.routing_key:
        header["r"] = envelope.routing_key
    try:
        if envelope.headers:
            header["h"] = _portable(envelope.headers)
        text = _to_json(header).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise EncodeError(f"Properties or headers cannot be stored: {exc}") from exc
    if len(text) > MAX_HEADER_BYTES:
        raise EncodeError(f"The headers take {len(text)} bytes, the limit is {MAX_HEADER_BYTES}")
    return b"".join((MAGIC, len(text).to_bytes(4, "big"), text, envelope.body))


def decode(raw: bytes) -> Envelope | Malformed:
    """Return the envelope in `raw`, or why there is none. Raises nothing."""
    if raw[:2] != MAGIC:
        return Malformed(raw, "it does not begin with the mark K1")
    end = _PREFIX_BYTES + int.from_bytes(raw[2:_PREFIX_BYTES], "big")
    if not _PREFIX_BYTES <= end <= min(len(raw), _PREFIX_BYTES + MAX_HEADER_BYTES):
        return Malformed(raw, "the length of its header cannot be right")
    try:
        text = raw[_PREFIX_BYTES:end].decode()
        header = _from_marked_json(text) if "$" in text else _from_json(text)
        properties = header.get("p") or {}
        headers = header.get("h") or {}
        exchange = header.get("x") or ""
        routing_key = header.get("r") or ""
    except (ValueError, TypeError, AttributeError, RecursionError, ArithmeticError) as exc:
        return Malformed(raw, f"its header cannot be read: {exc}")
    if not (
        isinstance(properties, dict)
        and isinstance(headers, dict)
        and isinstance(exchange, str)
        and isinstance(routing_key, str)
    ):
        return Malformed(raw, "a member of its header has the wrong type")
    for name, value in properties.items():
        if not isinstance(value, _PROPERTY_TYPES.get(name, object)):
            return Malformed(raw, f"the property {name} is {type(value).__name__}")
    return Envelope(raw[end:], cast("Properties", properties), headers, exchange, routing_key)


def _portable(value: Any) -> Any:
    """Rewrite what JSON cannot say; plain values come back as they are."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Mapping):
        escape = "$" if len(value) == 1 and str(next(iter(value))).startswith("$") else ""
        return {f"{escape}{key}": _portable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_portable(item) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    if isinstance(value, datetime):
        return {"$timestamp": (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()}
    raise EncodeError(
        f"A header value of type {type(value).__name__} has no AMQP form; use str, int, float, "
        "bool, None, bytes, Decimal, datetime, list or dict"
    )


def _restore(value: dict[str, Any]) -> Any:
    """Undo `_portable` for one JSON object; its members are done already."""
    if len(value) != 1:
        return value
    ((mark, inner),) = value.items()
    if mark == "$bytes":
        return b64decode(inner, validate=True)
    if mark == "$decimal":
        return Decimal(inner)
    if mark == "$timestamp":
        return datetime.fromisoformat(inner)
    if mark.startswith("$$"):
        return {mark[1:]: inner}
    return value


_to_json: Final = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, check_circular=True
).encode
_from_json: Final = json.JSONDecoder().decode
#: The hook costs a Python call for each object, so it runs only where a mark can be.
_from_marked_json: Final = json.JSONDecoder(object_hook=_restore).decode
