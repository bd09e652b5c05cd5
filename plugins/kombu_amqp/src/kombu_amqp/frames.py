"""The frames that carry messages, written and read the same way for both drivers.

What a message is made of (basic.publish, deliver, get, return, and their settling) passes here, on
the short way; all other methods are the drivers'. Numbers and layouts: AMQP 0-9-1, sections 2.3.5
and 4.2.3, and RabbitMQ's basic.nack.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from struct import Struct
from typing import Any, Final, NamedTuple, cast

from kombu_amqp.tables import decode_table, encode_table
from kombu_core.exceptions import ConnectionLostError, DecodeError, EncodeError
from kombu_core.message import Envelope, Properties

logger = logging.getLogger(__name__)

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
HEARTBEAT: Final = 8
#: Bytes of a frame around its payload.
OVERHEAD: Final = 8

# Class and method, as in the first four bytes of a method frame.
CONNECTION_CLOSE: Final = b"\x00\x0a\x00\x32"
CONNECTION_BLOCKED: Final = b"\x00\x0a\x00\x3c"
CONNECTION_UNBLOCKED: Final = b"\x00\x0a\x00\x3d"
CHANNEL_CLOSE: Final = b"\x00\x14\x00\x28"
BASIC_CANCEL: Final = b"\x00\x3c\x00\x1e"
BASIC_RETURN: Final = b"\x00\x3c\x00\x32"
BASIC_DELIVER: Final = b"\x00\x3c\x00\x3c"
BASIC_GET_OK: Final = b"\x00\x3c\x00\x47"
BASIC_GET_EMPTY: Final = b"\x00\x3c\x00\x48"
BASIC_ACK: Final = b"\x00\x3c\x00\x50"
BASIC_NACK: Final = b"\x00\x3c\x00\x78"
CONTENT_METHODS: Final = frozenset({BASIC_RETURN, BASIC_DELIVER, BASIC_GET_OK})
#: What the broker says about messages, so that no driver needs to see it.
MESSAGE_METHODS: Final = CONTENT_METHODS | {BASIC_GET_EMPTY, BASIC_ACK, BASIC_NACK}

_KINDS: Final = frozenset({METHOD, HEADER, BODY, HEARTBEAT})
_PREFIX: Final = Struct(">BHI")
_HEADER: Final = Struct(">HHQH")
_TAG: Final = Struct(">Q")
_CODE: Final = Struct(">H")
_SETTLE: Final = Struct(">BHI4sQBB")
HEARTBEAT_FRAME: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"
_CLOSE_OK: Final = b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x33\xce"

#: Properties before and after the headers, with their flags; s: short string, o: octet, L: 64 bits.
_FLAG_HEADERS: Final = 0x2000
_LEADING: Final = (("content_type", 0x8000), ("content_encoding", 0x4000))
_TRAILING: Final = (
    ("delivery_mode", 0x1000, "o"),
    ("priority", 0x0800, "o"),
    ("correlation_id", 0x0400, "s"),
    ("reply_to", 0x0200, "s"),
    ("expiration", 0x0100, "s"),
    ("message_id", 0x0080, "s"),
    ("timestamp", 0x0040, "L"),
    ("type", 0x0020, "s"),
    ("user_id", 0x0010, "s"),
    ("app_id", 0x0008, "s"),
    ("cluster_id", 0x0004, "s"),
)


#: So few properties are kept encoded.
_FEW: Final = 3


class Content(NamedTuple):
    """What came with basic.deliver, get-ok or return; tag and flag are 0 and False for that."""

    envelope: Envelope
    delivery_tag: int
    redelivered: bool
    #: Of basic.deliver the consumer's tag, of basic.return the reply text.
    text: str
    #: Of basic.return.
    code: int = 0


# -- writing ---------------------------------------------------------------------------------


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """Return one whole frame."""
    return b"%b%b\xce" % (_PREFIX.pack(kind, channel, len(payload)), payload)


def publish_frames(channel: int, envelope: Envelope, mandatory: bool, frame_max: int) -> bytes:
    """Return the frames of basic.publish.

    Raises:
        EncodeError: A property or header has no form in AMQP, or they do not fit into one frame,
            which the broker would answer by closing the connection.
    """
    method = _publish_method(envelope.exchange, envelope.routing_key, mandatory)
    body = envelope.body
    flags, properties = _properties(envelope)
    header = _HEADER.pack(60, 0, len(body), flags) + properties
    if len(header) > frame_max - OVERHEAD:
        raise EncodeError(
            f"Properties and headers take {len(header)} bytes; the broker allows "
            f"{frame_max - OVERHEAD}"
        )
    if len(body) <= frame_max - OVERHEAD:
        if not body:
            return frame(METHOD, channel, method) + frame(HEADER, channel, header)
        return b"%b%b\xce%b%b\xce%b%b\xce" % (
            _PREFIX.pack(METHOD, channel, len(method)),
            method,
            _PREFIX.pack(HEADER, channel, len(header)),
            header,
            _PREFIX.pack(BODY, channel, len(body)),
            body,
        )
    pieces = [frame(METHOD, channel, method), frame(HEADER, channel, header)]
    step = frame_max - OVERHEAD
    pieces += (
        frame(BODY, channel, body[start : start + step]) for start in range(0, len(body), step)
    )
    return b"".join(pieces)


@lru_cache(maxsize=1024)
def _publish_method(exchange: str, routing_key: str, mandatory: bool) -> bytes:
    names = write_short(exchange) + write_short(routing_key)
    return b"\x00\x3c\x00\x28\x00\x00%b%c" % (names, mandatory)


def _properties(envelope: Envelope) -> tuple[int, bytes]:
    """Return the flags and the bytes of the properties."""
    values = cast("Mapping[str, Any]", envelope.properties)
    headers = envelope.headers
    if not headers and len(values) <= _FEW:
        # Content type, encoding and delivery mode: the same for one message after the other.
        try:
            return _few_properties(*values.items())
        except TypeError:
            pass  # something that is no key of a cache, and no property either
    return _all_properties(values, headers)


@lru_cache(maxsize=256)
def _few_properties(*items: tuple[str, Any]) -> tuple[int, bytes]:
    return _all_properties(dict(items), {})


def _all_properties(values: Mapping[str, Any], headers: Mapping[str, Any]) -> tuple[int, bytes]:
    flags = 0
    pieces = []
    name = ""
    try:
        for name, flag in _LEADING:
            value = values.get(name)
            if value is not None:
                flags |= flag
                pieces.append(write_short(value))
        if headers:
            flags |= _FLAG_HEADERS
            pieces.append(encode_table(headers))
        for name, flag, kind in _TRAILING:
            value = values.get(name)
            if value is not None:
                flags |= flag
                if kind == "s":
                    pieces.append(write_short(value))
                elif kind == "o":
                    pieces.append(bytes((value,)))
                else:
                    pieces.append(_TAG.pack(value))
    except (struct.error, ValueError, TypeError, AttributeError) as exc:
        raise EncodeError(f"The property {name} cannot be {values.get(name)!r:.80}") from exc
    return flags, b"".join(pieces)


def write_short(text: str) -> bytes:
    """Return a short string.

    Raises:
        EncodeError: It is longer than 255 bytes.
    """
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) > 255:
        raise EncodeError(f"AMQP allows 255 bytes here, not {len(raw)}: {text!r:.80}")
    return b"%c%b" % (len(raw), raw)


def ack_frame(channel: int, tag: int, multiple: bool) -> bytes:
    """Return basic.ack."""
    return _SETTLE.pack(METHOD, channel, 13, BASIC_ACK, tag, multiple, 0xCE)


def nack_frame(channel: int, tag: int, multiple: bool, requeue: bool) -> bytes:
    """Return basic.nack, which does what basic.reject does, too."""
    return _SETTLE.pack(METHOD, channel, 13, BASIC_NACK, tag, multiple | requeue << 1, 0xCE)


def get_frame(channel: int, queue: str, no_ack: bool) -> bytes:
    """Return basic.get."""
    payload = b"\x00\x3c\x00\x46\x00\x00%b%c" % (write_short(queue), 1 if no_ack else 0)
    return frame(METHOD, channel, payload)


def connection_close_ok() -> bytes:
    """Return connection.close-ok."""
    return _CLOSE_OK


# -- reading ---------------------------------------------------------------------------------


class FrameReader:
    """Cuts the stream of bytes into frames."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yield (type, channel, payload) of each frame that is complete now.

        Raises:
            ConnectionLostError: These are no frames.
        """
        data = self._rest + data if self._rest else data
        self._rest = b""
        offset, size = 0, len(data)
        while size - offset >= 7:
            kind, channel, length = _PREFIX.unpack_from(data, offset)
            end = offset + 7 + length
            if kind == 0x41:  # "AMQP": the broker wants to speak another version
                raise ConnectionLostError("The broker does not speak AMQP 0-9-1")
            if end >= size and kind in _KINDS:
                break
            if kind not in _KINDS or data[end] != 0xCE:
                raise ConnectionLostError("The broker sent what is no AMQP frame")
            payload = data[offset + 7 : end]
            offset = end + 1
            yield kind, channel, payload
        self._rest = data[offset:] if offset else data


def read_short(payload: bytes, offset: int) -> tuple[str, int]:
    """Return the short string at `offset` and the offset behind it."""
    end = offset + 1 + payload[offset]
    return payload[offset + 1 : end].decode("utf-8", "replace"), end


def read_close(payload: bytes) -> tuple[int, str]:
    """Return reply code and text of connection.close or channel.close."""
    return _CODE.unpack_from(payload, 4)[0], read_short(payload, 6)[0]


def read_culprit(payload: bytes) -> bytes:
    """Return class and method that connection.close is about; zeros: none."""
    return payload[-4:]


def read_settle(payload: bytes) -> tuple[int, bool]:
    """Return tag and `multiple` of basic.ack or basic.nack."""
    return _TAG.unpack_from(payload, 4)[0], bool(payload[12] & 1)


def read_cancel(payload: bytes) -> str:
    """Return the tag of basic.cancel."""
    return read_short(payload, 4)[0]


class ContentReader:
    """Puts one message together from its frames."""

    __slots__ = ("_arguments", "_header", "_left", "_pieces", "method")

    def __init__(self, payload: bytes) -> None:
        #: Class and method.
        self.method = payload[:4]
        self._arguments = payload
        self._header = b""
        self._left = 0
        self._pieces: list[bytes] = []

    def add(self, kind: int, payload: bytes) -> bool:
        """Take in the header or a piece of the body; tell whether it is complete."""
        if kind == HEADER:
            self._header = payload
            self._left = _TAG.unpack_from(payload, 4)[0]
        else:
            self._pieces.append(payload)
            self._left -= len(payload)
        return self._left <= 0

    def content(self) -> Content:
        """Return the whole."""
        data, tag, redelivered, code, text = self._arguments, 0, False, 0, ""
        if self.method == BASIC_RETURN:
            code = _CODE.unpack_from(data, 4)[0]
            text, offset = read_short(data, 6)
        else:
            offset = 4
            if self.method == BASIC_DELIVER:
                text, offset = read_short(data, 4)
            tag = _TAG.unpack_from(data, offset)[0]
            redelivered = bool(data[offset + 8] & 1)
            offset += 9
        exchange, offset = read_short(data, offset)
        routing_key, _ = read_short(data, offset)
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        properties, headers = _read_header(self._header)
        envelope = Envelope(body, properties, headers, exchange, routing_key)
        return Content(envelope, tag, redelivered, text, code)


def _read_header(data: bytes) -> tuple[Properties, dict[str, Any]]:
    flags = data[12] << 8 | data[13]
    offset = 14
    properties: dict[str, Any] = {}
    headers: dict[str, Any] = {}
    for name, flag in _LEADING:
        if flags & flag:
            properties[name], offset = read_short(data, offset)
    if flags & _FLAG_HEADERS:
        end = offset + 4 + int.from_bytes(data[offset : offset + 4])
        try:
            headers, _ = decode_table(data, offset)
        except DecodeError as error:
            # The message is worth more than its headers, and must not stop those behind it.
            logger.error("The headers of a message cannot be read and are left out: %s", error)
        offset = end
    for name, flag, kind in _TRAILING:
        if flags & flag:
            if kind == "s":
                properties[name], offset = read_short(data, offset)
            elif kind == "o":
                properties[name] = data[offset]
                offset += 1
            else:
                properties[name] = _TAG.unpack_from(data, offset)[0]
                offset += 8
    return cast("Properties", properties), headers
