"""JSON read by msgspec and orjson: the same values, and the same refusals, as without them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu_core import fast_json, typed_json
from kombu_core.exceptions import CodecError

BODIES = [
    b"18446744073709551616",
    b"-9223372036854775809",
    b"[123456789012345678901234567890]",
    b"12345678901234567890.5",
    b"1e400",
    b"-0",
    b"-0.0",
    b"NaN",
    b"-Infinity",
    b'"\\ud800"',
    b'"\\ud83d\\ude00"',
    b'"\\u0000"',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b"\xef\xbb\xbf[]",
    b" [1] ",
    b"[1,]",
    b"01",
    b"",
    b'{"a":1,"a":2}',
    b'{"__type__":"date","__value__":"2030-01-31"}',
    b"9" * 5000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 100_000,
]

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(params=["msgspec", "orjson"])
def package(request: pytest.FixtureRequest) -> Iterator[str]:
    """Only this one is installed."""
    name: str = request.param
    pytest.importorskip(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, {"msgspec": "orjson", "orjson": "msgspec"}[name], None)
        fast_json.find_reader.cache_clear()
        reader = fast_json.find_reader()
        assert reader is not None
        yield name
    fast_json.find_reader.cache_clear()


def outcome(body: bytes) -> str:
    try:
        value = typed_json.loads(body)
    except CodecError as error:
        return repr(error)
    return repr(value)  # tells types, -0.0 and NaN apart


def with_and_without(body: bytes) -> tuple[str, str]:
    fast = outcome(body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typed_json, "find_reader", lambda: None)
        return fast, outcome(body)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:20]))
def test_it_reads_what_the_standard_library_reads(package: str, body: bytes) -> None:
    fast, standard = with_and_without(body)
    assert fast == standard


# One test for each package, as a fixture is not made again for each example.
@pytest.mark.usefixtures("package")
class TestDifferences:
    @pytest.mark.parametrize("indent", [None, 2])
    def test_values(self, indent: int | None) -> None:
        @given(PLAIN)
        def check(value: Any) -> None:
            body = json.dumps(value, indent=indent).encode()
            fast, standard = with_and_without(body)
            assert fast == standard

        check()

    def test_any_bytes(self) -> None:
        @given(st.text(alphabet='[]{}",:0123456789eE+-.\\utrfalsn \n\u00e9').map(str.encode))
        def check(body: bytes) -> None:
            fast, standard = with_and_without(body)
            assert fast == standard

        check()


def test_without_any_it_is_the_standard_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("msgspec", "orjson"):
        monkeypatch.setitem(sys.modules, name, None)
    fast_json.find_reader.cache_clear()
    assert fast_json.find_reader() is None
    assert typed_json.loads(b"[1]") == [1]
    monkeypatch.undo()
    fast_json.find_reader.cache_clear()
