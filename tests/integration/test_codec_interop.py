"""Codecs beside kombu 5: what one writes, the other reads, type for type."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from kombu_core.serialization import default_registry

compression = pytest.importorskip("kombu.compression")
serialization = pytest.importorskip("kombu.serialization")

VALUES = [
    None,
    True,
    1.5,
    10**30,
    "é\ud800\U0001f600",
    [1, [2, {"a": None}]],
    {"a": {"b": [1, 2]}},
    datetime(2030, 1, 31, 12, 30, 1, 5),  # noqa: DTZ001 - a naive one comes back naive
    datetime(2030, 1, 31, 12, 30, tzinfo=UTC),
    datetime(2030, 1, 31, 12, 30, tzinfo=timezone(timedelta(hours=-3))),
    date(2030, 1, 31),
    time(12, 30, 1, 5),
    Decimal("1.10"),
    Decimal("-1E+3"),
    UUID("12345678123456781234567812345678"),
    b"text \xc3\xa9",
    b"\xff\x00",
    b"",
]
RAW = [(None, "text é"), (None, b"\xff"), ("raw", b"bytes"), ("json", "text")]


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"k": [value]}])
def test_json_of_one_is_json_of_the_other(value: Any, wrap: Any) -> None:
    value = wrap(value)
    ours = default_registry.dumps(value, "json")
    theirs = serialization.dumps(value, "json")
    assert ours[:2] == theirs[:2]
    read = serialization.loads(ours.body, ours.content_type, ours.content_encoding)
    assert repr(read) == repr(value)
    body = theirs[2].encode() if isinstance(theirs[2], str) else theirs[2]
    assert repr(default_registry.loads(body, theirs[0], theirs[1])) == repr(value)


@pytest.mark.parametrize("value", [{1, 2}, timedelta(1), 1j], ids=repr)
def test_neither_writes_what_the_other_could_not_read(value: Any) -> None:
    for dumps in (default_registry.dumps, serialization.dumps):
        with pytest.raises(Exception, match="JSON"):
            dumps({"a": value}, "json")


@pytest.mark.parametrize(("serializer", "value"), RAW, ids=repr)
def test_text_and_bytes_travel_as_in_kombu(serializer: str | None, value: Any) -> None:
    ours = default_registry.dumps(value, serializer)
    content_type, content_encoding, body = serialization.dumps(value, serializer)
    body = body.encode() if isinstance(body, str) else body
    assert tuple(ours) == (content_type, content_encoding, body)
    assert serialization.loads(ours.body, content_type, content_encoding) == value
    assert default_registry.loads(body, content_type, content_encoding) == value


@pytest.mark.parametrize("serializer", ["msgpack", "yaml", "pickle"])
@pytest.mark.parametrize("value", [None, [1, 2.5, {"é": [True, b"\xff"]}], {"a": "b"}], ids=repr)
def test_other_serializers_of_one_are_read_by_the_other(serializer: str, value: Any) -> None:
    ours = default_registry.dumps(value, serializer)
    content_type, content_encoding, body = serialization.dumps(value, serializer)
    assert ours[:2] == (content_type, content_encoding)
    assert serialization.loads(ours.body, *ours[:2], accept=[content_type]) == value
    body = body.encode() if isinstance(body, str) else body
    assert default_registry.loads(body, *ours[:2], accept=[serializer]) == value


@pytest.mark.parametrize(
    "name",
    [
        "gzip",
        "zlib",
        "application/x-gzip",
        "bzip",
        "bzip2",
        "lzma",
        "xz",
        "brotli",
        "zstd",
        "application/zstd",
    ],
)
def test_compression_of_one_is_read_by_the_other(name: str) -> None:
    body = b"body " * 1000
    ours, our_type = default_registry.compress(body, name)
    theirs, their_type = compression.compress(body, name)
    assert our_type == their_type
    assert compression.decompress(ours, our_type) == body
    assert default_registry.decompress(theirs, their_type) == body


def test_kombu_has_no_compression_under_a_name_that_means_another_here() -> None:
    for content_type in compression.encoders():
        if content_type in default_registry.compressor_names:  # kombu's plugins may add others
            packed, _ = compression.compress(b"body", content_type)
            assert default_registry.decompress(packed, content_type) == b"body"
