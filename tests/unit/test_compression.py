"""Compression: round trips, kombu's names, and results that cannot outgrow their caps."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from kombu_core.compression import RATIO_FREE_SIZE, Caps, Compressor
from kombu_core.exceptions import (
    ContentTooLargeError,
    DecodeError,
    EncodeError,
    UnknownCodecError,
)
from kombu_core.serialization import Registry

NAMES = ("zlib", "bzip2", "lzma", "brotli", "zstd")
RAW: dict[str, Callable[[bytes], bytes]] = {
    "zlib": zlib.compress,
    "bzip2": bz2.compress,
    "lzma": partial(lzma.compress, preset=0),
    "brotli": partial(pytest.importorskip("brotli").compress, quality=1),
    "zstd": pytest.importorskip("zstandard").compress,
}


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("body", [b"", b"x", b"text " * 1000, bytes(range(256))])
def test_a_body_comes_back(registry: Registry, name: str, body: bytes) -> None:
    compressed, content_type = registry.compress(body, name)
    assert registry.decompress(compressed, content_type) == body
    assert registry.decompress(compressed, name) == body


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("zlib", "application/x-gzip"),
        ("gzip", "application/x-gzip"),
        ("application/x-gzip", "application/x-gzip"),
        ("bz2", "application/x-bz2"),
        ("bzip", "application/x-bz2"),
        ("bzip2", "application/x-bz2"),
        ("lzma", "application/x-lzma"),
        ("xz", "application/x-lzma"),
        ("brotli", "application/x-brotli"),
        ("zstd", "application/zstd"),
        ("zstandard", "application/zstd"),
    ],
)
def test_names_mean_what_they_mean_in_kombu(
    registry: Registry, name: str, content_type: str
) -> None:
    assert registry.compress(b"body", name)[1] == content_type


def test_gzip_of_a_stranger_is_read(registry: Registry) -> None:
    assert registry.decompress(gzip.compress(b"body"), "gzip") == b"body"


@pytest.mark.parametrize("name", NAMES)
def test_a_result_beyond_the_size_is_refused(name: str) -> None:
    registry = Registry(caps=Caps(max_size=1000))
    assert registry.decompress(RAW[name](b"x" * 1000), name) == b"x" * 1000
    with pytest.raises(ContentTooLargeError, match="more than 1000"):
        registry.decompress(RAW[name](b"x" * 1001), name)


@pytest.mark.parametrize("name", NAMES)
def test_a_result_beyond_the_ratio_is_refused(name: str) -> None:
    registry = Registry(caps=Caps(max_ratio=10))
    body = b"x" * (RATIO_FREE_SIZE + 1)
    with pytest.raises(ContentTooLargeError):
        registry.decompress(RAW[name](body), name)
    assert registry.decompress(RAW[name](body[1:]), name) == body[1:]


def test_what_no_consumer_would_accept_is_not_sent() -> None:
    registry = Registry(caps=Caps(max_size=1000))
    with pytest.raises(EncodeError, match="uncompressed"):
        registry.compress(b"x" * 1001, "zlib")


@pytest.mark.parametrize("name", NAMES)
def test_garbage_is_a_decode_error(registry: Registry, name: str) -> None:
    whole = RAW[name](random.Random(1).randbytes(500))
    for broken in (b"", b"garbage", whole[:-1], whole[: len(whole) // 2], whole + b"more"):
        with pytest.raises(DecodeError) as caught:
            registry.decompress(broken, name)
        assert not isinstance(caught.value, ContentTooLargeError)


def test_a_header_cannot_ask_for_the_memory_of_the_host(registry: Registry) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
    body = bytearray(lzma.compress(b"body", filters=filters))
    huge = bytes(lzma.compress(b"body", format=lzma.FORMAT_ALONE))
    # The dictionary's size is the number after the first byte of this format.
    huge = huge[:1] + (0x80000000).to_bytes(4, "little") + huge[5:]
    assert registry.decompress(bytes(body), "xz") == b"body"
    with pytest.raises(DecodeError, match=r"[Mm]emory"):
        registry.decompress(huge, "xz")


def test_a_bomb_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    # A process of its own: only there can it be seen how much memory there was at most.
    program = """
import resource, sys
from pathlib import Path
from kombu_core.compression import Caps
from kombu_core.exceptions import ContentTooLargeError
from kombu_core.serialization import Registry
registry = Registry(caps=Caps(max_size=1 << 22))
for name in sys.argv[2:]:
    assert registry.decompress(registry.compress(b"body", name)[0], name) == b"body"
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[2:]:
    try:
        registry.decompress(Path(sys.argv[1], name).read_bytes(), name)
    except ContentTooLargeError:
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(name, (after - before) // 1024)
"""
    for name, compress in RAW.items():
        (tmp_path / name).write_bytes(compress(bytes(1 << 25)))
    run = [sys.executable, "-c", program, str(tmp_path), *RAW]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    mebibytes = dict(line.split() for line in done.stdout.splitlines())
    assert mebibytes.keys() == RAW.keys()
    assert all(int(grown) < 20 for grown in mebibytes.values()), mebibytes


def test_zstandard_without_a_size_in_its_header_is_bounded_too() -> None:
    zstandard = pytest.importorskip("zstandard")
    registry = Registry(caps=Caps(max_size=1 << 20))
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    assert registry.decompress(compressor.compress(b"body"), "zstd") == b"body"
    with pytest.raises(ContentTooLargeError):
        registry.decompress(compressor.compress(bytes(1 << 21)), "zstd")
    huge_window = zstandard.ZstdCompressionParameters(window_log=30)
    streamed = zstandard.ZstdCompressor(compression_params=huge_window).compressobj()
    body = streamed.compress(b"body") + streamed.flush()
    with pytest.raises(DecodeError, match="too much memory"):
        registry.decompress(body, "zstd")


@pytest.mark.parametrize("name", ["brotli", "zstd"])
def test_what_is_not_installed_says_what_to_install(
    registry: Registry, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, {"zstd": "zstandard"}.get(name, name), None)
    with pytest.raises(UnknownCodecError, match=r"pip install 'kombu-core\[(brotli|zstandard)\]'"):
        registry.compress(b"body", name)
    with pytest.raises(UnknownCodecError, match="pip install"):
        registry.decompress(b"body", name)


@pytest.mark.parametrize("name", ["nothing", ""])
def test_an_unknown_name_is_named(registry: Registry, name: str) -> None:
    with pytest.raises(UnknownCodecError, match="zlib"):
        registry.compress(b"", name)
    with pytest.raises(UnknownCodecError, match=repr(name)):
        registry.decompress(b"", name)


def test_a_plugin_adds_a_compression(registry: Registry) -> None:
    def expand(body: bytes, limit: int) -> bytes:
        if len(body) > limit:
            raise ContentTooLargeError("too large")
        return body[::-1]

    def fail(body: bytes, limit: int) -> bytes:
        raise RuntimeError("broken")

    registry.add_compressor("mirror", Compressor(lambda b: b[::-1], expand, "x/mirror", ("rim",)))
    assert registry.compress(b"abc", "rim") == (b"cba", "x/mirror")
    assert registry.decompress(b"cba", "x/mirror") == b"abc"
    registry.add_compressor("broken", Compressor(bytes, fail, "x/broken"))
    with pytest.raises(DecodeError, match="broken"):
        registry.decompress(b"abc", "broken")
