"""The registry of serializers and compressions: from a value to a body and its content type, back.

Nothing is decoded that the consumer does not accept, and nothing beyond a size. What a serializer
raises comes out as `EncodeError` or `DecodeError`, so one broken message breaks no consumer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from kombu_core import compression, safe_yaml, serializers, typed_json
from kombu_core.compression import Caps, Compressor
from kombu_core.content import BINARY, decode_raw, split_parameters, transcode
from kombu_core.exceptions import (
    ContentRefusedError,
    ContentTooLargeError,
    DecodeError,
    EncodeError,
    KombuError,
    UnknownCodecError,
)

#: Bytes that a body may have to be decoded.
DEFAULT_MAX_BODY_SIZE: Final = 64 * 1024 * 1024
RAW_CONTENT_TYPE: Final = "application/data"

Encoder = Callable[[Any], bytes | str]
Decoder = Callable[[bytes], Any]


class Encoded(NamedTuple):
    """A value as it travels."""

    content_type: str
    content_encoding: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Serializer:
    """One way to write values: what a plugin returns from the hook `kombu_serializers`."""

    #: May return text, which is then written in `content_encoding`. None: it can only decode.
    encode: Encoder | None
    #: None: it can only encode.
    decode: Decoder | None
    content_type: str
    #: A character set, or `binary`.
    content_encoding: str = "utf-8"
    #: Whether consumers that name nothing in `accept` decode it. False for what runs code.
    is_enabled: bool = True


class Registry:
    """Serializers and compressions by name, with those that are decoded unless told otherwise.

    Any number of threads may use it, also while one registers. There are `json`, `text`, `raw` and
    `msgpack`; `yaml` and `pickle`, which are decoded only where they are accepted by name; and
    zlib, bzip2, lzma, brotli and zstd. A package that one of them needs is imported at its first
    use, and if it is missing, the error says what to install.

    Args:
        max_body_size: Bytes that a body may have to be decoded.
        caps: How much a compressed body may grow.
    """

    def __init__(
        self, *, max_body_size: int = DEFAULT_MAX_BODY_SIZE, caps: Caps | None = None
    ) -> None:
        self.max_body_size = max_body_size
        self.caps = Caps() if caps is None else caps
        self._default = "json"
        self._serializers: dict[str, Serializer] = {}
        self._by_type: dict[str, Serializer] = {}
        self._disabled: set[str] = set()
        self._compressors: dict[str, Compressor] = {}
        for name, serializer in _STANDARD_SERIALIZERS:
            self.add(name, serializer)
        for name, compressor in compression.STANDARD_COMPRESSORS:
            self.add_compressor(name, compressor)

    # -- what is there ---------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the serializers, sorted."""
        return tuple(sorted(self._serializers))

    @property
    def compressor_names(self) -> tuple[str, ...]:
        """Names, aliases and content types of the compressions, sorted."""
        return tuple(sorted(self._compressors))

    @property
    def default_serializer(self) -> str:
        """Name of the serializer for values that are neither text nor bytes: json at first."""
        return self._default

    @default_serializer.setter
    def default_serializer(self, name: str) -> None:
        self._named(name)
        self._default = name

    def serializer(self, name: str) -> Serializer:
        """Return the serializer of a name. Raises UnknownCodecError if there is none."""
        return self._named(name)

    def register(
        self,
        name: str,
        encoder: Encoder | None,
        decoder: Decoder | None,
        *,
        content_type: str,
        content_encoding: str = "utf-8",
        is_enabled: bool = True,
    ) -> None:
        """Add a serializer, or replace the one of that name or content type.

        Args:
            name: What an application calls it by.
            encoder: Makes bytes, or text to be written in `content_encoding`, from a value.
            decoder: Makes a value from bytes. It gets what strangers send.
            content_type: MIME type of what it writes.
            content_encoding: Character set of that, or `binary`.
            is_enabled: Whether consumers that name nothing in `accept` decode it; False for
                serializers that run code or make objects, such as pickle and YAML.
        """
        self.add(name, Serializer(encoder, decoder, content_type, content_encoding, is_enabled))

    def add(self, name: str, serializer: Serializer) -> None:
        """Add a serializer, as `register`."""
        self._serializers[name] = serializer
        self._by_type[serializer.content_type] = serializer
        if serializer.is_enabled:
            self._disabled.discard(serializer.content_type)
        else:
            self._disabled.add(serializer.content_type)

    def unregister(self, name: str) -> None:
        """Remove a serializer. Raises UnknownCodecError if there is none."""
        serializer = self._named(name)
        del self._serializers[name]
        if self._by_type.get(serializer.content_type) is serializer:
            del self._by_type[serializer.content_type]

    def enable(self, name: str) -> None:
        """Decode it for consumers that name nothing in `accept`; a name or content type."""
        self._disabled.discard(self._content_type(name))

    def disable(self, name: str) -> None:
        """Decode it only for consumers that accept it by name; a name or content type."""
        self._disabled.add(self._content_type(name))

    def add_compressor(self, name: str, compressor: Compressor) -> None:
        """Add a compression under its name, its aliases and its content type."""
        for key in (name, *compressor.aliases, compressor.content_type):
            self._compressors[key] = compressor

    def resolve_accept(self, accept: Collection[str] | None) -> frozenset[str] | None:
        """Return names and content types as content types; None stays None.

        Raises:
            UnknownCodecError: There is no serializer of a name. A content type need not be known.
        """
        if accept is None:
            return None
        if isinstance(accept, str):
            raise TypeError(f"accept is a collection of names, not the text {accept!r}")
        return frozenset(name if "/" in name else self._named(name).content_type for name in accept)

    # -- serializing -----------------------------------------------------------------------

    def dumps(self, data: Any, serializer: str | None = None) -> Encoded:
        """Encode a value.

        Args:
            data: The value.
            serializer: Name of the serializer. None: text goes as `text/plain`, bytes as
                `application/data`, both as they are, and all else by `default_serializer`.

        Raises:
            UnknownCodecError: There is no such serializer, or it can only decode.
            EncodeError: It cannot write the value.
        """
        if serializer is None:
            if isinstance(data, bytes):
                return Encoded(RAW_CONTENT_TYPE, BINARY, data)
            serializer = "text" if isinstance(data, str) else self._default
        try:
            found = self._serializers[serializer]
        except KeyError:
            raise self._unknown(serializer) from None
        if found.encode is None:
            raise UnknownCodecError(f"The serializer {serializer!r} can only decode")
        try:
            body = found.encode(data)
            if isinstance(body, str):
                body = body.encode(found.content_encoding)
        except KombuError:
            raise
        except Exception as exc:
            raise EncodeError(f"The serializer {serializer!r} failed: {_describe(exc)}") from exc
        return Encoded(found.content_type, found.content_encoding, body)

    def loads(
        self,
        body: bytes | bytearray | memoryview,
        content_type: str | None,
        content_encoding: str | None = None,
        *,
        accept: Collection[str] | None = None,
    ) -> Any:
        """Decode a body.

        A body without a content type is returned as bytes. So is `application/data`, or as text
        if its encoding is a character set. As no serializer runs, `accept` does not matter then.

        Args:
            body: The bytes, not compressed.
            content_type: Their MIME type; parameters are ignored except for a charset.
            content_encoding: Their character set. None: that of the serializer.
            accept: Names and content types that may be decoded, enabled or not. None: those
                that are enabled.

        Raises:
            ContentRefusedError: The content type is not accepted, or unknown.
            ContentTooLargeError: The body has more than `max_body_size` bytes.
            DecodeError: The body is not what its content type says.
        """
        if isinstance(body, bytearray | memoryview):
            body = bytes(body)
        if not content_type:
            return body
        if len(body) > self.max_body_size:
            raise ContentTooLargeError(
                f"The body has {len(body)} bytes, more than the {self.max_body_size} allowed"
            )
        found = self._by_type.get(content_type)
        if found is None:
            content_type, charset = split_parameters(content_type)
            content_encoding = content_encoding or charset
            found = self._by_type.get(content_type)
        if content_type == RAW_CONTENT_TYPE:
            return decode_raw(body, content_encoding)
        if found is None or not self._is_accepted(found, accept):
            raise self._refusal(content_type, found, accept)
        if found.decode is None:
            raise ContentRefusedError(f"The serializer for {content_type!r} can only encode")
        if content_encoding is not None and content_encoding != found.content_encoding:
            body = transcode(body, content_encoding, found.content_encoding)
        try:
            return found.decode(body)
        except KombuError:
            raise
        except RecursionError:
            raise ContentTooLargeError(f"The {content_type} is nested too deeply") from None
        except Exception as exc:
            raise DecodeError(f"The body is no {content_type}: {_describe(exc)}") from exc

    # -- compressing -----------------------------------------------------------------------

    def compress(self, body: bytes, name: str) -> tuple[bytes, str]:
        """Compress, and tell the content type for the header `compression`.

        Raises:
            UnknownCodecError: There is no compression of that name, alias or content type.
            EncodeError: It compresses so well that consumers would refuse it.
        """
        found = self._compressor(name)
        return compression.compress(found, body, self.caps), found.content_type

    def decompress(self, body: bytes, name: str) -> bytes:
        """Undo `compress`; `name` may be a content type.

        Raises:
            UnknownCodecError: There is no compression of that name.
            ContentTooLargeError: The result would pass a cap on size or ratio.
            DecodeError: The body is not compressed that way.
        """
        return compression.decompress(self._compressor(name), body, self.caps)

    # -- looking up ------------------------------------------------------------------------

    def _named(self, name: str) -> Serializer:
        try:
            return self._serializers[name]
        except KeyError:
            raise self._unknown(name) from None

    def _unknown(self, name: str) -> UnknownCodecError:
        known = ", ".join(self.names)
        return UnknownCodecError(f"No serializer is registered as {name!r} (known: {known})")

    def _content_type(self, name: str) -> str:
        return name if name in self._by_type else self._named(name).content_type

    def _compressor(self, name: str) -> Compressor:
        # The name comes from a header, so it may be anything.
        found = self._compressors.get(str(name))
        if found is None:
            known = ", ".join(self.compressor_names)
            raise UnknownCodecError(f"No compression is registered as {name!r} (known: {known})")
        return found

    def _is_accepted(self, found: Serializer, accept: Collection[str] | None) -> bool:
        if accept is None:
            return found.content_type not in self._disabled
        if found.content_type in accept:
            return True
        return any(self._serializers.get(name) is found for name in accept)

    def _refusal(
        self, content_type: str, found: Serializer | None, accept: Collection[str] | None
    ) -> ContentRefusedError:
        if found is None:
            advice = "no serializer is registered for it: register one, or read Message.body"
        elif accept is None:
            advice = "it is disabled: name it in the consumer's accept if you trust all publishers"
        else:
            advice = f"the consumer accepts only {', '.join(sorted(accept)) or 'nothing'}"
        return ContentRefusedError(f"Content of type {content_type!r} is refused; {advice}")


def _describe(exc: Exception) -> str:
    # Not repr(): that of a UnicodeError holds the whole body.
    return f"{type(exc).__name__}: {exc}"


_STANDARD_SERIALIZERS: Final = (
    ("json", Serializer(typed_json.dumps, typed_json.loads, "application/json")),
    ("text", Serializer(serializers.encode_text, bytes.decode, "text/plain")),
    ("raw", Serializer(serializers.encode_raw, bytes, RAW_CONTENT_TYPE, BINARY)),
    (
        "msgpack",
        Serializer(
            serializers.encode_msgpack, serializers.decode_msgpack, "application/x-msgpack", BINARY
        ),
    ),
    (
        "yaml",
        Serializer(safe_yaml.dumps, safe_yaml.loads, "application/x-yaml", is_enabled=False),
    ),
    (
        "pickle",
        Serializer(
            serializers.encode_pickle,
            serializers.decode_pickle,
            "application/x-python-serialize",
            BINARY,
            is_enabled=False,
        ),
    ),
)

#: What messages and producers use unless they are given another one.
default_registry: Final = Registry()
