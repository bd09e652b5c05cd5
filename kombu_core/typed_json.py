"""JSON with dates, times, UUIDs, decimals and bytes: the codec behind `application/json`.

JSON has no such types, so a value of one travels as an object of two members that any language
can read, kombu 5 among them::

    {"__type__": "date", "__value__": "2030-01-31"}

====================  =========================================================================
type                  `__type__` and `__value__`
====================  =========================================================================
datetime, date, time  `datetime`, `date`, `time`: ISO 8601, with the offset if there is one
Decimal               `decimal`: the digits, as text
UUID                  `uuid`: {"hex": 32 hexadecimal digits}
bytes                 `bytes`: text, if they are UTF-8; else `base64`
====================  =========================================================================

An object of that form with another type, or whose value is not of its type, comes back as the
plain dict that it is: a message of a stranger is never undecodable for that. The reverse cannot
be told apart: a dict of yours with exactly these two members and one of these types comes back as
that type.

An object with a method `__json__` is replaced by what the method returns, and an instance of a
dataclass, or of a class of attrs, msgspec or pydantic, by an object of its members. Tuples come
back as lists, and keys that are numbers, booleans or None as text. Other types (sets, timedeltas)
are refused, as there is no form of them that kombu reads.

NaN and the infinities are no JSON, and most other languages fail on them: they are refused when
encoding (a Decimal may be NaN), and accepted when decoding.
"""

from __future__ import annotations

import base64
import json
import json.encoder
from collections.abc import Callable, Iterable
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID

from kombu_core.exceptions import ContentTooLargeError, DecodeError, EncodeError
from kombu_core.fast_json import find_reader
from kombu_core.records import members_of

_TYPE: Final = "__type__"
_TYPE_BYTES: Final = _TYPE.encode()
_VALUE: Final = "__value__"
_MEMBERS: Final = frozenset({_TYPE, _VALUE})

_Scan = Callable[[str, int], tuple[Any, int]]


def dumps(data: Any) -> bytes:
    """Encode as compact UTF-8.

    Raises:
        EncodeError: A value has a type that JSON cannot carry, is NaN or infinite, or is nested
            too deeply (or contains itself).
    """
    try:
        text = _encode(data)
    except RecursionError:
        raise EncodeError("The value is nested too deeply for JSON, or contains itself") from None
    except (TypeError, ValueError, OverflowError) as exc:
        raise EncodeError(f"The value cannot be written as JSON: {exc}") from exc
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Lone surrogates, as in names of files: UTF-8 cannot carry them, JSON's escapes can.
        return _escape_surrogates(text).encode()


def loads(body: bytes) -> Any:
    r"""Decode UTF-8, with or without a byte order mark.

    Raises:
        DecodeError: The body is no JSON.
        ContentTooLargeError: It is nested too deeply.
    """
    read = find_reader()
    if read is not None and _TYPE_BYTES not in body:
        try:
            return read(body)
        except Exception:  # noqa: BLE001 (the standard library decides whether it is wrong)
            pass
    try:
        text = body.decode()
    except UnicodeDecodeError as exc:
        raise DecodeError(f"The JSON is not UTF-8: byte {exc.start} of {len(body)}") from exc
    if text.startswith("\ufeff"):
        text = text[1:]
    # A hook costs a call for each object, and most messages need none. A stranger who escapes a
    # letter of the member's name gets a plain dict.
    decoder, scan = _typed if _TYPE in text else _plain
    try:
        try:
            value, end = scan(text, 0)
        except StopIteration:
            end = -1
        if end == len(text):
            return value
        return decoder.decode(text)  # white space around it, or an error to describe
    except RecursionError:
        raise ContentTooLargeError("The JSON is nested too deeply") from None
    except ValueError as exc:
        raise DecodeError(f"The body is no JSON: {exc}") from exc


def _marked(kind: str, value: Any) -> dict[str, Any]:
    return {_TYPE: kind, _VALUE: value}


def _replace(value: object) -> Any:
    """Return what stands for a value that JSON has no form of."""
    reducer = getattr(value, "__json__", None)
    if reducer is not None:
        return reducer()
    match value:
        case datetime():  # before date, of which it is a subclass
            return _marked("datetime", value.isoformat())
        case date():
            return _marked("date", value.isoformat())
        case time():
            return _marked("time", value.isoformat())
        case Decimal():
            return _marked("decimal", str(value))
        case UUID():
            return _marked("uuid", {"hex": value.hex})
        case bytes():
            try:
                return _marked("bytes", value.decode())
            except UnicodeDecodeError:
                return _marked("base64", base64.b64encode(value).decode())
    members = members_of(value)
    if members is not None:
        return members
    raise TypeError(
        f"{type(value).__name__} has no JSON form; convert it, or give it a method __json__"
    )


def _uuid(value: Any) -> UUID:
    return UUID(hex=value["hex"] if isinstance(value, dict) else value)


_READERS: Final[dict[str, Callable[[Any], object]]] = {
    "datetime": datetime.fromisoformat,
    "date": lambda value: datetime.fromisoformat(value).date(),
    "time": time.fromisoformat,
    "decimal": Decimal,
    "uuid": _uuid,
    "bytes": lambda value: value.encode(),
    "base64": lambda value: base64.b64decode(value, validate=True),
}


def _restore(found: dict[str, Any]) -> Any:
    if found.keys() == _MEMBERS:
        kind = found[_TYPE]
        reader = _READERS.get(kind) if isinstance(kind, str) else None
        if reader is not None:
            try:
                return reader(found[_VALUE])
            except (TypeError, ValueError, LookupError, AttributeError, InvalidOperation):
                return found
    return found


def _escape_surrogates(text: str) -> str:
    # Only inside of a JSON string can there be one, so the escape is always in its place.
    return "".join(
        f"\\u{ord(letter):04x}" if "\ud800" <= letter <= "\udfff" else letter for letter in text
    )


def _with_scanner(decoder: json.JSONDecoder) -> tuple[json.JSONDecoder, _Scan]:
    """Return a decoder and what its `decode` runs, without the search for white space around."""
    scan: _Scan | None = getattr(decoder, "scan_once", None)
    return decoder, decoder.raw_decode if scan is None else scan


_plain: Final = _with_scanner(json.JSONDecoder())
_typed: Final = _with_scanner(json.JSONDecoder(object_hook=_restore))
# Without a search for circles, which end as too deeply nested all the same: faster, and without
# state, so that threads may share it.
_encoder: Final = json.JSONEncoder(
    separators=(",", ":"),
    ensure_ascii=False,
    allow_nan=False,
    check_circular=False,
    default=_replace,
)


def _make_encode() -> Callable[[Any], str]:
    """Return `_encoder.encode`, or what it does without making a C encoder for each call."""
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    escape: Any = getattr(json.encoder, "c_encode_basestring", None)
    if make is None or escape is None:
        return _encoder.encode
    chunks: Callable[[Any, int], Iterable[str]]
    try:
        chunks = make(None, _replace, escape, None, ":", ",", False, False, False)
    except TypeError:  # not documented, so a later Python may want other arguments
        return _encoder.encode
    join = "".join
    return lambda data: join(chunks(data, 0))


_encode: Final = _make_encode()
