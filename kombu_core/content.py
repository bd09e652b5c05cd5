"""Content types and character sets, as the messages of strangers name them."""

from __future__ import annotations

import re
from typing import Final

from kombu_core.exceptions import DecodeError

BINARY: Final = "binary"

# A message may name its character set, and Python finds one by importing a module of that name:
# so only these.
_CHARSET: Final = re.compile(
    r"utf-?8|utf-?(16|32)(-?[lb]e)?|(us-)?ascii|latin-?1|iso-8859-\d{1,2}|windows-125\d|cp125\d"
)


def split_parameters(content_type: str) -> tuple[str, str | None]:
    """Return the MIME type in its usual form and the charset that it names, if any."""
    plain, *parameters = content_type.split(";")
    found = {
        key.strip().lower(): value.strip().strip('"')
        for key, _, value in (parameter.partition("=") for parameter in parameters)
    }
    return plain.strip().lower(), found.get("charset")


def decode_raw(body: bytes, content_encoding: str | None) -> bytes | str:
    """Return a body that no serializer wrote: as text if a character set is named for it."""
    if content_encoding is None or content_encoding.lower() in (BINARY, "ascii-8bit"):
        return body
    return decode_text(body, content_encoding)


def transcode(body: bytes, actual: str, wanted: str) -> bytes:
    """Give a text serializer its own character set; binary ones read their bytes as they are."""
    actual = actual.lower()
    if BINARY in (actual, wanted) or actual == wanted:
        return body
    return decode_text(body, actual).encode(wanted)


def decode_text(body: bytes, charset: str) -> str:
    """Decode; DecodeError if the bytes are no such text, or the character set is unknown."""
    if not _CHARSET.fullmatch(charset.lower()):
        raise DecodeError(f"The content encoding {charset!r} is no known character set")
    try:
        return body.decode(charset)
    except (LookupError, ValueError) as exc:
        raise DecodeError(f"The body is not {charset}: {exc}") from exc
