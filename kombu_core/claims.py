"""Claim checks: a body too large for a broker waits in a store, and the message tells where.

    b"C1" | b"i" | the inner body
    b"C1" | b"r" | JSON: ref, what the store calls it; size in bytes; sha256 in hexadecimal

The store has the body before the broker has the message: a crash between the two leaves a body that
nobody asks for, and never a message without its body. What nobody asks for goes with age.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import time
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from uuid import uuid4

from kombu_core.exceptions import (
    ClaimStoreError,
    ConfigurationError,
    ContentTooLargeError,
    DecodeError,
    EncodeError,
)
from kombu_core.message import Message
from kombu_core.serialization import Registry, Serializer, default_registry
from kombu_core.wrapping import inner_of

MAGIC: Final = b"C1"
#: Bytes from which a body goes to the store.
DEFAULT_ABOVE: Final = 128 * 1024
#: Bytes that a body from the store may have.
DEFAULT_MAX_SIZE: Final = 1024 * 1024 * 1024
_INLINE: Final = MAGIC + b"i"
_REFERENCE: Final = MAGIC + b"r"
_LONGEST_REFERENCE: Final = 4096
_NAME: Final = re.compile(r"[0-9a-f]{32}")
_TEMPORARY: Final = ".tmp"


class ClaimStore(Protocol):
    """Keeps bodies by references of its own. Any number of threads and processes use it."""

    def put(self, body: bytes) -> str:
        """Keep a body; returns its reference when it is as safe as it will ever be.

        Raises:
            ClaimStoreError: It cannot be kept.
        """
        ...

    def get(self, reference: str, size: int) -> bytes:
        """Return a body of `size` bytes, reading no more of it than that and one byte.

        Raises:
            LookupError: There is none; the reference may be a stranger's.
            ClaimStoreError: It cannot be read now.
        """
        ...

    def delete(self, reference: str) -> None:
        """Forget a body. Idempotent; nothing for a reference that is none.

        Raises:
            ClaimStoreError: It cannot be deleted now.
        """
        ...


class DirectoryClaims:
    """Bodies as files of one directory, which all processes see; a `ClaimStore`.

    A file has its name only when it is complete and on the disk.

    Args:
        path: Made if it does not exist, readable by its owner only.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigurationError(f"{self.path} cannot be a directory: {exc.strerror}") from exc

    def put(self, body: bytes) -> str:
        name = uuid4().hex
        temporary = self.path / f"{name}{_TEMPORARY}"
        try:
            with open(temporary, "xb", opener=_private) as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self.path / name)
            self._sync()
        except OSError as exc:
            temporary.unlink(missing_ok=True)
            raise ClaimStoreError(f"A body cannot be kept in {self.path}: {exc.strerror}") from exc
        return name

    def get(self, reference: str, size: int) -> bytes:
        if not _NAME.fullmatch(reference):
            raise LookupError("this is no reference of a directory")
        try:
            with (self.path / reference).open("rb") as file:
                return file.read(size + 1)
        except FileNotFoundError:
            raise LookupError(f"{reference} is not there") from None
        except OSError as exc:
            raise ClaimStoreError(f"{self.path / reference}: {exc.strerror}") from exc

    def delete(self, reference: str) -> None:
        if not _NAME.fullmatch(reference):
            return
        try:
            (self.path / reference).unlink(missing_ok=True)
        except OSError as exc:
            raise ClaimStoreError(f"{self.path / reference}: {exc.strerror}") from exc

    def sweep(self, max_age: float) -> int:
        """Delete what is older than `max_age` seconds, complete or not; tell how many files.

        An age is safe if no message lives longer, in its queue or as a dead letter.
        """
        oldest = time.time() - max_age
        deleted = 0
        for path in self.path.iterdir():
            if not _NAME.fullmatch(path.name.removesuffix(_TEMPORARY)):
                continue
            try:
                if path.stat().st_mtime < oldest:
                    path.unlink()
                    deleted += 1
            except FileNotFoundError:
                continue  # Another process was faster.
        return deleted

    def _sync(self) -> None:
        # The name of a file is on the disk when its directory is.
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def __repr__(self) -> str:
        return f"DirectoryClaims({str(self.path)!r})"


class ClaimCheck:
    """Makes a serializer that leaves large bodies in a store, and cleans up behind consumers.

        claims = ClaimCheck("json", DirectoryClaims("/shared/bodies"))
        registry.add("large", claims.serializer)
        ...
        message.ack()
        claims.discard(message)

    Args:
        inner: What the bodies are: a serializer, or its name in `registry`.
        store: Where large ones wait.
        above: Bytes that a body may have to travel in the message.
        max_size: Bytes that a body from the store may have.
        registry: Where `inner` is looked up.
    """

    def __init__(
        self,
        inner: Serializer | str,
        store: ClaimStore,
        *,
        above: int = DEFAULT_ABOVE,
        max_size: int = DEFAULT_MAX_SIZE,
        registry: Registry = default_registry,
    ) -> None:
        self.store = store
        self.above = above
        self.max_size = max_size
        self._inner = inner_of(inner, registry)
        self.serializer = self._inner.wrapped("claim", self._encode, self._decode)

    def discard(self, message: Message) -> None:
        """Delete what a message left in the store, if it did. Idempotent.

        For messages that go to one queue, after they were acknowledged: a crash between the two
        leaves a body for `sweep`. Where several queues have the message, leave it all to `sweep`.

        Raises:
            ClaimStoreError: It cannot be deleted now.
        """
        if message.content_type == self.serializer.content_type:
            body = message.uncompressed()
            if body.startswith(_REFERENCE):
                self.store.delete(_Reference.read(body).name)

    def _encode(self, data: Any) -> bytes:
        body = self._inner.encode(data)
        if len(body) <= self.above:
            return _INLINE + body
        if len(body) > self.max_size:
            raise EncodeError(f"{len(body)} bytes are more than the {self.max_size} that are read")
        reference = _Reference(self.store.put(body), len(body), hashlib.sha256(body).hexdigest())
        return reference.write()

    def _decode(self, body: bytes) -> Any:
        if body.startswith(_INLINE):
            return self._inner.decode(body[len(_INLINE) :])
        if not body.startswith(_REFERENCE):
            raise DecodeError("The body is no claim check")
        return self._inner.decode(self._fetch(_Reference.read(body)))

    def _fetch(self, reference: _Reference) -> bytes:
        if reference.size > self.max_size:
            raise ContentTooLargeError(
                f"The body in the store has {reference.size} bytes, more than {self.max_size}"
            )
        try:
            body = self.store.get(reference.name, reference.size)
        except LookupError as exc:
            raise DecodeError(f"The body is not in the store: {exc}") from None
        found = hashlib.sha256(body).hexdigest()
        if len(body) != reference.size or not hmac.compare_digest(found, reference.sha256):
            raise DecodeError("The body in the store is not the one that was published")
        return body


class _Reference(NamedTuple):
    """What a message says of a body in the store."""

    name: str
    size: int
    sha256: str

    def write(self) -> bytes:
        members = {"ref": self.name, "size": self.size, "sha256": self.sha256}
        return _REFERENCE + json.dumps(members, separators=(",", ":")).encode()

    @classmethod
    def read(cls, body: bytes) -> _Reference:
        """Return what a message says; DecodeError if it makes no sense."""
        try:
            if len(body) > _LONGEST_REFERENCE:
                raise ValueError("it is too long")
            found = json.loads(body[len(_REFERENCE) :])
            match found:
                case {"ref": str(name), "size": int(size), "sha256": str(sha256)} if size >= 0:
                    if sha256.isascii():
                        return cls(name, size, sha256)
        except (ValueError, RecursionError) as exc:
            raise DecodeError(f"The claim check cannot be read: {exc}") from None
        raise DecodeError("The claim check lacks a member, or one is wrong")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
