"""Any bytes as a body, and bodies that were changed: a value, or an error of ours, soon."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu_core.claims import ClaimCheck, DirectoryClaims
from kombu_core.compression import Caps
from kombu_core.exceptions import CodecError, EncodeError
from kombu_core.keyring import KeyRing
from kombu_core.sealing import encrypted, signed
from kombu_core.serialization import Registry
from kombu_core.typed_messages import reader_of

#: Not pickle: what it does with any bytes is not for this machine, and nobody accepts it unasked.
SERIALIZERS: Final = ["json", "msgpack", "yaml", "text", "raw", "signed", "encrypted", "claim"]
COMPRESSIONS: Final = ["zlib", "bzip2", "lzma", "brotli", "zstd"]

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=4) | st.sampled_from(["__type__", "__value__"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)
#: What the formats are made of, so that more than noise comes together.
pieces = st.lists(
    st.sampled_from(
        [
            *b"[]{}:,\"'-?&*!|>%@#<~\n \t0123456789eE+.",
            *b"\x81\x82\x91\x92\xa1\xc0\xc4\xc7\xc8\xca\xcb\xcf\xd6\xd9\xdc\xdd\xde\xdf\xff",
        ]
    ).map(lambda byte: bytes((byte,)))
    | st.sampled_from(
        [
            *(b"&a ", b"*a", b"<<: ", b"!!binary ", b"!!int ", b"!!set ", b"!!timestamp ", b"!x "),
            *(b'{"__type__":"', b'","__value__":', b"decimal", b"datetime", b"\\ud800", b"NaN"),
            *(b"1e999", b"S1", b"C1i", b"C1r", b'{"ref":"', b'","size":', b',"sha256":"', b"true"),
        ]
    ),
    max_size=30,
).map(b"".join)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    keys = KeyRing({"k": KeyRing.generate()})
    store = DirectoryClaims(tmp_path_factory.mktemp("claims"))
    registry = Registry(max_body_size=1 << 20, caps=Caps(max_size=1 << 20))
    registry.add("signed", signed("json", keys, max_age=None))
    registry.add("encrypted", encrypted("json", keys, max_age=None))
    registry.add("claim", ClaimCheck("json", store, above=40).serializer)
    return registry


def loads(registry: Registry, name: str, body: bytes, encoding: str | None = None) -> Any:
    serializer = registry.serializer(name)
    encoding = encoding or serializer.content_encoding
    try:
        return registry.loads(body, serializer.content_type, encoding, accept=[name])
    except CodecError as error:
        str(error)
        return None


@pytest.mark.parametrize("name", SERIALIZERS)
def test_any_body(registry: Registry, name: str) -> None:
    @given(pieces | st.binary(), st.sampled_from([None, "utf-8", "utf-16", "latin-1", "hex", ""]))
    def check(body: bytes, encoding: str | None) -> None:
        loads(registry, name, body, encoding)

    check()


@pytest.mark.parametrize("name", SERIALIZERS)
def test_a_body_that_was_changed(registry: Registry, name: str) -> None:
    @given(plain, st.data())
    def check(value: Any, data: st.DataObject) -> None:
        value = {"text": str(value), "raw": repr(value).encode("utf-8", "replace")}.get(name, value)
        try:
            body = bytearray(registry.dumps(value, name).body)
        except EncodeError:
            return
        for _ in range(data.draw(st.integers(1, 3))):
            if body:
                body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        loads(registry, name, bytes(body))

    check()


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_anything_compressed(registry: Registry, name: str) -> None:
    @given(st.binary(max_size=50), st.integers(0, 30), st.binary(), st.data())
    def check(part: bytes, power: int, noise: bytes, data: st.DataObject) -> None:
        bodies = [noise]
        if len(part) << power <= 1 << 22:
            try:
                packed, _ = registry.compress(part * (1 << power), name)
            except EncodeError:
                packed = b"x"
            changed = bytearray(packed)
            position = data.draw(st.integers(0, len(changed) - 1))
            changed[position] = data.draw(st.integers(0, 255))
            bodies += [packed, bytes(changed), packed[:position], packed + noise]
        for body in bodies:
            try:
                assert len(registry.decompress(body, name)) <= 1 << 20
            except CodecError as error:
                str(error)

    check()


@given(
    st.text(max_size=20) | st.sampled_from(["application/json", "APPLICATION/X-YAML; charset=x"]),
    st.none() | st.text(max_size=8),
    st.none() | st.lists(st.sampled_from(["json", "text/plain", "x/y"]), max_size=2),
    st.binary(max_size=20),
)
def test_any_content_type(
    content_type: str, encoding: str | None, accept: list[str] | None, body: bytes
) -> None:
    try:
        Registry().loads(body, content_type, encoding, accept=accept)
    except CodecError as error:
        str(error)


@given(plain)
def test_any_value_for_a_type(value: Any) -> None:
    wanted = dict[str, list[int | dict[str, float]] | bytes | None] | list[str] | int
    try:
        reader_of(wanted)(value)
    except CodecError as error:
        str(error)
