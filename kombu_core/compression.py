"""Compression methods, each one unable to produce more than it is allowed to.

Names and content types are kombu's, so both read each other. A body that was compressed by a
stranger is decompressed in one bounded step: neither a large result nor a decoder's own memory
can grow past a cap, however small the body is.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kombu_core.exceptions import ContentTooLargeError, DecodeError, EncodeError, UnknownCodecError
from kombu_core.extras import import_extra

#: Bytes that a decompressed body may have.
DEFAULT_MAX_SIZE: Final = 64 * 1024 * 1024
#: How many times larger than the compressed body the result may be.
DEFAULT_MAX_RATIO: Final = 1000.0
#: Bytes up to which the ratio does not matter: a small result is no danger.
RATIO_FREE_SIZE: Final = 1024 * 1024
#: Bytes that LZMA or Zstandard may use for itself; LZMA's largest preset needs 65 MiB, and
#: Zstandard's as many as this.
DECODER_MEMORY_BYTES: Final = 128 * 1024 * 1024
#: Bytes that Zstandard's decompressor gets at once.
ZSTD_PIECE_BYTES: Final = 256
#: zlib's window size with the detection of zlib's own and gzip's header.
ZLIB_OR_GZIP: Final = zlib.MAX_WBITS | 32

Compress = Callable[[bytes], bytes]
#: Takes the body and the most bytes that the result may have; raises ContentTooLargeError beyond.
Decompress = Callable[[bytes, int], bytes]


@dataclass(frozen=True, slots=True)
class Compressor:
    """One way to compress: what a plugin returns from the hook `kombu_compressors`."""

    compress: Compress
    decompress: Decompress
    #: What the header `compression` of a message says.
    content_type: str
    #: Other names that an application may call it by.
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How much a compressed body may grow."""

    max_size: int = DEFAULT_MAX_SIZE
    max_ratio: float = DEFAULT_MAX_RATIO

    def limit(self, compressed_size: int) -> int:
        """Return the most bytes that a body of `compressed_size` bytes may become."""
        by_ratio = max(RATIO_FREE_SIZE, int(compressed_size * self.max_ratio))
        return min(self.max_size, by_ratio)


class _Decompressor(Protocol):
    """What zlib's, bz2's and lzma's incremental decompressors have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def compress(compressor: Compressor, body: bytes, caps: Caps) -> bytes:
    """Compress `body`.

    Raises:
        EncodeError: The result would pass `caps` when it is decompressed, so that a consumer
            with the same caps could never read it.
    """
    compressed = compressor.compress(body)
    limit = caps.limit(len(compressed))
    if len(body) > limit:
        raise EncodeError(
            f"{len(body)} bytes became {len(compressed)} as {compressor.content_type}: consumers "
            f"accept at most {limit} bytes from that; send it uncompressed, or in parts"
        )
    return compressed


def decompress(compressor: Compressor, body: bytes, caps: Caps) -> bytes:
    """Undo `compress`, within `caps`.

    Raises:
        ContentTooLargeError: The result would pass a cap.
        DecodeError: The body is not what its content type says, is cut off or goes on.
    """
    try:
        return compressor.decompress(body, caps.limit(len(body)))
    except (DecodeError, UnknownCodecError):
        raise
    except Exception as exc:
        raise DecodeError(f"The body is no {compressor.content_type}: {exc}") from exc


def decompress_stream(decompressor: _Decompressor, body: bytes, limit: int) -> bytes:
    """Run an incremental decompressor over a whole body; at most `limit` bytes come out.

    Useful for plugins too: zlib's interface is that of most compression libraries.
    """
    # One byte more than allowed tells 'exactly the limit' from 'beyond it'.
    result = decompressor.decompress(body, limit + 1)
    if len(result) > limit:
        raise ContentTooLargeError(f"{len(body)} bytes decompress to more than {limit}")
    if not decompressor.eof:
        raise DecodeError("the compressed body is cut off")
    if decompressor.unused_data:
        raise DecodeError("something follows the end of the compressed body")
    return result


# bz2 and lzma are imported when they are used: a Python may lack them, and few need them.


def _missing(module: str) -> UnknownCodecError:
    return UnknownCodecError(f"This Python was built without the module {module}")


def _zlib_decompress(body: bytes, limit: int) -> bytes:
    return decompress_stream(zlib.decompressobj(ZLIB_OR_GZIP), body, limit)


def _bz2_compress(body: bytes) -> bytes:
    try:
        import bz2
    except ImportError:
        raise _missing("bz2") from None
    return bz2.compress(body)


def _bz2_decompress(body: bytes, limit: int) -> bytes:
    try:
        import bz2
    except ImportError:
        raise _missing("bz2") from None
    return decompress_stream(bz2.BZ2Decompressor(), body, limit)


def _lzma_compress(body: bytes) -> bytes:
    try:
        import lzma
    except ImportError:
        raise _missing("lzma") from None
    return lzma.compress(body)


def _lzma_decompress(body: bytes, limit: int) -> bytes:
    try:
        import lzma
    except ImportError:
        raise _missing("lzma") from None
    # A header of a few bytes can ask for a dictionary of gigabytes.
    decompressor = lzma.LZMADecompressor(memlimit=DECODER_MEMORY_BYTES)
    return decompress_stream(decompressor, body, limit)


def _brotli_compress(body: bytes) -> bytes:
    compressed: bytes = _brotli().compress(body)
    return compressed


def _brotli_decompress(body: bytes, limit: int) -> bytes:
    decompressor = _brotli().Decompressor()
    parts: list[bytes] = []
    size = 0
    rest = body
    while not decompressor.is_finished():
        # The limit is taken in steps of 32 KiB, so the size is counted.
        part = decompressor.process(rest, output_buffer_limit=limit + 1 - size)
        rest = b""
        size += len(part)
        if size > limit:
            raise ContentTooLargeError(f"{len(body)} bytes decompress to more than {limit}")
        if not part and not decompressor.is_finished():
            raise DecodeError("the compressed body is cut off")
        parts.append(part)
    return b"".join(parts)


def _brotli() -> Any:
    return import_extra("brotli", "brotli", "The compression 'brotli'")


def _zstd_compress(body: bytes) -> bytes:
    compressed: bytes = _zstandard().ZstdCompressor().compress(body)
    return compressed


def _zstd_decompress(body: bytes, limit: int) -> bytes:
    decompressor = _zstandard().ZstdDecompressor(max_window_size=DECODER_MEMORY_BYTES)
    stream = decompressor.decompressobj()
    parts: list[bytes] = []
    size = 0
    # It has no limit, so it gets little at once: a block of a few bytes may become 128 KiB.
    for start in range(0, len(body), ZSTD_PIECE_BYTES):
        if stream.eof:
            raise DecodeError("something follows the end of the compressed body")
        part = stream.decompress(body[start : start + ZSTD_PIECE_BYTES])
        size += len(part)
        if size > limit:
            raise ContentTooLargeError(f"{len(body)} bytes decompress to more than {limit}")
        parts.append(part)
    if not stream.eof:
        raise DecodeError("the compressed body is cut off")
    if stream.unused_data:
        raise DecodeError("something follows the end of the compressed body")
    return b"".join(parts)


def _zstandard() -> Any:
    return import_extra("zstandard", "zstandard", "The compression 'zstd'")


#: The methods of every registry. kombu calls zlib's format gzip; both formats are read.
STANDARD_COMPRESSORS: Final[tuple[tuple[str, Compressor], ...]] = (
    ("zlib", Compressor(zlib.compress, _zlib_decompress, "application/x-gzip", ("gzip",))),
    ("bzip2", Compressor(_bz2_compress, _bz2_decompress, "application/x-bz2", ("bz2", "bzip"))),
    ("lzma", Compressor(_lzma_compress, _lzma_decompress, "application/x-lzma", ("xz",))),
    ("brotli", Compressor(_brotli_compress, _brotli_decompress, "application/x-brotli")),
    ("zstd", Compressor(_zstd_compress, _zstd_decompress, "application/zstd", ("zstandard",))),
)
