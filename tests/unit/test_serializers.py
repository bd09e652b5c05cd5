"""msgpack, YAML and pickle: what they carry, and that no document is too much for them."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pytest

from kombu_core import safe_yaml
from kombu_core.exceptions import (
    CodecError,
    ContentTooLargeError,
    DecodeError,
    EncodeError,
    UnknownCodecError,
)
from kombu_core.serialization import default_registry

VALUES = [
    None,
    True,
    0,
    -(2**63),
    1.5,
    "é\U0001f600",
    b"\x00\xff",
    [1, [2, {"a": None}]],
    {"a": {"b": [1, 2]}, "c": b""},
    datetime(2030, 1, 31, 12, 30, 1, 5, tzinfo=UTC),
]


@dataclass
class Point:
    x: int
    label: str


def there_and_back(value: Any, name: str) -> Any:
    encoded = default_registry.dumps(value, name)
    return default_registry.loads(encoded.body, *encoded[:2], accept=[name])


@pytest.mark.parametrize("name", ["msgpack", "yaml", "pickle"])
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back(name: str, value: Any) -> None:
    found = there_and_back(value, name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("name", ["json", "msgpack", "yaml"])
def test_a_record_travels_as_its_members(name: str) -> None:
    found = there_and_back([Point(1, "a"), {"p": Point(2, "b")}], name)
    assert found == [{"x": 1, "label": "a"}, {"p": {"x": 2, "label": "b"}}]


def test_pickle_carries_objects_to_who_accepts_them() -> None:
    assert there_and_back(Point(1, "a"), "pickle") == Point(1, "a")


@pytest.mark.parametrize("name", ["msgpack", "yaml"])
@pytest.mark.parametrize("value", [object(), 1j, len], ids=["object", "complex", "function"])
def test_an_object_is_refused(name: str, value: Any) -> None:
    with pytest.raises(EncodeError):
        default_registry.dumps([value], name)


@pytest.mark.parametrize("name", ["msgpack", "yaml", "pickle", "json"])
def test_what_contains_itself_is_refused_or_comes_back(name: str) -> None:
    circle: list[Any] = []
    circle.append(circle)
    if name == "pickle":
        found = there_and_back(circle, name)
        assert found[0] is found
    else:
        with pytest.raises(EncodeError):
            default_registry.dumps(circle, name)


@pytest.mark.parametrize(
    ("name", "module"), [("msgpack", "msgpack"), ("yaml", "yaml")], ids=["msgpack", "yaml"]
)
def test_what_is_not_installed_says_what_to_install(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = default_registry.dumps([1], name)
    monkeypatch.setitem(sys.modules, module, None)
    for call in (
        lambda: default_registry.dumps([1], name),
        lambda: default_registry.loads(encoded.body, *encoded[:2], accept=[name]),
    ):
        with pytest.raises(UnknownCodecError, match=rf"pip install 'kombu-core\[{name}\]'"):
            call()


# -- msgpack ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"", b"\xc1", b"\x92\x01", b"\x01\x01", b"\xa1\xff", b"\x81\x01\x01", b"\xdd\xff\xff\xff\xff"],
    ids=repr,
)
def test_wrong_msgpack_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(DecodeError):
        default_registry.loads(body, "application/x-msgpack", "binary")


def test_deep_msgpack_is_too_large() -> None:
    with pytest.raises(ContentTooLargeError):
        default_registry.loads(b"\x91" * 100_000 + b"\x01", "application/x-msgpack", "binary")


# -- YAML ------------------------------------------------------------------------------------


def yaml_loads(body: bytes) -> Any:
    return default_registry.loads(body, "application/x-yaml", "utf-8", accept=["yaml"])


def test_yaml_reads_what_people_write() -> None:
    assert yaml_loads(b"a: [1, 2.5, yes]\nb: 2030-01-31\n1: {<<: {x: 1}, y: 2}") == {
        "a": [1, 2.5, True],
        "b": date(2030, 1, 31),
        1: {"x": 1, "y": 2},
    }
    assert yaml_loads(b"base: &b {x: 1}\nother: {<<: *b, y: [*b, *b]}")["other"] == {
        "x": 1,
        "y": [{"x": 1}, {"x": 1}],
    }
    assert yaml_loads(b"") is None
    assert yaml_loads("\ufeff- é".encode("utf-16-le")) == ["é"]


def test_yaml_keeps_the_order_and_has_no_aliases() -> None:
    shared = [1]
    assert safe_yaml.dumps({"b": shared, "a": shared}) == "b:\n- 1\na:\n- 1\n"


LAUGHS = b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (n, n, b", ".join([b"*%c" % (n - 1)] * 9)) for n in range(98, 107)
)


@pytest.mark.parametrize(
    "body",
    [
        b"!!python/object/apply:os.system ['true']",
        b"!!python/name:os.system",
        b"!unknown [1]",
        b"[1",
        b"a: b: c",
        b"--- 1\n--- 2",
        b"? [1]\n: 2",
        b"\xff\xfe\x00",
        b"&a [*a]",
        b"a: &a {<<: *a}",
        LAUGHS,
        LAUGHS.replace(b"[", b"{<<: [").replace(b"]", b"]}").replace(b"x", b"{y: 1}"),
        b"[" * 100_000,
        b"- " * 100_000,
        b"{a: " * 5000,
        b"1" + b":1" * 1_000_000,
        b"0x" + b"1" * 1_000_000,
        b"{" + b",".join(b"%d: 1" % ((2**61 - 1) * n) for n in range(30_000)) + b"}",
        b"x" * (safe_yaml.MAX_BYTES + 1),
    ],
    ids=lambda body: repr(body[:20]),
)
def test_bad_or_hostile_yaml_is_a_decode_error_soon(body: bytes) -> None:
    started = time.process_time()
    with pytest.raises(DecodeError):
        yaml_loads(body)
    assert time.process_time() - started < 5


def test_yaml_writes_only_what_it_reads() -> None:
    assert there_and_back({10**14: 1, 2.5: 2}, "yaml") == {10**14: 1, 2.5: 2}
    with pytest.raises(EncodeError, match="as a key"):
        default_registry.dumps({10**16: 1}, "yaml")
    with pytest.raises(EncodeError, match="more than"):
        default_registry.dumps("x" * safe_yaml.MAX_BYTES, "yaml")


# -- pickle ----------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"garbage", b"cos\nnothing_there\n.", b"\x80\x04K\x01"])
def test_a_broken_pickle_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(CodecError):
        default_registry.loads(body, "application/x-python-serialize", "binary", accept=["pickle"])
