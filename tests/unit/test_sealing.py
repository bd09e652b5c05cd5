"""Signed and encrypted bodies: whole, fresh, for this use, by a key that counts, and once."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest

from kombu_core import Connection, Message, Queue
from kombu_core.exceptions import (
    ConfigurationError,
    ContentRefusedError,
    SealError,
    UnknownCodecError,
)
from kombu_core.idempotence import MemorySeen
from kombu_core.keyring import KeyRing
from kombu_core.replays import refuse_replays
from kombu_core.sealing import encrypted, read_seal, signed
from kombu_core.serialization import Registry, Serializer

VALUE = {"amount": 100, "to": "ada"}


class Clock:
    now = 1_900_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keys() -> KeyRing:
    return KeyRing({"old": KeyRing.generate()})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=[signed, encrypted], ids=["signed", "encrypted"])
def seal(request: pytest.FixtureRequest, keys: KeyRing, clock: Clock) -> Callable[..., Serializer]:
    """Make a serializer of one of the two kinds."""

    def make(inner: Serializer | str = "json", **options: Any) -> Serializer:
        options = {"keys": keys, "max_age": 60.0, "clock": clock, **options}
        return request.param(inner, options.pop("keys"), **options)  # type: ignore[no-any-return]

    return make


def close(serializer: Serializer, value: Any = VALUE) -> bytes:
    assert serializer.encode is not None
    body = serializer.encode(value)
    assert isinstance(body, bytes)
    return body


def open_(serializer: Serializer, body: bytes) -> Any:
    assert serializer.decode is not None
    return serializer.decode(body)


@pytest.mark.parametrize("inner", ["json", "msgpack", "yaml", "text", "raw"])
def test_what_is_sealed_is_opened(seal: Callable[..., Serializer], inner: str) -> None:
    value: Any = {"text": "é", "raw": b"\xff"}.get(inner, VALUE)
    serializer = seal(inner)
    assert open_(serializer, close(serializer, value)) == value
    assert close(serializer, value) != close(serializer, value)


def test_an_encrypted_body_shows_nothing_of_it(keys: KeyRing) -> None:
    assert b"hunter2" not in close(encrypted("text", keys, max_age=None), "hunter2")
    assert b"hunter2" in close(signed("text", keys, max_age=None), "hunter2")


def test_no_byte_can_be_changed(seal: Callable[..., Serializer]) -> None:
    serializer = seal()
    body = close(serializer)
    for position in range(len(body)):
        changed = bytearray(body)
        changed[position] ^= 1 << random.Random(position).randrange(8)
        with pytest.raises(SealError):
            open_(serializer, bytes(changed))
    for cut in range(len(body)):
        with pytest.raises(SealError):
            open_(serializer, body[:cut])
    with pytest.raises(SealError):
        open_(serializer, body + b"\0")


def test_a_body_counts_only_for_its_use(seal: Callable[..., Serializer], keys: KeyRing) -> None:
    body = close(seal(purpose="payments"))
    # The same bytes as another type would be another value, as `1` is of JSON and of text.
    for other in (seal(), seal(purpose="other"), seal("text", purpose="payments")):
        with pytest.raises(SealError):
            open_(other, body)
    assert open_(seal(purpose="payments"), body) == VALUE


def test_a_signature_is_no_encryption(keys: KeyRing) -> None:
    one, other = signed("json", keys, max_age=None), encrypted("json", keys, max_age=None)
    for serializer, body in ((one, close(other)), (other, close(one))):
        with pytest.raises(SealError):
            open_(serializer, body)


def test_an_old_body_is_refused_and_one_from_the_future(
    seal: Callable[..., Serializer], clock: Clock
) -> None:
    body = close(seal())
    clock.now += 60
    assert open_(seal(), body) == VALUE
    clock.now += 1
    with pytest.raises(SealError, match="61 s ago"):
        open_(seal(), body)
    assert open_(seal(max_age=None), body) == VALUE
    clock.now -= 122
    with pytest.raises(SealError, match="-61 s ago"):
        open_(seal(), body)


def test_keys_are_replaced_without_refusing_a_message(
    seal: Callable[..., Serializer], keys: KeyRing
) -> None:
    secret = KeyRing.generate()
    others = KeyRing({"old": keys.primary.key.reveal_bytes()})
    mine, theirs = seal(), seal(keys=others)
    before = close(mine)
    keys.add("new", secret)
    keys.use("new")
    assert open_(mine, before) == VALUE
    after = close(mine)
    with pytest.raises(SealError, match="'new', which is not known"):
        open_(theirs, after)
    others.add("new", secret)
    assert open_(theirs, after) == VALUE
    keys.remove("old")
    with pytest.raises(SealError, match="'old'"):
        open_(mine, before)
    assert keys.names == ("new",)


def test_a_ring_refuses_what_would_not_keep_a_secret(keys: KeyRing) -> None:
    for wrong in ({}, {"a": b"short"}, {"a": "x" * 32}, {"": bytes(32)}, {"a" * 256: bytes(32)}):
        with pytest.raises(ConfigurationError):
            KeyRing(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="another key"):
        keys.add("old", KeyRing.generate())
    keys.add("old", keys.primary.key.reveal_bytes())
    with pytest.raises(ConfigurationError, match="no key"):
        keys.use("nothing")
    with pytest.raises(ConfigurationError, match="seals"):
        keys.remove("old")
    keys.remove("nothing")


def test_a_secret_shows_itself_nowhere() -> None:
    secret = b"hunter2" * 8
    ring = KeyRing({"name": secret})
    key = ring.primary.key
    shown = f"{ring} {ring!r} {key} {key!r} {ring.primary!r} {signed('json', ring, max_age=1)!r}"
    assert "hunter2" not in shown
    for what in (key, ring.primary):
        with pytest.raises(TypeError):
            pickle.dumps(what)


def test_wrong_settings_are_refused(keys: KeyRing) -> None:
    with pytest.raises(ConfigurationError):
        signed("json", keys, max_age=0)
    with pytest.raises(UnknownCodecError):
        signed("nothing", keys, max_age=None)
    half = Serializer(repr, None, "x/half")
    with pytest.raises(UnknownCodecError, match="one way"):
        signed(half, keys, max_age=None)


def test_only_sealed_bodies_are_accepted_where_only_they_are_named(
    seal: Callable[..., Serializer],
) -> None:
    registry = Registry()
    registry.add("sealed", seal())
    registry.add("sealed-pickle", seal("pickle"))
    accept = ["sealed"]
    sent = registry.dumps(VALUE, "sealed")
    assert registry.loads(*(sent.body, sent.content_type, sent.content_encoding), accept=accept)
    for name in ("json", "sealed-pickle"):
        other = registry.dumps(VALUE, name)
        with pytest.raises(ContentRefusedError):
            registry.loads(other.body, other.content_type, "binary", accept=accept)
    with pytest.raises(ContentRefusedError, match="disabled"):
        registry.loads(other.body, other.content_type, "binary")
    with pytest.raises(SealError):
        registry.loads(sent.body[:-1] + b"\0", sent.content_type, "binary", accept=accept)


@pytest.mark.parametrize("body", [b"", b"S1", b"S1\x05ab", b"{}", b"S1\x00" + bytes(23)], ids=repr)
def test_what_is_not_sealed_has_no_seal(body: bytes) -> None:
    with pytest.raises(SealError):
        read_seal(body)


def test_without_the_package_encryption_says_what_to_install(
    keys: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(UnknownCodecError, match=r"kombu-core\[cryptography\]"):
        close(encrypted("json", keys, max_age=None))


# -- replays ---------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_replay_is_rejected_and_a_failure_is_not_one(
    token: str, seal: Callable[..., Serializer], compression: str | None
) -> None:
    registry = Registry()
    registry.add("sealed", seal())
    handled: list[Any] = []
    fail = [True]

    @refuse_replays(MemorySeen(ttl=60))
    def handle(body: Any, message: Message) -> None:
        if fail.pop() if fail else False:
            message.requeue()
            raise RuntimeError("once more, please")
        handled.append(body)
        message.ack()

    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    work, dead = Queue("work", queue_arguments=arguments), Queue("dead")
    with Connection(f"memory://{token}") as connection:
        dead(connection).declare()
        producer = connection.Producer(
            serializer="sealed", registry=registry, compression=compression
        )
        producer.publish(VALUE, "work", declare=[work])
        consumer = connection.Consumer(
            [work], callbacks=[handle], registry=registry, accept=["sealed", "json"]
        )
        with consumer:
            with pytest.raises(RuntimeError):
                connection.drain_events(timeout=1)
            kept: list[Message] = []
            consumer.callbacks.insert(0, lambda body, message: kept.append(message))
            connection.drain_events(timeout=1)
            (first,) = kept
            assert first.redelivered
            # A stranger who saw the bytes sends them again; and something without a seal.
            connection.Producer().publish(
                first.body,
                "work",
                content_type=first.content_type,
                content_encoding="binary",
                headers=first.headers,
            )
            connection.Producer().publish({"amount": 1}, "work")
            for _ in range(2):
                connection.drain_events(timeout=1)
        assert handled == [VALUE]
        bound = dead(connection)
        assert [bound.get(no_ack=True) is not None for _ in range(3)] == [True, True, False]
