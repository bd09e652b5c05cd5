"""The wire form of a message: what goes in comes out, and nothing that comes in raises."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu_core.exceptions import EncodeError
from kombu_core.message import Envelope, Malformed, Properties
from kombu_core.virtual.envelope import MAGIC, MAX_HEADER_BYTES, decode, encode

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
names = st.one_of(texts, st.sampled_from(["$", "$bytes", "$decimal", "$timestamp", "$$bytes"]))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False),
    texts,
    st.binary(max_size=8),
    st.decimals(allow_nan=False),
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5, minutes=-30))])),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
tables = st.dictionaries(names, values, max_size=4)
properties = st.fixed_dictionaries(
    {},
    optional={
        "content_type": texts,
        "priority": st.integers(0, 255),
        "expiration": st.just("1000"),
        "correlation_id": texts,
        "timestamp": st.integers(0, 2**40),
    },
)


@given(st.binary(max_size=40), properties, tables, texts, texts)
def test_an_envelope_comes_back_as_it_was(
    body: bytes, given_properties: dict[str, Any], headers: dict[str, Any], exchange: str, key: str
) -> None:
    envelope = Envelope(body, cast("Properties", given_properties), headers, exchange, key)
    assert decode(encode(envelope)) == envelope


@pytest.mark.parametrize(
    "headers",
    [
        {"$bytes": "not base64"},
        {"$bytes": 5},
        {"$$bytes": b"raw"},
        {"a": {"$decimal": "no number"}},
        {"a": {"$timestamp": {"$timestamp": "never"}}},
        {"a": {"$": None}},
        {"a": [{"$x": 1}, {"$x": 1, "y": 2}]},
    ],
)
def test_names_with_dollars_of_the_application_survive(headers: dict[str, Any]) -> None:
    envelope = Envelope(b"", {}, headers)
    assert decode(encode(envelope)) == envelope


def test_what_json_and_python_call_differently_comes_back_as_amqp_has_it() -> None:
    headers = {"t": (1, 2), "b": bytearray(b"x"), "when": datetime(2030, 1, 1), "m": {1: "one"}}  # noqa: DTZ001
    decoded = decode(encode(Envelope(b"", {}, headers)))
    assert isinstance(decoded, Envelope)
    assert decoded.headers == {
        "t": [1, 2],
        "b": b"x",
        "when": datetime(2030, 1, 1, tzinfo=UTC),
        "m": {"1": "one"},
    }


def _deep() -> list[Any]:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    return nested


def _circular() -> dict[str, Any]:
    table: dict[str, Any] = {}
    table["self"] = table
    return table


@pytest.mark.parametrize(
    "headers",
    [
        {"a": object()},
        {"a": {1, 2}},
        {"a": timedelta(1)},
        {"a": "\ud800"},
        {"a": "x" * MAX_HEADER_BYTES},
        {"a": _deep()},
        _circular(),
    ],
    ids=["object", "set", "timedelta", "surrogate", "large", "deep", "circular"],
)
def test_what_no_table_can_carry_is_an_encode_error(headers: Mapping[str, Any]) -> None:
    with pytest.raises(EncodeError):
        encode(Envelope(b"", {}, headers))


def test_properties_that_cannot_be_written_are_an_encode_error() -> None:
    bad = cast("Properties", {"timestamp": object()})
    with pytest.raises(EncodeError):
        encode(Envelope(b"", bad, {}))


# -- strange bytes ---------------------------------------------------------------------------


def raw(header: object, body: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return MAGIC + (len(text) if length is None else length).to_bytes(4, "big") + text + body


@given(st.binary(max_size=60))
def test_any_bytes_are_decoded_without_an_error(noise: bytes) -> None:
    assert isinstance(decode(noise), Malformed)
    decode(MAGIC + noise)
    decode(raw(noise, noise))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["$bytes", "$decimal", "$timestamp", "$$", "p", "h", "x", "r"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from("phxrz"), json_values, max_size=4) | json_values)
def test_any_json_as_a_header_is_decoded_without_an_error(header: object) -> None:
    decode(raw(header))


@given(st.binary(max_size=20), tables, st.integers(0, 200), st.integers(0, 255))
def test_a_byte_that_was_changed_raises_nothing(
    body: bytes, headers: dict[str, Any], position: int, value: int
) -> None:
    good = bytearray(encode(Envelope(body, {"priority": 3}, headers, "e", "k")))
    good[position % len(good)] = value
    decode(bytes(good))


@pytest.mark.parametrize(
    "strange",
    [
        b"",
        b"K",
        b"K1",
        b"K1\0\0",
        b"K2\0\0\0\2{}",
        raw(b"{}", length=3),
        raw(b"{}", length=2**32 - 1),
        MAGIC + (MAX_HEADER_BYTES + 1).to_bytes(4, "big") + b" " * (MAX_HEADER_BYTES + 1),
        raw(b"[]"),
        raw(b"null"),
        raw(b"{"),
        raw(b"\xff"),
        raw(b"[" * 200_000),
        raw(b'{"h":' * 100_000),
        raw({"p": [1]}),
        raw({"h": "text"}),
        raw({"h": {"$bytes": "eA=="}}),
        raw({"x": 1}),
        raw({"r": [1]}),
        raw({"h": {"a": {"$bytes": "?"}}}),
        raw({"h": {"a": {"$bytes": 5}}}),
        raw({"h": {"a": {"$decimal": "x"}}}),
        raw({"h": {"a": {"$decimal": {}}}}),
        raw({"h": {"a": {"$timestamp": None}}}),
        raw({"h": {"a": {"$timestamp": "2030-13-01"}}}),
    ],
    ids=lambda strange: repr(strange[:40]),
)
def test_bytes_that_are_no_envelope_are_kept_with_the_reason(strange: bytes) -> None:
    decoded = decode(strange)
    assert isinstance(decoded, Malformed)
    assert decoded.raw == strange
    assert decoded.reason


def test_members_that_are_absent_have_their_defaults() -> None:
    assert decode(raw({}, b"body")) == Envelope(b"body", {}, {})
