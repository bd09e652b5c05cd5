"""JSON: types that come back, forms that other languages read, and nothing undecodable."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu_core.exceptions import ContentTooLargeError, DecodeError, EncodeError
from kombu_core.typed_json import dumps, loads

ID = UUID("12345678123456781234567812345678")
WIRE = [
    (
        datetime(2030, 1, 31, 12, 30, tzinfo=UTC),
        {"__type__": "datetime", "__value__": "2030-01-31T12:30:00+00:00"},
    ),
    (date(2030, 1, 31), {"__type__": "date", "__value__": "2030-01-31"}),
    (time(12, 30, 1), {"__type__": "time", "__value__": "12:30:01"}),
    (Decimal("1.10"), {"__type__": "decimal", "__value__": "1.10"}),
    (ID, {"__type__": "uuid", "__value__": {"hex": ID.hex}}),
    (b"text", {"__type__": "bytes", "__value__": "text"}),
    (b"\xff\x00", {"__type__": "base64", "__value__": "/wA="}),
]

zones = st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=30))])
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=zones)
    | st.times()
    | st.uuids()
    | st.decimals(allow_nan=False)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_a_value_comes_back(value: Any) -> None:
    assert loads(dumps(value)) == value


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_comes_back_lone_surrogates_too(text: str) -> None:
    assert loads(dumps([text, {text: 1}])) == [text, {text: 1}]


@pytest.mark.parametrize(("value", "wire"), WIRE, ids=lambda item: type(item).__name__)
def test_the_wire_form_of_each_type(value: Any, wire: Any) -> None:
    assert json.loads(dumps(value)) == wire
    restored = loads(json.dumps({"nested": [wire]}).encode())["nested"][0]
    assert restored == value
    assert type(restored) is type(value)


@pytest.mark.parametrize(
    "foreign",
    [
        {"__type__": "foo"},
        {"__type__": "foo", "__value__": 1},
        {"__type__": ["date"], "__value__": "2030-01-31"},
        {"__type__": {}, "__value__": None},
        {"__type__": "date", "__value__": "tomorrow"},
        {"__type__": "datetime", "__value__": 5},
        {"__type__": "decimal", "__value__": "many"},
        {"__type__": "decimal", "__value__": [9]},
        {"__type__": "uuid", "__value__": {"int": 5}},
        {"__type__": "uuid", "__value__": "5"},
        {"__type__": "bytes", "__value__": None},
        {"__type__": "base64", "__value__": "!"},
        {"__type__": "date", "__value__": "2030-01-31", "more": 1},
    ],
)
def test_a_foreign_object_comes_back_as_it_is(foreign: dict[str, Any]) -> None:
    assert loads(json.dumps([foreign]).encode()) == [foreign]


def test_a_uuid_may_come_as_text_and_a_datetime_with_z() -> None:
    assert loads(json.dumps({"__type__": "uuid", "__value__": str(ID)}).encode()) == ID
    body = b'{"__type__": "datetime", "__value__": "2030-01-31T12:30:00Z"}'
    assert loads(body) == datetime(2030, 1, 31, 12, 30, tzinfo=UTC)


def test_an_object_may_say_what_stands_for_it() -> None:
    class Point:
        def __json__(self) -> dict[str, int]:
            return {"x": 1}

    assert loads(dumps([Point()])) == [{"x": 1}]


def test_the_text_is_compact_utf8() -> None:
    assert dumps({"a": [1, "é"]}) == '{"a":[1,"é"]}'.encode()


@pytest.mark.parametrize("body", [b' {"a": 1} \n', b'\xef\xbb\xbf{"a":1}'])
def test_white_space_and_a_byte_order_mark_do_not_matter(body: bytes) -> None:
    assert loads(body) == {"a": 1}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_not_written(value: float) -> None:
    with pytest.raises(EncodeError):
        dumps({"a": value})


def test_what_is_no_number_is_read() -> None:
    assert loads(b"[Infinity]") == [float("inf")]


@pytest.mark.parametrize("value", [{1, 2}, timedelta(1), object(), {(1, 2): 3}, {b"k": 1}, 1j])
def test_a_type_without_a_form_is_an_encode_error(value: Any) -> None:
    with pytest.raises(EncodeError, match="cannot be written as JSON"):
        dumps(value)


def test_the_error_names_the_type() -> None:
    with pytest.raises(EncodeError, match="timedelta has no JSON form"):
        dumps({"a": timedelta(1)})


def test_a_value_within_itself_is_an_encode_error() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(EncodeError, match="deeply"):
        dumps(value)
    assert dumps([1]) == b"[1]"


def test_what_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(ContentTooLargeError):
        loads(b"[" * 200_000 + b"]" * 200_000)
    typed = b'{"__type__":' * 200_000
    with pytest.raises(ContentTooLargeError):
        loads(typed)


@pytest.mark.parametrize("body", [b"", b" ", b"{", b"nope", b"{} {}", b"\xff", b"9" * 5000])
def test_garbage_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(DecodeError):
        loads(body)


@given(st.binary())
def test_any_bytes_decode_or_are_a_decode_error(body: bytes) -> None:
    try:
        loads(body)
    except DecodeError:
        pass
