"""Any bytes in a store, any header in a message: quarantine, or a message that harms nobody."""

from __future__ import annotations

import json
from typing import Any, Final
from unittest.mock import sentinel

from hypothesis import given
from hypothesis import strategies as st

from kombu_core import Connection, Exchange, Message, Queue
from kombu_core.exceptions import CodecError, EncodeError, KombuError
from kombu_core.message import Envelope, Malformed, Properties
from kombu_core.retries import attempts_of
from kombu_core.virtual.deadletter import buried, is_cycle
from kombu_core.virtual.envelope import MAGIC, decode, encode

NAMES: Final = sorted(Properties.__annotations__)
HEADERS: Final = [
    "x-death",
    "x-attempts",
    "x-match",
    "x-delay",
    "compression",
    "CC",
    "BCC",
    "count",
    "queue",
    "reason",
    "$bytes",
    "$decimal",
    "$timestamp",
    "$$bytes",
]
TYPES: Final = [
    "application/json",
    "application/x-msgpack",
    "application/x-yaml",
    "text/plain; charset=utf-16",
    "application/data",
    "",
    "utf-8",
    "binary",
    "zlib",
    "zstd",
    "application/x-brotli",
    "60000",
    "rejected",
    "q",
]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(TYPES)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(HEADERS) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
texts = st.sampled_from(TYPES) | st.text(max_size=6)
likely = st.fixed_dictionaries(
    {},
    optional={
        name: st.integers(0, 300) if name in ("priority", "delivery_mode", "timestamp") else texts
        for name in NAMES
    },
)
headers = st.dictionaries(st.sampled_from(HEADERS) | st.text(max_size=3), values, max_size=4)
wire = st.fixed_dictionaries(
    {},
    optional={
        "p": likely | st.dictionaries(st.sampled_from(NAMES), values, max_size=4) | values,
        "h": headers | values,
        "x": texts | values,
        "r": texts | values,
    },
)


def stored(header: object, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return MAGIC + len(text).to_bytes(4, "big") + text + body


def use(envelope: Envelope) -> None:
    """Do with a message what consumers and the emulation do with one that a stranger stored."""
    message = Message(sentinel.channel, envelope, 1)
    repr(message), message.delivery_info, message.headers, attempts_of(message)
    assert isinstance(message.content_type, str | None)
    try:
        message.payload  # noqa: B018
    except CodecError:
        pass
    is_cycle("q", envelope.headers)
    dead = buried(envelope, queue="q", reason="rejected", exchange="x", routing_key=None, now=0.0)
    for each in (envelope, dead):
        try:
            again = encode(each)
        except EncodeError:
            continue
        found = decode(again)
        assert isinstance(found, Envelope)
        assert found.body == each.body


@given(wire, st.binary(max_size=30))
def test_any_header_of_an_envelope(header: object, body: bytes) -> None:
    found = decode(stored(header, body))
    if isinstance(found, Malformed):
        assert found.reason
    else:
        use(found)


@given(wire, st.binary(max_size=30), st.data())
def test_bytes_that_were_changed(header: object, body: bytes, data: st.DataObject) -> None:
    raw = bytearray(stored(header, body))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(raw) - 1))
        raw[position] = data.draw(st.integers(0, 255))
    found = decode(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    if isinstance(found, Envelope):
        use(found)


@given(likely, headers, st.binary(max_size=10), texts)
def test_any_message_through_all_of_the_model(
    properties: Properties, headers: dict[str, Any], body: bytes, key: str
) -> None:
    with Connection("memory://fuzz") as connection:
        channel = connection.channel()
        exchange = Exchange("fuzz", "headers")
        dead = Queue("dead", exchange, binding_arguments={"x-match": "any-with-x", "count": 1})
        work = Queue(
            "work",
            exchange,
            binding_arguments={"x-match": "all"},
            max_priority=5,
            message_ttl=60.0,
            queue_arguments={"x-dead-letter-exchange": "fuzz", "x-max-length": 2},
        )
        try:
            for queue in (dead, work):
                queue(channel).declare()
                queue(channel).purge()
            channel.basic_publish(Envelope(body, properties, headers, "fuzz", key))
            for _ in range(3):
                message = work(channel).get()
                if message is not None:
                    use(message.envelope)
                    message.reject()
                    work(channel).declare()
        except KombuError:
            pass
