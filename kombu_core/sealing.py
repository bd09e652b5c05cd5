"""Signed and encrypted bodies, as serializers around another one; with keys that can be replaced.

    b"S1" | length of the key's name, 1 byte | name | milliseconds since 1970, 8 bytes | id, 16
    bytes | signed: the inner body and an HMAC-SHA256; encrypted: AES-256-GCM of it with its tag

The signature, or the tag, covers all before it, what the inner serializer is, and the purpose: a
body cannot be changed, dated anew, taken for another content type, or used elsewhere. The key of
a message is derived from the secret, the purpose and, if it is encrypted, the random id, so there
is no number of messages after which a secret is worn out.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from kombu_core.exceptions import ConfigurationError, SealError
from kombu_core.extras import import_extra
from kombu_core.keyring import KeyRing
from kombu_core.serialization import Registry, Serializer, default_registry
from kombu_core.wrapping import Inner, inner_of

MAGIC: Final = b"S1"
ID_BYTES: Final = 16
_TIME_BYTES: Final = 8
#: Seconds by which a publisher's clock may be ahead.
MAX_SKEW: Final = 60.0
#: The key is used for one message only, so its nonce need not vary.
_NONCE: Final = bytes(12)

Clock = Callable[[], float]


class Seal(NamedTuple):
    """What stands in front of a sealed body."""

    key_name: str
    sent_at: float
    ident: bytes
    #: Where the inner body begins.
    end: int


def signed(
    inner: Serializer | str,
    keys: KeyRing,
    *,
    max_age: float | None,
    purpose: str = "",
    registry: Registry = default_registry,
    clock: Clock = time.time,
) -> Serializer:
    """Return a serializer whose bodies are signed, and refused if they are not, or not rightly.

    Consumers that are to refuse all else accept only its name. Anybody can read the bodies.

    Args:
        inner: What the bodies are: a serializer, or its name in `registry`.
        keys: Secrets that producers and consumers share.
        max_age: Seconds after which a body is refused, also one that waited in its queue; None for
            no limit. A replay that is older than that needs no memory to be recognized.
        purpose: Both sides have to have the same one; a body for another purpose is refused.
        registry: Where `inner` is looked up.
        clock: Returns seconds since 1970.
    """
    return _Signed(inner_of(inner, registry), keys, max_age, purpose, clock).serializer("signed")


def encrypted(
    inner: Serializer | str,
    keys: KeyRing,
    *,
    max_age: float | None,
    purpose: str = "",
    registry: Registry = default_registry,
    clock: Clock = time.time,
) -> Serializer:
    """Return a serializer whose bodies only holders of the keys can read or make; as `signed`.

    Headers, properties and the length of the body stay visible. It needs
    `kombu-core[cryptography]`.
    """
    found = inner_of(inner, registry)
    return _Encrypted(found, keys, max_age, purpose, clock).serializer("encrypted")


def read_seal(body: bytes) -> Seal:
    """Return what stands in front of a sealed body, checking nothing of it.

    Raises:
        SealError: It is none.
    """
    start = len(MAGIC) + 1
    if body[: len(MAGIC)] != MAGIC or len(body) < start:
        raise SealError("The body is not sealed")
    named = start + body[len(MAGIC)]
    timed = named + _TIME_BYTES
    end = timed + ID_BYTES
    if len(body) < end:
        raise SealError("The body is cut off")
    sent_at = int.from_bytes(body[named:timed], "big") / 1000
    return Seal(body[start:named].decode("utf-8", "replace"), sent_at, body[timed:end], end)


class _Sealed:
    """What signing and encryption have in common."""

    label: bytes

    def __init__(
        self, inner: Inner, keys: KeyRing, max_age: float | None, purpose: str, clock: Clock
    ) -> None:
        if max_age is not None and not max_age > 0:
            raise ConfigurationError(f"With a max_age of {max_age!r} no message would be read")
        self._inner = inner
        self._keys = keys
        self._max_age = max_age
        self._context = b"\0".join((self.label, purpose.encode(), inner.mark))
        self._clock = clock

    def serializer(self, kind: str) -> Serializer:
        return self._inner.wrapped(kind, self._encode, self._decode)

    def _encode(self, data: Any) -> bytes:
        name, secret = self._keys.primary
        raw = name.encode()
        head = b"".join(
            (
                MAGIC,
                bytes((len(raw),)),
                raw,
                int(self._clock() * 1000).to_bytes(_TIME_BYTES, "big"),
                ident := secrets.token_bytes(ID_BYTES),
            )
        )
        return self.close(secret.reveal_bytes(), ident, head, self._inner.encode(data))

    def _decode(self, body: bytes) -> Any:
        seal = read_seal(body)
        secret = self._keys.find(seal.key_name)
        if secret is None:
            raise SealError(
                f"The body is sealed by the key {seal.key_name!r:.80}, which is not known"
            )
        plain = self.open(secret.reveal_bytes(), seal, body)
        # Only now is it known who wrote the time.
        if self._max_age is not None:
            age = self._clock() - seal.sent_at
            if age > self._max_age or age < -MAX_SKEW:
                raise SealError(
                    f"The body was sealed {age:.0f} s ago: at most {self._max_age:g} count"
                )
        return self._inner.decode(plain)

    def derive(self, secret: bytes, extra: bytes = b"") -> bytes:
        """Return the key for this use of a secret."""
        return hmac.digest(secret, self._context + b"\0" + extra, hashlib.sha256)

    def close(self, secret: bytes, ident: bytes, head: bytes, body: bytes) -> bytes:
        """Return the sealed body."""
        raise NotImplementedError

    def open(self, secret: bytes, seal: Seal, body: bytes) -> bytes:
        """Return the inner body. Raises SealError."""
        raise NotImplementedError


class _Signed(_Sealed):
    label = b"kombu-core signed 1"

    def close(self, secret: bytes, ident: bytes, head: bytes, body: bytes) -> bytes:
        whole = head + body
        return whole + hmac.digest(self.derive(secret), whole, hashlib.sha256)

    def open(self, secret: bytes, seal: Seal, body: bytes) -> bytes:
        end = len(body) - hashlib.sha256().digest_size
        if end < seal.end:
            raise SealError("The body is cut off")
        expected = hmac.digest(self.derive(secret), memoryview(body)[:end], hashlib.sha256)
        if not hmac.compare_digest(expected, body[end:]):
            raise SealError(
                "The signature is not right: the body was changed, or is for another use"
            )
        return body[seal.end : end]


class _Encrypted(_Sealed):
    label = b"kombu-core encrypted 1"

    def close(self, secret: bytes, ident: bytes, head: bytes, body: bytes) -> bytes:
        cipher = self._cipher(secret, ident)
        return b"".join((head, cipher.encrypt(_NONCE, body, head)))

    def open(self, secret: bytes, seal: Seal, body: bytes) -> bytes:
        cipher = self._cipher(secret, seal.ident)
        try:
            plain: bytes = cipher.decrypt(_NONCE, body[seal.end :], body[: seal.end])
        except self._exceptions().InvalidTag:
            raise SealError(
                "The body cannot be opened: it was changed, or is for another use"
            ) from None
        return plain

    def _cipher(self, secret: bytes, ident: bytes) -> Any:
        module = "cryptography.hazmat.primitives.ciphers.aead"
        return import_extra(module, "cryptography", "Encryption").AESGCM(self.derive(secret, ident))

    def _exceptions(self) -> Any:
        return import_extra("cryptography.exceptions", "cryptography", "Encryption")
