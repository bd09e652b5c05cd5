"""Claim checks: large bodies by way of a store, whole or not at all, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kombu_core import Connection, Message, Queue
from kombu_core.claims import ClaimCheck, DirectoryClaims
from kombu_core.exceptions import (
    ClaimStoreError,
    ConfigurationError,
    ContentTooLargeError,
    DecodeError,
    EncodeError,
)
from kombu_core.keyring import KeyRing
from kombu_core.sealing import signed
from kombu_core.serialization import Encoded, Registry

SMALL, LARGE = "x" * 98, "x" * 99  # as JSON two bytes more


@pytest.fixture
def store(tmp_path: Path) -> DirectoryClaims:
    return DirectoryClaims(tmp_path / "claims")


@pytest.fixture
def claims(store: DirectoryClaims) -> ClaimCheck:
    return ClaimCheck("json", store, above=100, max_size=1000)


@pytest.fixture
def registry(claims: ClaimCheck) -> Registry:
    registry = Registry()
    registry.add("claims", claims.serializer)
    return registry


def files(store: DirectoryClaims) -> list[Path]:
    return sorted(store.path.iterdir())


def loads(registry: Registry, encoded: Encoded) -> Any:
    content_type, content_encoding, body = encoded
    return registry.loads(body, content_type, content_encoding, accept=["claims"])


def test_only_a_large_body_goes_to_the_store(registry: Registry, store: DirectoryClaims) -> None:
    sent = registry.dumps(SMALL, "claims")
    assert loads(registry, sent) == SMALL
    assert not files(store)
    sent = registry.dumps(LARGE, "claims")
    assert len(sent.body) < 200
    assert loads(registry, sent) == LARGE
    (file,) = files(store)
    assert file.read_text() == f'"{LARGE}"'
    assert file.stat().st_mode & 0o077 == 0
    assert store.path.stat().st_mode & 0o077 == 0


def test_what_is_not_there_or_not_the_same_is_a_decode_error(
    registry: Registry, store: DirectoryClaims
) -> None:
    sent = registry.dumps(LARGE, "claims")
    (file,) = files(store)
    whole = file.read_bytes()
    for broken in (whole[:-1], whole + b"x", whole.replace(b"x", b"y", 1), b""):
        file.write_bytes(broken)
        with pytest.raises(DecodeError, match="not the one"):
            loads(registry, sent)
    file.unlink()
    with pytest.raises(DecodeError, match="not in the store"):
        loads(registry, sent)


def test_a_reference_opens_no_other_file(registry: Registry, store: DirectoryClaims) -> None:
    (store.path.parent / "secret").write_text("secret")
    sent = registry.dumps(LARGE, "claims")
    (file,) = files(store)
    for name in ("../secret", "/etc/passwd", "", ".", file.name.upper(), file.name + "\n"):
        other = sent._replace(body=sent.body.replace(file.name.encode(), repr(name)[1:-1].encode()))
        with pytest.raises(DecodeError):
            loads(registry, other)
        store.delete(name)
    assert (store.path.parent / "secret").exists()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"C1",
        b"C1x",
        b"C1r",
        b"C1r[]",
        b"C1r{}",
        b"C1r" + b"[" * 4000,
        b"C1r" + b" " * 5000,
        b'C1r{"ref":"x","size":-1,"sha256":"x"}',
        b'C1r{"ref":"x","size":1,"sha256":"\xc3\xa9"}',
        b"C1i{",
        b"\xff",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_wrong_claim_checks_are_decode_errors(registry: Registry, body: bytes) -> None:
    with pytest.raises(DecodeError):
        loads(registry, registry.dumps(1, "claims")._replace(body=body))


def test_sizes_are_limited_on_both_ways(registry: Registry, store: DirectoryClaims) -> None:
    with pytest.raises(EncodeError, match="1001 bytes"):
        registry.dumps("x" * 999, "claims")
    assert not files(store)
    body = b'C1r{"ref":"%s","size":1001,"sha256":""}' % (b"0" * 32)
    with pytest.raises(ContentTooLargeError):
        loads(registry, registry.dumps(1, "claims")._replace(body=body))


def test_a_store_that_fails_is_no_broken_message(
    registry: Registry, store: DirectoryClaims
) -> None:
    sent = registry.dumps(LARGE, "claims")
    (file,) = files(store)
    file.unlink()
    file.mkdir()  # so that it cannot be read, also by root
    with pytest.raises(ClaimStoreError) as caught:
        loads(registry, sent)
    assert caught.value.is_retryable
    with pytest.raises(ClaimStoreError):
        store.delete(file.name)
    file.rmdir()
    store.path.rmdir()
    with pytest.raises(ClaimStoreError):
        registry.dumps(LARGE, "claims")
    (store.path.parent / "file").touch()
    with pytest.raises(ConfigurationError):
        DirectoryClaims(store.path.parent / "file")


def test_what_nobody_asked_for_goes_with_age(store: DirectoryClaims, registry: Registry) -> None:
    registry.dumps(LARGE, "claims")
    (old,) = files(store)
    half = store.path / f"{'0' * 32}.tmp"
    half.touch()
    foreign = store.path / "README"
    foreign.touch()
    for path in (old, half, foreign):
        os.utime(path, (1, 1))
    registry.dumps(LARGE, "claims")
    assert store.sweep(60) == 2
    assert foreign in files(store)
    assert len(files(store)) == 2
    assert store.sweep(60) == 0


def test_a_crash_leaves_no_incomplete_body_under_a_name(tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from kombu_core import claims
store = claims.DirectoryClaims(sys.argv[1])
Path.rename = lambda *_: os._exit(9)  # the process ends when the file is written, not named yet
store.put(b"body")
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == 9
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".tmp"
    os.utime(left, (1, 1))
    assert DirectoryClaims(tmp_path).sweep(60) == 1


def test_a_consumer_cleans_up_behind_itself(
    token: str, claims: ClaimCheck, registry: Registry, store: DirectoryClaims
) -> None:
    queue = Queue("large")
    bodies = []

    def receive(body: Any, message: Message) -> None:
        bodies.append(body)
        message.ack()
        claims.discard(message)
        claims.discard(message)

    with Connection(f"memory://{token}") as connection:
        producer = connection.Producer(serializer="claims", registry=registry, compression="zlib")
        for body in (SMALL, LARGE, "y" * 200):
            producer.publish(body, "large", declare=[queue])
        connection.Producer().publish("of another type", "large")
        assert len(files(store)) == 2
        with connection.Consumer([queue], callbacks=[receive], registry=registry):
            for _ in range(4):
                connection.drain_events(timeout=1)
    assert bodies == [SMALL, LARGE, "y" * 200, "of another type"]
    assert not files(store)


def test_signing_covers_what_is_in_the_store(store: DirectoryClaims) -> None:
    keys = KeyRing({"k": KeyRing.generate()})
    claims = ClaimCheck(signed("json", keys, max_age=None), store, above=100)
    registry = Registry()
    registry.add("claims", claims.serializer)
    assert loads(registry, registry.dumps(LARGE, "claims")) == LARGE
    assert b"S1" in files(store)[0].read_bytes()
