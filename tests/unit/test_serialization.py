"""The registry: what is sent as what, what is refused, and errors that say why."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kombu_core.exceptions import (
    ContentRefusedError,
    ContentTooLargeError,
    DecodeError,
    EncodeError,
    UnknownCodecError,
)
from kombu_core.serialization import Encoded, Registry, default_registry

PICKLE = "application/x-python-serialize"


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.mark.parametrize(
    ("data", "serializer", "encoded"),
    [
        ("é", None, Encoded("text/plain", "utf-8", "é".encode())),
        (b"\xff", None, Encoded("application/data", "binary", b"\xff")),
        ({"a": 1}, None, Encoded("application/json", "utf-8", b'{"a":1}')),
        (None, None, Encoded("application/json", "utf-8", b"null")),
        ("a", "json", Encoded("application/json", "utf-8", b'"a"')),
        ("a", "text", Encoded("text/plain", "utf-8", b"a")),
        (b"a", "raw", Encoded("application/data", "binary", b"a")),
    ],
)
def test_a_value_goes_and_comes(
    registry: Registry, data: Any, serializer: str | None, encoded: Encoded
) -> None:
    assert registry.dumps(data, serializer) == encoded
    content_type, content_encoding, body = encoded
    assert registry.loads(body, content_type, content_encoding) == data


@pytest.mark.parametrize(
    ("data", "serializer"),
    [
        ("text", "raw"),
        (bytearray(b"x"), "raw"),
        (b"bytes", "text"),
        (1, "text"),
        ("\ud800", "text"),
    ],
)
def test_a_serializer_takes_what_it_is_for(registry: Registry, data: Any, serializer: str) -> None:
    with pytest.raises(EncodeError, match=serializer):
        registry.dumps(data, serializer)


def test_the_default_serializer_can_be_changed(registry: Registry) -> None:
    registry.register("repr", repr, None, content_type="text/x-repr")
    registry.default_serializer = "repr"
    assert registry.dumps([1]) == Encoded("text/x-repr", "utf-8", b"[1]")
    assert registry.dumps("text").content_type == "text/plain"
    with pytest.raises(UnknownCodecError):
        registry.default_serializer = "nothing"


def test_unknown_names_are_named(registry: Registry) -> None:
    for call in (
        lambda: registry.dumps(1, "nothing"),
        lambda: registry.unregister("nothing"),
        lambda: registry.enable("nothing"),
        lambda: registry.disable("x/nothing"),
        lambda: registry.resolve_accept(["nothing"]),
    ):
        with pytest.raises(UnknownCodecError, match=r"nothing.*json, msgpack, pickle"):
            call()


# -- what is accepted ------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", [None, ""])
@pytest.mark.parametrize("accept", [None, [], ["json"]])
def test_without_a_content_type_the_bytes_come_back(
    registry: Registry, content_type: str | None, accept: list[str] | None
) -> None:
    assert registry.loads(b"\xff", content_type, None, accept=accept) == b"\xff"


@pytest.mark.parametrize(
    ("encoding", "expected"), [("binary", b"a"), (None, b"a"), ("BINARY", b"a"), ("utf-8", "a")]
)
def test_data_is_bytes_or_text_by_its_encoding(
    registry: Registry, encoding: str | None, expected: bytes | str
) -> None:
    assert registry.loads(b"a", "application/data", encoding, accept=["json"]) == expected


@pytest.mark.parametrize("accept", [["json"], ["application/json"], {"json", "x/y"}, None])
def test_what_is_accepted_is_decoded(registry: Registry, accept: Any) -> None:
    assert registry.loads(b"[]", "application/json", "utf-8", accept=accept) == []


@pytest.mark.parametrize("accept", [["json"], ["application/json"], [], {"x/y"}])
def test_what_is_not_accepted_is_refused(registry: Registry, accept: Any) -> None:
    with pytest.raises(ContentRefusedError, match=r"'text/plain'.*accepts only"):
        registry.loads(b"a", "text/plain", "utf-8", accept=accept)


@pytest.mark.parametrize("accept", [None, ["json"], ["x/unknown"]])
def test_an_unknown_content_type_is_refused_with_advice(registry: Registry, accept: Any) -> None:
    with pytest.raises(ContentRefusedError, match=r"'x/unknown'.*register"):
        registry.loads(b"a", "x/unknown", "utf-8", accept=accept)


def test_what_is_disabled_is_decoded_only_for_who_names_it(registry: Registry) -> None:
    registry.register(
        "pickle", None, len, content_type=PICKLE, content_encoding="binary", is_enabled=False
    )
    with pytest.raises(ContentRefusedError, match="disabled"):
        registry.loads(b"abc", PICKLE, "binary")
    assert registry.loads(b"abc", PICKLE, "binary", accept=["pickle"]) == 3
    assert registry.loads(b"abc", PICKLE, "binary", accept=[PICKLE]) == 3
    registry.enable("pickle")
    assert registry.loads(b"abc", PICKLE, "binary") == 3
    registry.disable(PICKLE)
    with pytest.raises(ContentRefusedError):
        registry.loads(b"abc", PICKLE, "binary")


@pytest.mark.parametrize("name", ["pickle", "yaml"])
def test_what_is_dangerous_is_decoded_only_for_who_names_it(name: str) -> None:
    encoded = default_registry.dumps([1], name)
    for accept in (None, ["json"], [], ["application/json"]):
        with pytest.raises(ContentRefusedError):
            default_registry.loads(encoded.body, *encoded[:2], accept=accept)
    assert default_registry.loads(encoded.body, *encoded[:2], accept=["json", name]) == [1]


def test_a_name_stands_for_its_content_type(registry: Registry) -> None:
    found = registry.resolve_accept(["json", "x/y"])
    assert found == frozenset({"application/json", "x/y"})
    assert registry.resolve_accept(None) is None
    with pytest.raises(TypeError, match="'json'"):
        registry.resolve_accept("json")


def test_a_serializer_is_registered_and_removed(registry: Registry) -> None:
    registry.register("upper", str.upper, bytes.lower, content_type="x/upper")
    assert registry.dumps("a", "upper") == Encoded("x/upper", "utf-8", b"A")
    assert registry.loads(b"A", "x/upper", "utf-8") == b"a"
    assert "upper" in registry.names
    registry.unregister("upper")
    assert "upper" not in registry.names
    with pytest.raises(ContentRefusedError):
        registry.loads(b"A", "x/upper", "utf-8")


def test_half_a_serializer_says_which_half_is_missing(registry: Registry) -> None:
    registry.register("in", None, bytes, content_type="x/in")
    registry.register("out", repr, None, content_type="x/out")
    with pytest.raises(UnknownCodecError, match="only decode"):
        registry.dumps(1, "in")
    with pytest.raises(ContentRefusedError, match="only encode"):
        registry.loads(b"", "x/out")


# -- character sets and parameters -----------------------------------------------------------


@pytest.mark.parametrize("charset", ["utf-16", "UTF-8", "latin-1", "ISO-8859-15", "cp1252"])
def test_text_in_other_character_sets_is_read(registry: Registry, charset: str) -> None:
    assert registry.loads("é".encode(charset), "text/plain", charset) == "é"
    body = json.dumps(["é"], ensure_ascii=False).encode(charset)
    assert registry.loads(body, "application/json", charset) == ["é"]
    assert registry.loads("é".encode(charset), "application/data", charset) == "é"


@pytest.mark.parametrize("encoding", ["binary", None])
def test_json_is_utf8_unless_it_says_otherwise(registry: Registry, encoding: str | None) -> None:
    assert registry.loads('"é"'.encode(), "application/json", encoding) == "é"


@pytest.mark.parametrize("charset", ["hex", "zlib", "idna", "antigravity", "../x", "\0", "uu"])
def test_no_module_is_found_by_the_name_of_a_character_set(
    registry: Registry, charset: str
) -> None:
    with pytest.raises(DecodeError, match="character set"):
        registry.loads(b"00", "text/plain", charset)


def test_parameters_of_a_content_type(registry: Registry) -> None:
    assert registry.loads(b"[]", "Application/JSON; charset=UTF-8", None, accept=["json"]) == []
    assert registry.loads(b"\xe9", 'text/plain;charset="latin-1"', None) == "é"
    assert registry.loads(b"\xe9", "application/data; x=y", None, accept=[]) == b"\xe9"


# -- limits and failures ---------------------------------------------------------------------


def test_a_body_has_a_largest_size() -> None:
    registry = Registry(max_body_size=4)
    assert registry.loads(b"1234", "application/json", "utf-8") == 1234
    for content_type in ("application/json", "text/plain", "application/data"):
        with pytest.raises(ContentTooLargeError, match="5 bytes"):
            registry.loads(b"12345", content_type, "utf-8")


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_any_buffer_is_read(registry: Registry, kind: Any) -> None:
    assert registry.loads(kind(b"[1]"), "application/json", "utf-8") == [1]


def test_a_failing_serializer_raises_ours_and_quotes_no_body(registry: Registry) -> None:
    def fail(data: Any) -> Any:
        raise RuntimeError("broken")

    def dive(data: bytes) -> Any:
        return dive(data)

    registry.register("fail", fail, fail, content_type="x/fail")
    registry.register("dive", None, dive, content_type="x/dive")
    with pytest.raises(EncodeError, match="RuntimeError: broken"):
        registry.dumps(1, "fail")
    with pytest.raises(DecodeError, match="RuntimeError: broken") as caught:
        registry.loads(b"", "x/fail")
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(ContentTooLargeError, match="deeply"):
        registry.loads(b"", "x/dive")
    with pytest.raises(DecodeError) as caught:
        registry.loads(b"secret \xff", "text/plain", "utf-8")
    assert "secret" not in str(caught.value)
