"""Any headers, in both directions, and any bytes from a broker: a message or an error of ours."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from kombu_amqp import frames
from kombu_amqp.tables import decode_table, encode_table
from kombu_core.exceptions import ConnectionLostError, DecodeError, EncodeError
from kombu_core.message import Envelope, Properties

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.datetimes(timezones=st.just(UTC))
    | st.sampled_from([object(), 1j, {1}]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
tables = st.dictionaries(st.text(max_size=6) | st.text(min_size=256, max_size=300), values)
#: The letters of types, and small lengths, so that tables lie in each other.
pieces = st.lists(
    st.sampled_from(b"\0\1\2\3\5\10\xffabBsUuIilLfdDSxtVTFA").map(lambda byte: bytes((byte,)))
    | st.integers(0, 64).map(lambda length: length.to_bytes(4, "big")),
    max_size=60,
).map(b"".join)
FRAME_MAX: Final = 4096


def is_plain(value: Any) -> bool:
    """Whether a value comes back equal: no float that is not, no time of less than a second."""
    match value:
        case dict():
            return all(map(is_plain, value.values()))
        case list():
            return all(map(is_plain, value))
        case float():
            return value == value
        case datetime():
            return not value.microsecond
    return True


@given(tables)
def test_a_table_comes_back_or_is_refused(table: dict[str, Any]) -> None:
    try:
        raw = encode_table(table)
    except EncodeError:
        return
    found, end = decode_table(raw)
    assert end == len(raw)
    if is_plain(table):
        assert found == table


@given(pieces | st.binary())
def test_any_bytes_as_a_table(raw: bytes) -> None:
    for data in (raw, len(raw).to_bytes(4, "big") + raw):
        try:
            decode_table(data)
        except DecodeError as error:
            str(error)


properties = st.dictionaries(
    st.sampled_from(sorted(Properties.__annotations__)),
    st.text(max_size=4) | st.integers() | st.none() | st.binary(max_size=3) | st.lists(st.none()),
)


@given(properties, tables, st.binary(max_size=20), st.text(max_size=300), st.data())
def test_any_message_and_its_bytes_changed(
    given_properties: Properties,
    headers: dict[str, Any],
    body: bytes,
    key: str,
    data: st.DataObject,
) -> None:
    envelope = Envelope(body, given_properties, headers, "x", key)
    try:
        sent = frames.publish_frames(1, envelope, False, FRAME_MAX)
    except EncodeError:
        return
    read(sent)
    changed = bytearray(sent)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    read(bytes(changed))


def read(raw: bytes) -> None:
    """Read frames as a delivery, the first one made one; as `Wire` does, which catches as here."""
    reader = frames.FrameReader()
    content = None
    try:
        for kind, _, payload in reader.feed(raw):
            if kind == frames.METHOD:
                head = frames.BASIC_DELIVER + b"\1t" + bytes(9)
                content = frames.ContentReader(head + payload[6:])
            elif content is not None and content.add(kind, payload):
                content.content()
                content = None
    except (ConnectionLostError, IndexError, struct.error):
        return


def test_headers_beyond_a_frame_are_refused() -> None:
    for size, refused in ((3000, False), (5000, True)):
        envelope = Envelope(b"", {}, {"h": "x" * size})
        try:
            frames.publish_frames(1, envelope, False, FRAME_MAX)
        except EncodeError:
            assert refused
        else:
            assert not refused
