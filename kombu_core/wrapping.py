"""Serializers around another one: what signing, encryption and claim checks have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from kombu_core.content import BINARY
from kombu_core.exceptions import UnknownCodecError
from kombu_core.serialization import Registry, Serializer, default_registry

_PREFIX: Final = "application/vnd.kombu-core"


@dataclass(frozen=True, slots=True)
class Inner:
    """A serializer both of whose ways exist, and which ends in bytes."""

    serializer: Serializer

    @property
    def mark(self) -> bytes:
        """What it is, for a signature: nobody can pass its bytes for those of another one."""
        return f"{self.serializer.content_type};{self.serializer.content_encoding}".encode()

    def encode(self, data: Any) -> bytes:
        """Return the value as bytes."""
        assert self.serializer.encode is not None
        body = self.serializer.encode(data)
        return body.encode(self.serializer.content_encoding) if isinstance(body, str) else body

    def decode(self, body: bytes) -> Any:
        """Return the value that bytes stand for."""
        assert self.serializer.decode is not None
        return self.serializer.decode(body)

    def wrapped(
        self, kind: str, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]
    ) -> Serializer:
        """Return the serializer around it, which is enabled if it is.

        The content type has the kind and the inner subtype: `application/vnd.kombu-core.KIND+json`.
        """
        subtype = self.serializer.content_type.partition("/")[2]
        return Serializer(
            encode, decode, f"{_PREFIX}.{kind}+{subtype}", BINARY, self.serializer.is_enabled
        )


def inner_of(inner: Serializer | str, registry: Registry = default_registry) -> Inner:
    """Return a serializer, given itself or by its name, to be wrapped.

    Raises:
        UnknownCodecError: There is none of that name, or it goes only one way.
    """
    found = registry.serializer(inner) if isinstance(inner, str) else inner
    if found.encode is None or found.decode is None:
        raise UnknownCodecError(f"The serializer for {found.content_type} goes only one way")
    return Inner(found)
